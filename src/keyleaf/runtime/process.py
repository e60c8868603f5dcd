"""One process: in a session of its own, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyleaf.core.parent_death import die_with_parent
from keyleaf.runtime import guard
from keyleaf.runtime.logs import copy_lines
from keyleaf.runtime.timing import Timer


@dataclass(frozen=True, slots=True)
class Launch:
    """What is executed. The environment is complete: nothing is inherited. It does not show its values."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    directory: str


class Guard:
    """Outlives a killed supervisor by a moment, to end what it left: see :mod:`keyleaf.runtime.guard`."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(16)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it ends when this process does."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(guard.__file__)),
            self.mark,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )

    def watch(self, group: int) -> None:
        """End this process group too."""
        self._tell(f"+{group}\n")

    def release(self, group: int) -> None:
        """That group is gone: its number may be somebody else's from now on."""
        self._tell(f"-{group}\n")

    async def stop(self) -> None:
        """End whatever is left, then the guard."""
        process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                process.stdin.close()
            await process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError, RuntimeError):
                self._process.stdin.write(line.encode())


class RunningProcess:
    """A started process and its whole session."""

    def __init__(self, process: asyncio.subprocess.Process, keeper: Guard, copier: asyncio.Task[None]) -> None:
        self._process = process
        self._keeper = keeper
        self._copier = copier

    @staticmethod
    async def start(launch: Launch, keeper: Guard, write: Callable[[bytes], None]) -> RunningProcess:
        """Execute ``launch``.

        Args:
            write: gets each line of its output.

        Raises:
            OSError: the program is not there, or may not be executed.
        """
        parent = os.getpid()
        process = await asyncio.create_subprocess_exec(
            *_found(launch.argv, launch.environment, launch.directory),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**launch.environment, guard.MARK: keeper.mark},
            cwd=launch.directory,
            start_new_session=True,
            preexec_fn=lambda: die_with_parent(parent),
        )
        keeper.watch(process.pid)
        assert process.stdout is not None
        return RunningProcess(process, keeper, asyncio.create_task(copy_lines(process.stdout, write)))

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code, negative for a signal. What it left in its group is ended."""
        code = await self._process.wait()
        self.signal(signal.SIGKILL)
        self._keeper.release(self.pid)
        if not self._copier.done():
            # A grandchild in a session of its own may hold the pipe open: the log does not wait for it.
            await asyncio.wait({self._copier}, timeout=1)
            self._copier.cancel()
        return code

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace: float, timer: Timer) -> int:
        """SIGTERM, at most ``grace`` seconds, then SIGKILL."""
        self.signal(signal.SIGTERM)
        ended = asyncio.create_task(self.wait())
        waited = asyncio.create_task(timer.sleep(grace))
        await asyncio.wait({ended, waited}, return_when=asyncio.FIRST_COMPLETED)
        waited.cancel()
        if not ended.done():
            self.signal(signal.SIGKILL)
        return await ended


def _found(argv: Sequence[str], environment: Mapping[str, str], directory: str) -> tuple[str, ...]:
    """``argv`` with its program looked up in the process's own PATH, not in ours."""
    program = argv[0]
    if "/" in program:
        return (str(Path(directory) / program), *argv[1:])
    for folder in environment.get("PATH", "").split(os.pathsep):
        candidate = Path(directory) / folder / program
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return (str(candidate), *argv[1:])
    raise FileNotFoundError(2, "no such program on PATH", program)
