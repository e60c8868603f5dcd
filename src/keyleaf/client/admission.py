"""Who may ask a vault now: its circuit breaker, and the slow start after it has closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from keyleaf.client.breaker import BreakerSettings, CircuitBreaker
from keyleaf.client.slow_start import SlowStart
from keyleaf.client.unavailable import Reason
from keyleaf.core.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Refusal:
    """Nothing may leave: why, and seconds until a new try is sensible."""

    reason: Reason
    retry_after: float
    detail: str = ""


class Admission:
    """One vault's: each request takes a ticket before it leaves, and says with it what came of it."""

    def __init__(
        self, vault_url: str, *, clock: Clock, jitter: Callable[[], float], settings: BreakerSettings, patience: float
    ) -> None:
        self._vault_url = vault_url
        self._clock = clock
        self._jitter = jitter
        self._patience = patience
        self._spacing = settings.spacing
        self._breaker = CircuitBreaker(jitter, settings)
        self._slow: SlowStart | None = None
        self._reason: Reason = "away"
        self._detail = ""
        self._held: set[asyncio.Future[None]] = set()

    def refusal(self) -> Refusal | None:
        """What a fetch is told at once; None if it may go on."""
        rest = self._breaker.refuses(self._clock.monotonic())
        return None if rest is None else Refusal(self._reason, rest, self._detail)

    async def enter(self) -> int | Refusal:
        """A ticket for one request that leaves now, after the wait that a slow start asks for; or why not."""
        now = self._clock.monotonic()
        if self._slow is not None and self._slow.over(now):
            self._slow = None
        if self._slow is not None:
            wait = self._slow.departure(now) - now
            if wait > self._patience:
                # Whoever is turned away together shall not come back together.
                return Refusal(self._reason, wait + self._jitter() * self._patience, self._detail)
            self._slow.take(now)
            if wait > 0:
                await self._hold(wait)
        return self.refusal() or self._breaker.leave(self._clock.monotonic())

    def answered(self, ticket: int) -> None:
        """The vault answered, whatever it said about the secret."""
        now = self._clock.monotonic()
        if self._breaker.succeeded(ticket, now):
            self._slow = SlowStart(now)
            log.info("vault %s answers again", self._vault_url)

    def failed(self, ticket: int, reason: Reason, detail: str = "", *, wait: float = 0.0, grow: bool = True) -> Refusal:
        """The vault is no use now; ``wait`` seconds were asked for. Returns what all others are told."""
        now = self._clock.monotonic()
        if self._breaker.failed(ticket, now, wait=wait, grow=grow):
            self._reason, self._detail, self._slow = reason, detail, None
            for held in self._held:
                _release(held)
            log.warning("vault %s: %s; asked again in %.1f s", self._vault_url, reason, self._breaker.refuses(now) or 0)
        return Refusal(reason, self._breaker.refuses(now) or self._spacing, detail)

    def dropped(self, ticket: int) -> None:
        """The request was given up."""
        self._breaker.dropped(ticket)

    async def _hold(self, seconds: float) -> None:
        """Wait, but not longer than until the breaker opens."""
        loop = asyncio.get_running_loop()
        held: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _release, held)
        self._held.add(held)
        try:
            await held
        finally:
            timer.cancel()
            self._held.discard(held)


def _release(held: asyncio.Future[None]) -> None:
    if not held.done():
        held.set_result(None)
