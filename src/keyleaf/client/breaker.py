"""A circuit breaker: after a failure nobody asks for a while, then exactly one tries for all.

Pure: times are handed in, in seconds that never go back; randomness is a function that gives 0 to 1.
Backoff with full jitter: https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal

State = Literal["closed", "open", "half-open"]

_LONGEST_EXPONENT = 32


@dataclass(frozen=True)
class BreakerSettings:
    """Times of a breaker, in seconds.

    Attributes:
        first: the first backoff; each further one in a row is twice as long, before jitter.
        longest: no backoff is longer.
        spacing: no backoff is shorter, whatever the jitter, so that no more than 1 / ``spacing`` a second try.
        longest_wait: no Retry-After is obeyed for longer.
        calm: a breaker that has been closed for so long begins again with the first backoff.
    """

    first: float = 0.5
    longest: float = 30.0
    spacing: float = 0.5
    longest_wait: float = 3600.0
    calm: float = 8.0


class CircuitBreaker:
    """``closed`` lets everything pass; ``open`` nothing; ``half-open`` exactly one try, whose result decides.

    Each request takes a ticket when it leaves and hands it back with its result, so that late results of requests
    that left before the breaker opened neither close it nor make the backoff longer.
    """

    def __init__(self, jitter: Callable[[], float], settings: BreakerSettings | None = None) -> None:
        self._jitter = jitter
        self._settings = settings or BreakerSettings()
        self._round = 0
        self._opened = 0
        self._closed_at = -math.inf
        self._closed_by = 0
        self._until: float | None = None
        self._trying: int | None = None

    def state(self, now: float) -> State:
        """Which of the three it is."""
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half-open"

    def refuses(self, now: float) -> float | None:
        """Seconds until a try is sensible if nothing may leave now; None if one may."""
        if self._until is None:
            return None
        if now < self._until:
            return self._until - now
        return self._settings.spacing if self._trying is not None else None

    def leave(self, now: float) -> int:
        """A request leaves; returns its ticket. Only where :meth:`refuses` says None."""
        if self.refuses(now) is not None:
            raise ValueError("the breaker lets nothing through now")
        self._round += 1
        if self._until is not None:
            self._trying = self._round
        return self._round

    def succeeded(self, ticket: int, now: float) -> bool:
        """The request got an answer; True if that closes the breaker."""
        if ticket != self._trying:
            return False
        self._trying = self._until = None
        self._closed_at, self._closed_by = now, ticket
        return True

    def failed(self, ticket: int, now: float, *, wait: float = 0.0, grow: bool = True) -> bool:
        """The request failed; True if that opens the breaker.

        Args:
            wait: seconds that the other side asked for.
            grow: take the exponential backoff too; otherwise ``wait`` alone.
        """
        wait = min(wait, self._settings.longest_wait)
        if self._until is not None and ticket != self._trying:
            self._until = max(self._until, now + wait)
            return False
        if self._until is None:
            if ticket <= self._closed_by:
                return False
            if now - self._closed_at >= self._settings.calm:
                self._opened = 0
        self._trying = None
        backoff = self._backoff() if grow else 0.0
        self._opened += grow
        self._until = now + max(wait, backoff, self._settings.spacing)
        return True

    def dropped(self, ticket: int) -> None:
        """The request was given up before it had a result: another one may try."""
        if ticket == self._trying:
            self._trying = None

    def _backoff(self) -> float:
        doubled = self._settings.first * 2.0 ** min(self._opened, _LONGEST_EXPONENT)
        return self._jitter() * min(self._settings.longest, doubled)


def retry_after_seconds(header: str, now: float) -> float:
    """What a Retry-After header asks for, in seconds from ``now`` (since 1970-01-01 UTC); 0 for none, or nonsense.

    It is a number of seconds or an HTTP date: RFC 9110, section 10.2.3.
    """
    text = header.strip()
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except (ValueError, OverflowError, OSError):
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
