"""``make bench``: run every measurement, or those that are named, and rewrite docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import sys

from bench.report import write_page

MEASUREMENTS = ("reads", "ledger", "plan", "start", "flows", "snowball")


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", default=list(MEASUREMENTS), help=f"of: {', '.join(MEASUREMENTS)}")
    parser.add_argument("--page-only", action="store_true", help="only rewrite docs/performance.md")
    options = parser.parse_args()
    unknown = set(options.names) - set(MEASUREMENTS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if not options.page_only:
        for name in options.names:
            print(f"== {name}", flush=True)
            importlib.import_module(f"bench.{name}").main()
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
