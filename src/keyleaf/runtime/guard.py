"""Ends what a killed supervisor left behind: run as a program of its own, it waits for its standard input to close.

``kill -9`` leaves the supervisor no moment to end its children, and the kernel's parent-death signal reaches only
direct children. The pipe closes however the supervisor dies; then everything that carries its mark in the environment
goes, and every process group that it had started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

MARK = "KEYLEAF_SUPERVISOR"
_ROUNDS = 20


def marked(mark: str) -> list[int]:
    """Ids of the processes whose environment holds the mark, this one left out; empty where there is no ``/proc``."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (directory / "environ").read_bytes().split(b"\0") and int(directory.name) != os.getpid():
                found.append(int(directory.name))
    return found


def main() -> None:
    """Read ``+group`` and ``-group`` lines until the input ends, then end what is left of the mark ``argv[1]``."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    for _ in range(_ROUNDS):
        left = marked(sys.argv[1])
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not left:
            return


if __name__ == "__main__":
    main()
