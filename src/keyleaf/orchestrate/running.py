"""An instance that runs in this process: what it waits for, and how it is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from keyleaf.orchestrate.engines.base import FAN_OUT, Waiting
from keyleaf.orchestrate.envelope import Blocked


class Stopped(Exception):
    """The instance is to stop here: it was suspended or terminated, or this process ends."""


class Running:
    """Interrupts and shows one running instance.

    Attributes:
        cancelled: reason of a cancellation; empty while there is none.
        stopped: set when it is to stop where it stands.
        waiting: what it waits for, by command.
        blocked: secrets that it waits for, by command.
        status: its custom status.
        progress: calls of each activity: ended, and in all.
        works: attempts that a cancellation ends.
        on_stop: called when it is to stop.
        changed: called when something to be shown has changed.
    """

    def __init__(self, instance: str, name: str, begun: float, changed: Callable[[Running], None]) -> None:
        self.instance = instance
        self.name = name
        self.begun = begun
        self.cancelled = ""
        self.stopped = False
        self.status = ""
        self.waiting: dict[int, Waiting] = {}
        self.blocked: dict[int, Blocked] = {}
        self.progress: dict[str, tuple[int, int]] = {}
        self.changed = changed
        self.works: set[asyncio.Task[Any]] = set()
        self.on_stop: Callable[[], None] = _nothing
        self._interrupt = asyncio.Event()

    def cancel(self, reason: str) -> None:
        """Let every wait that is not shielded end."""
        if not self.cancelled:
            self.cancelled = reason or "no reason was given"
            self._wake()

    def stop(self) -> None:
        """Let every wait end with :class:`Stopped`."""
        self.stopped = True
        self._wake()
        self.on_stop()

    def _wake(self) -> None:
        self._interrupt.set()
        for work in tuple(self.works):
            work.cancel()

    async def pause(self, seconds: float, *, shielded: bool) -> bool:
        """Wait; True if a cancellation ended it early.

        Raises:
            Stopped: the instance is to stop.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            if self.stopped:
                raise Stopped
            if self.cancelled and not shielded:
                return True
            left = end - loop.time()
            if left <= 0:
                return False
            if self.cancelled:  # shielded: the interrupt has been heard; look now and then for a stop
                await asyncio.sleep(min(left, 1.0))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, 3600.0)):
                    await self._interrupt.wait()

    def wait_for(self, waiting: Waiting, blocked: Blocked | None = None) -> None:
        """Show that it waits."""
        self.waiting[waiting.index] = waiting
        if blocked is not None:
            self.blocked[waiting.index] = blocked
        self.changed(self)

    def called(self, activity: str, *, ended: bool) -> None:
        """An activity was called, or its call has ended."""
        done, begun = self.progress.get(activity, (0, 0))
        self.progress[activity] = (done + ended, begun + (not ended))
        if begun >= FAN_OUT:
            self.changed(self)

    def waited(self, index: int) -> None:
        """It waits for this no longer."""
        self.waiting.pop(index, None)
        self.blocked.pop(index, None)
        self.changed(self)


def _nothing() -> None:
    """Until a run says what is to be done."""
