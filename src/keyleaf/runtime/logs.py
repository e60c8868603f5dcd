"""Logs of the processes, one file per Application, rotated by size."""

from __future__ import annotations

import asyncio
import io
import re
from collections import deque
from collections.abc import Callable
from pathlib import Path

_LONGEST_LINE = 64 * 1024


class LogFile:
    """Appends lines; at ``limit`` bytes the file becomes ``.1``, the former ``.1`` becomes ``.2``, and so on."""

    def __init__(self, file: Path, *, limit: int = 5_000_000, keep: int = 2) -> None:
        self._file = file
        self._limit = limit
        self._keep = keep
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._out = self._open()
        self.recent: deque[str] = deque(maxlen=20)

    def write(self, source: str, line: bytes) -> None:
        """One line of ``source``, the process that wrote it."""
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        self.recent.append(text)
        self._out.write(f"{source} | {text}\n".encode())
        if self._out.tell() >= self._limit:
            self._rotate()

    def close(self) -> None:
        """Give the file back."""
        self._out.close()

    def _rotate(self) -> None:
        self._out.close()
        for number in range(self._keep, 0, -1):
            older = self._file.with_name(f"{self._file.name}.{number}")
            newer = self._file.with_name(f"{self._file.name}.{number - 1}") if number > 1 else self._file
            if newer.exists():
                newer.replace(older)
        self._out = self._open()

    def _open(self) -> io.FileIO:
        out = io.FileIO(self._file, "ab")
        self._file.chmod(0o600)
        return out


def log_name(application: str) -> str:
    """File name for an Application's key."""
    return re.sub(r"[^\w.-]+", "_", application) + ".log"


async def copy_lines(stream: asyncio.StreamReader, write: Callable[[bytes], None]) -> None:
    """Hand on each line of ``stream`` until its end; a line that never ends is cut."""
    rest = b""
    while block := await stream.read(_LONGEST_LINE):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            write(line)
        if len(rest) > _LONGEST_LINE:
            write(rest)
            rest = b""
    if rest:
        write(rest)
