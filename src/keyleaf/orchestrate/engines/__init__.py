"""Engines that carry out orchestrations: DBOS and Durable Task."""
