"""How requests begin again after an outage. Pure: times are handed in, in seconds that never go back."""

from __future__ import annotations

import math


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
