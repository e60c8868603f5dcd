"""How long to wait before a process is started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Doubling waits, as kubelet's CrashLoopBackOff, with times for a laptop instead of a cluster.

    Attributes:
        first / longest: seconds; ``calm`` after that many seconds of running the count starts anew.
    """

    first: float = 0.5
    longest: float = 60.0
    calm: float = 60.0
    failures: int = 0

    def after(self, ran: float) -> float:
        """Seconds to wait now, given that the process ran for ``ran`` seconds before it ended."""
        if ran >= self.calm:
            self.failures = 0
        self.failures += 1
        return min(self.longest, self.first * 2.0 ** min(self.failures - 1, 30))
