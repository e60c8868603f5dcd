"""Assembles the rooms into one TLS server; holds no rules of its own."""

from keyleaf.server.app import Server, ServerSettings, serve

__all__ = ["Server", "ServerSettings", "serve"]
