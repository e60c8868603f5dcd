"""The embedded Azure as a child of ``keyleaf up``: it never outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from keyleaf.core.errors import StateError
from keyleaf.core.parent_death import die_with_parent

_PATIENCE = 30.0


class EmbeddedServer:
    """``keyleaf serve`` on a state directory."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, began: int) -> None:
        self._process = process
        self._log = log
        self._began = began

    @staticmethod
    async def start(state: Path, port: int) -> EmbeddedServer:
        """Start it, without waiting."""
        log = state / "logs" / "server.log"
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parent = os.getpid()
        # A passphrase is asked for on the terminal, which only our own session has.
        terminal = sys.stdin.isatty()
        with log.open("ab") as errors:
            log.chmod(0o600)
            began = errors.tell()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "keyleaf",
                "serve",
                "--state",
                str(state),
                "--port",
                str(port),
                stdin=None if terminal else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=not terminal,
                preexec_fn=lambda: die_with_parent(parent),
            )
        return EmbeddedServer(process, log, began)

    async def ready(self) -> None:
        """Wait until it answers.

        Raises:
            StateError: it ended before that, or took too long; with its own words.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_PATIENCE):
                said = await self._process.stdout.readline()
        except TimeoutError:
            said = b""
        if not said:
            await self.stop()
            words = self._log.read_bytes()[self._began :].decode("utf-8", "replace").strip().splitlines()
            reason = words[-1].removeprefix("keyleaf: ") if words else "it said nothing"
            raise StateError(f"the embedded Azure did not start: {reason}", hint=f"its log is {self._log}")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code."""
        return await self._process.wait()

    async def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL."""
        if self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
