"""Reads and changes Azure state through the official SDKs, embedded or real."""
