"""Who wants a secret, as a request for it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from keyleaf.core.activity_header import ACTIVITY_HEADER, LONGEST_HEADER, REQUEST_ID_HEADER, encode_activities

__all__ = ["ACTIVITY_HEADER", "LONGEST_HEADER", "REQUEST_ID_HEADER", "Caller", "activity_header"]


@dataclass(frozen=True)
class Caller:
    """One activity of one orchestration instance."""

    instance: str
    activity: str


def activity_header(callers: Iterable[Caller]) -> str:
    """The callers of one request, see :mod:`keyleaf.core.activity_header`."""
    return encode_activities((caller.instance, caller.activity) for caller in callers)
