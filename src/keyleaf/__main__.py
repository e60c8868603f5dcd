"""``python -m keyleaf``."""

from keyleaf.cli import main

main()
