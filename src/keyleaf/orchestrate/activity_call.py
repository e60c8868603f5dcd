"""What an engine passes to whoever runs an activity."""

from __future__ import annotations

import msgspec


class ActivityCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """One call of an activity by an instance, as an engine passes it to whoever runs it.

    Attributes:
        instance, orchestration: who calls.
        activity: name of what is called.
        index: place among the instance's commands.
        payload: sealed arguments.
        since: when it was called, seconds since 1970.
        attempt: counts from 1.
    """

    instance: str
    orchestration: str
    activity: str
    index: int
    payload: str
    since: float
    attempt: int = 1

    @property
    def purpose(self) -> str:
        """What its payloads are bound to."""
        return f"{self.instance}/{self.index}"
