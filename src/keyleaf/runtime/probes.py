"""Asks a process whether it is well, as kubelet does."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping

from keyleaf.runtime.process import Guard, Launch, RunningProcess
from keyleaf.runtime.specs import ContainerSpec, Probe
from keyleaf.runtime.timing import Timer

# A cluster waits a whole period for the first answer; on a laptop somebody sits in front of it.
EAGER = 0.25


class Prober:
    """Probes one running process."""

    def __init__(
        self, container: ContainerSpec, launch: Launch, ports: Mapping[int, int], guard: Guard, timer: Timer
    ) -> None:
        self._container = container
        self._launch = launch
        self._ports = ports
        self._guard = guard
        self._timer = timer

    async def run(self, ready: Callable[[bool], None], started: Callable[[], None]) -> str:
        """Probe until the process has to be killed; gives the reason.

        Args:
            ready: told of each change of readiness; ``started`` once the startup probe has passed.
        """
        spec = self._container
        if spec.startup is not None and not await self._start(spec.startup):
            return "the startup probe failed"
        started()
        liveness = asyncio.create_task(self._live(spec.liveness)) if spec.liveness else None
        readiness = asyncio.create_task(self._ready(spec.readiness, ready)) if spec.readiness else None
        if readiness is None:
            ready(True)
        tasks = [task for task in (liveness, readiness) if task is not None]
        try:
            if liveness is not None:
                await liveness
                return "the liveness probe failed"
            await asyncio.Event().wait()
        finally:
            for task in tasks:
                task.cancel()
        return ""

    async def _start(self, probe: Probe) -> bool:
        began = self._timer.monotonic()
        await self._timer.sleep(probe.initial_delay)
        allowed = probe.initial_delay + probe.period * probe.failure_threshold
        while not await self.check(probe):
            if self._timer.monotonic() - began >= allowed:
                return False
            await self._timer.sleep(min(probe.period, EAGER))
        return True

    async def _live(self, probe: Probe) -> None:
        await self._timer.sleep(probe.initial_delay)
        failures = 0
        while failures < probe.failure_threshold:
            await self._timer.sleep(probe.period)
            failures = 0 if await self.check(probe) else failures + 1

    async def _ready(self, probe: Probe, ready: Callable[[bool], None]) -> None:
        await self._timer.sleep(probe.initial_delay)
        now, successes, failures = False, 0, 0
        while True:
            if await self.check(probe):
                successes, failures = successes + 1, 0
            else:
                successes, failures = 0, failures + 1
            if not now and successes >= probe.success_threshold:
                now = True
                ready(True)
            elif now and failures >= probe.failure_threshold:
                now = False
                ready(False)
            await self._timer.sleep(probe.period if now else min(probe.period, EAGER))

    async def check(self, probe: Probe) -> bool:
        """One try."""
        try:
            async with asyncio.timeout(probe.timeout):
                if probe.kind == "exec":
                    return await self._exec(probe)
                return await self._connect(probe)
        except (OSError, TimeoutError, ValueError, IndexError):
            return False

    async def _exec(self, probe: Probe) -> bool:
        launch = Launch(probe.command, self._launch.environment, self._launch.directory)
        process = await RunningProcess.start(launch, self._guard, lambda line: None)
        try:
            return await process.wait() == 0
        finally:
            process.kill()

    async def _connect(self, probe: Probe) -> bool:
        context = None
        if probe.scheme == "https":
            # kubelet does not verify the certificate of what it probes either.
            context = ssl._create_unverified_context()  # noqa: S323
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port(probe.port), ssl=context)
        try:
            if probe.kind == "tcp":
                return True
            headers = {"Host": "127.0.0.1", "User-Agent": "kube-probe/keyleaf", "Accept": "*/*", "Connection": "close"}
            headers.update(probe.headers)
            lines = [f"GET {probe.path} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            status = int((await reader.readline()).split()[1])
            return 200 <= status < 400
        finally:
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    def _port(self, port: int | str) -> int:
        if isinstance(port, str) and not port.isdigit():
            port = next((p.number for p in self._container.ports if p.name == port), 0)
        return self._ports.get(int(port), int(port))
