"""Desired minus actual: changes and findings. Pure."""
