"""Token buckets: how many may pass in a time. Pure: times are handed in, in seconds that never go back.

https://en.wikipedia.org/wiki/Token_bucket
"""

from __future__ import annotations

import math


class TokenBucket:
    """Lets ``rate`` tokens a second through, and up to ``capacity`` at once after a rest; it starts full."""

    def __init__(self, rate: float, capacity: float, *, now: float = 0.0) -> None:
        if not (math.isfinite(rate) and math.isfinite(capacity) and rate >= 0 and capacity > 0):
            raise ValueError("a bucket has a rate of 0 or more and a capacity above 0")
        self._rate = rate
        self._capacity = capacity
        self._tokens = capacity
        self._filled = now

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take ``count`` tokens if they are there; otherwise take none."""
        self._fill(now)
        if self._tokens < count:
            return False
        self._tokens -= count
        return True

    def give(self, now: float, count: float = 1.0) -> None:
        """Put ``count`` tokens in, up to the capacity: what a success earns a retry budget."""
        self._fill(now)
        self._tokens = min(self._capacity, self._tokens + count)

    def wait(self, now: float, count: float = 1.0) -> float:
        """Seconds until ``count`` tokens are there, if nobody else takes any; infinite if they never will be."""
        self._fill(now)
        missing = count - self._tokens
        if missing <= 0:
            return 0.0
        return missing / self._rate if self._rate and count <= self._capacity else math.inf

    def _fill(self, now: float) -> None:
        if now > self._filled:
            self._tokens = min(self._capacity, self._tokens + (now - self._filled) * self._rate)
            self._filled = now


class SlowStart:
    """A bucket of one token whose rate doubles: ``first`` a second, twice that after each second, up to ``last``.

    The second at ``last`` over, there is no limit any more. It hands out departure times, so that whoever cannot leave
    within its patience is told so at once.
    """

    def __init__(self, began: float, *, first: float = 2.0, last: float = 256.0) -> None:
        self._began = began
        self._first = first
        self._last = last
        self._next = began + 1 / first
        self._over = began + 1 + math.ceil(math.log2(last / first))

    def over(self, now: float) -> bool:
        """Whether there is no limit any more."""
        return now >= self._over

    def departure(self, now: float) -> float:
        """When one more could leave."""
        return max(now, min(self._next, self._over))

    def take(self, now: float) -> float:
        """Take the next departure; returns its time."""
        leaves = self.departure(now)
        doubled = min(self._first * 2 ** math.floor(leaves - self._began), self._last)
        self._next = leaves + 1 / doubled
        return leaves
