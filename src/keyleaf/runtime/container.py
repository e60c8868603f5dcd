"""Keeps one container's process running, by the pod's restart policy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from keyleaf.core.errors import KeyleafError
from keyleaf.runtime.backoff import Backoff
from keyleaf.runtime.health import ContainerStatus
from keyleaf.runtime.probes import Prober
from keyleaf.runtime.process import Guard, Launch, RunningProcess
from keyleaf.runtime.specs import ContainerSpec
from keyleaf.runtime.timing import Timer

Policy = Literal["Always", "OnFailure", "Never"]


class Container:
    """One container of one pod."""

    def __init__(
        self,
        spec: ContainerSpec,
        *,
        prepare: Callable[[ContainerSpec], Awaitable[Launch]],
        policy: Policy,
        grace: float,
        ports: Mapping[int, int],
        guard: Guard,
        timer: Timer,
        write: Callable[[bytes], None],
        changed: Callable[[], None],
        backoff: Backoff | None = None,
    ) -> None:
        """
        Args:
            prepare: gives the command line and environment just before each start; a KeyleafError is tried again.
            grace: seconds between SIGTERM and SIGKILL.
            write: gets each line of output; ``changed`` is called after each change of ``status``.
        """
        self.spec = spec
        self.status = ContainerStatus(spec.name)
        self._prepare = prepare
        self._policy = policy
        self._grace = grace
        self._ports = ports
        self._guard = guard
        self._timer = timer
        self._write = write
        self._changed = changed
        self._backoff = backoff or Backoff()

    async def run(self) -> int:
        """Run it until its policy lets it rest; gives the last exit code. Cancelling it stops the process first."""
        while True:
            began = self._timer.monotonic()
            code = await self._once()
            if code is not None:
                self.status.exit_code = code
                rests = self._policy == "Never" or (self._policy == "OnFailure" and code == 0)
                if rests:
                    self._become("completed" if code == 0 else "failed", "Completed" if code == 0 else "Error")
                    return code
            wait = self._backoff.after(self._timer.monotonic() - began)
            if code is not None:
                self._become("waiting", "CrashLoopBackOff", _ending(code))
            await self._timer.sleep(wait)
            self.status.restarts += code is not None

    async def _once(self) -> int | None:
        """One start and its end; None where it did not come to a start."""
        try:
            launch = await self._prepare(self.spec)
        except KeyleafError as error:
            self._become("waiting", "CreateContainerConfigError", str(error))
            return None
        try:
            process = await RunningProcess.start(launch, self._guard, self._write)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "its command line cannot be executed"
            self._become("waiting", "RunContainerError", f"{launch.argv[0]}: {reason}")
            return None
        self.status.pid = process.pid
        self.status.started = self._timer.now()
        self.status.state, self.status.reason, self.status.message = "running", "", ""
        self._changed()
        probing = asyncio.create_task(
            Prober(self.spec, launch, self._ports, self._guard, self._timer).run(self._ready, self._changed)
        )
        ended = asyncio.create_task(process.wait())
        try:
            await asyncio.wait({probing, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self._write(f"keyleaf: {probing.result()}: the process is ended".encode())
                await process.stop(self._grace, self._timer)
            return await ended
        finally:
            probing.cancel()
            self.status.ready = False
            if not ended.done():
                await process.stop(self._grace, self._timer)
            self.status.pid = 0

    def _ready(self, ready: bool) -> None:
        self.status.ready = ready
        self._changed()

    def _become(self, state: Literal["waiting", "completed", "failed"], reason: str, message: str = "") -> None:
        self.status.state, self.status.reason, self.status.message = state, reason, message
        self.status.ready = False
        self._changed()


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"ended by signal {-code}"
