"""The embedded Azure as a child of ``keyleaf up``: it never outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from keyleaf.core.errors import StateError
from keyleaf.runtime import die_with_parent

_PATIENCE = 30.0


class EmbeddedServer:
    """``keyleaf serve`` on a state directory."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @staticmethod
    async def start(state: Path, port: int) -> EmbeddedServer:
        """Start it and wait until it answers.

        Raises:
            StateError: it ended before it was ready; with its own words.
        """
        log = state / "logs" / "server.log"
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parent = os.getpid()
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
                stdin=None if sys.stdin.isatty() else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                start_new_session=not sys.stdin.isatty(),
                preexec_fn=lambda: die_with_parent(parent),
            )
        server = EmbeddedServer(process, log)
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_PATIENCE):
                ready = await process.stdout.readline()
        except TimeoutError:
            ready = b""
        except asyncio.CancelledError:
            await server.stop()
            raise
        if not ready:
            await server.stop()
            said = log.read_bytes()[began:].decode("utf-8", "replace").strip().splitlines()
            reason = said[-1].removeprefix("keyleaf: ") if said else "it said nothing"
            raise StateError(f"the embedded Azure did not start: {reason}", hint=f"its log is {log}")
        return server

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
