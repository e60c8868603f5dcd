"""Time that can be waited for, always handed in."""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Protocol


class Timer(Protocol):
    """A clock (``keyleaf.core.clock.Clock``) that tasks can sleep by."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...


class SystemTimer:
    """The machine's time."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ManualTimer:
    """Time that passes only when told: for tests."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start = start
        self._passed = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> float:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed + seconds, self._count, future))
        await future

    @property
    def waits(self) -> tuple[float, ...]:
        """How long each sleeper still waits, in seconds, shortest first."""
        return tuple(due - self._passed for due, _, future in sorted(self._sleepers) if not future.done())

    async def advance(self, seconds: float) -> None:
        """Let that much time pass, waking whoever is due, in order."""
        end = self._passed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            due, _, future = heapq.heappop(self._sleepers)
            self._passed = max(self._passed, due)
            if not future.done():
                future.set_result(None)
            for _ in range(5):
                await asyncio.sleep(0)
        self._passed = end
