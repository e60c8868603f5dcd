"""An asyncio loop whose time jumps to the next timer when nothing is ready: hours of waiting take milliseconds.

For programs without sockets and threads: nothing outside the loop can wake it.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")

START = 1_700_000_000.0


class NothingLeftToHappen(RuntimeError):
    """The program waits for what can never come: no timer is set and nothing is ready."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: it moves the time on by as much as it was asked to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise NothingLeftToHappen("no timer is set and nothing is ready")
            self.now += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop at second 0 of its own time."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock:
    """A ``keyleaf.core.clock.Clock`` that reads the time of a virtual loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return START + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


def run_virtually(program: Callable[[VirtualClock], Coroutine[Any, Any, Result]]) -> Result:
    """Run a program on a loop of its own; it is given the clock of that loop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(program(VirtualClock(runner.get_loop())))
