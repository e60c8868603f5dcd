"""The command line: one thin module per verb."""

from keyleaf.cli.app import main

__all__ = ["main"]
