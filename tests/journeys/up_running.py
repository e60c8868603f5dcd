"""``keyleaf up`` and the other verbs as processes, as a person runs them."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

KEYLEAF = [sys.executable, "-m", "keyleaf"]


def run(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([*KEYLEAF, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def processes_naming(text: str) -> list[int]:
    """Processes whose command line or environment names ``text``, this one and the dead left out."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            told = (directory / "cmdline").read_bytes() + (directory / "environ").read_bytes()
        except OSError:
            continue
        if text.encode() in told and int(directory.name) != os.getpid():
            found.append(int(directory.name))
    return found


class Up:
    """A running ``keyleaf up``, and the lines that it prints."""

    def __init__(self, tree: Path, state: Path) -> None:
        self.process = subprocess.Popen(
            [*KEYLEAF, "up", str(tree), "--state", str(state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip())
        self._lines.put(None)

    def until(self, pattern: str, seconds: float = 60) -> str:
        """The first line that fits; those before it are passed over."""
        end = time.monotonic() + seconds
        passed = []
        while True:
            line = self._lines.get(timeout=max(0.01, end - time.monotonic()))
            assert line is not None, "it ended:\n" + "\n".join(passed)
            passed.append(line)
            if re.search(pattern, line):
                return line

    def until_all(self, *patterns: str) -> None:
        """Wait for a line of each kind, in whatever order they come."""
        missing = set(patterns)
        while missing:
            line = self.until("|".join(missing))
            missing = {pattern for pattern in missing if not re.search(pattern, line)}

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)
