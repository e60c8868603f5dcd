"""Fetches of one secret that share a request: how they gather."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from keyleaf.client.callers import Caller
from keyleaf.client.reading import Reading
from keyleaf.client.reference import SecretReference
from keyleaf.client.unavailable import SecretUnavailable
from keyleaf.core.clock import Clock

# A timer may fire early by the resolution of the loop's clock.
_RESOLUTION = 0.001


@dataclass(frozen=True, eq=False)
class Member:
    """One fetch of a batch, and where its result goes."""

    reference: SecretReference
    caller: Caller
    result: asyncio.Future[Reading]

    def settle(self, outcome: Reading | SecretUnavailable) -> None:
        """Give the fetch its result, unless it has one or was cancelled."""
        if self.result.done():
            return
        if isinstance(outcome, Reading):
            self.result.set_result(outcome)
        else:
            self.result.set_exception(outcome)


class Batch:
    """Gathers fetches until nothing more is awaited, or for a time.

    Args:
        awaited: what was expected when the batch opened.
        quiet: seconds without an arrival after which it has gathered all the same.
        gather: seconds in all, likewise.
        ready: called once, when it has gathered; more may join until it leaves.
    """

    def __init__(
        self, awaited: Iterable[Hashable], *, clock: Clock, quiet: float, gather: float, ready: Callable[[], None]
    ) -> None:
        self._awaited = set(awaited)
        self._clock = clock
        self._quiet = quiet
        self._ready = ready
        self._members: list[Member] = []
        self._loop = asyncio.get_running_loop()
        self._last = clock.monotonic()
        self._latest = self._last + gather
        self._timer: asyncio.Handle | None = None
        self.gathered = False
        if self._awaited:
            self._timer = self._loop.call_later(min(quiet, gather), self._look)
        else:
            self._timer = self._loop.call_soon(self._finish)

    def join(self, reference: SecretReference, caller: Caller) -> asyncio.Future[Reading]:
        """Add a fetch; its result comes by the future."""
        result: asyncio.Future[Reading] = self._loop.create_future()
        self._members.append(Member(reference, caller, result))
        self._last = self._clock.monotonic()
        return result

    def not_awaiting(self, what: Hashable) -> None:
        """One that was awaited has come, or will not come."""
        if what in self._awaited:
            self._awaited.discard(what)
            if not self._awaited and not self.gathered:
                self._again(self._loop.call_soon(self._finish))

    def waiting(self) -> list[Member]:
        """Those that still wait for a result."""
        return [member for member in self._members if not member.result.done()]

    def settle(self, outcome: Callable[[Member], Reading | SecretUnavailable | None]) -> None:
        """Give each that waits its result; None leaves it waiting."""
        for member in self.waiting():
            result = outcome(member)
            if result is not None:
                member.settle(result)

    def stop(self) -> None:
        """Gather no longer, and do not call ``ready``."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        due = min(self._last + self._quiet, self._latest)
        rest = due - self._clock.monotonic()
        if rest <= _RESOLUTION:
            self._finish()
        else:
            self._again(self._loop.call_later(rest, self._look))

    def _again(self, timer: asyncio.Handle) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = timer

    def _finish(self) -> None:
        if not self.gathered:
            self.gathered = True
            self._ready()
