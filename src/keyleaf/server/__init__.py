"""Assembles the rooms into one TLS server; holds no rules of its own."""
