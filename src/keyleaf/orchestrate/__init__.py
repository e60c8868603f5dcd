"""Durable orchestrations and activities, on engines that exist."""
