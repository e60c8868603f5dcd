"""Retry budgets: token buckets that make a retry wait its turn, so that errors do not snowball."""

from __future__ import annotations

from keyleaf.core.clock import Clock
from keyleaf.orchestrate.definitions import RetryBudget

VAULT_BUDGET = RetryBudget(burst=100.0, rate=10.0)
"""Retries of all activities that read secrets of one vault: each of them is one more read."""


class Bucket:
    """Tokens for retries. Taking one that is not there yet reserves it, and says how long it takes to come."""

    def __init__(self, budget: RetryBudget, clock: Clock) -> None:
        self._budget = budget
        self._clock = clock
        self._tokens = budget.burst
        self._at = clock.monotonic()

    def take(self) -> float:
        """Seconds until the token that this call took is there; 0 if it is."""
        now = self._clock.monotonic()
        self._tokens = min(self._budget.burst, self._tokens + (now - self._at) * self._budget.rate)
        self._at = now
        self._tokens -= 1
        return max(0.0, -self._tokens / self._budget.rate)


class Budgets:
    """The buckets of one worker, by what they are for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def wait(self, kind: str, name: str, budget: RetryBudget) -> float:
        """Seconds that a retry of ``name`` has to wait for its token."""
        bucket = self._buckets.get((kind, name))
        if bucket is None:
            bucket = self._buckets[kind, name] = Bucket(budget, self._clock)
        return bucket.take()
