"""The map: declared in Git, granted by RBAC, observed in the audit log. Its eight states have names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """What the three views say together about one (identity, secret) pair; the value is its name for people."""

    HEALTHY = "healthy"
    IDLE = "idle"
    WILL_FAIL = "will fail"
    BROKEN_NOW = "broken now"
    SHADOW = "shadow"
    GHOST_GRANT = "ghost grant"
    GHOST_HOLDER = "ghost holder"
    PROBE = "probe"

    @property
    def advice(self) -> str:
        """What to do about it."""
        return _ADVICE[self]


_ADVICE = {
    State.HEALTHY: "nothing",
    State.IDLE: "look after one expected interval",
    State.WILL_FAIL: "the next start gets a 403: stop the deploy, run keyleaf apply",
    State.BROKEN_NOW: "it could read before and cannot now: keyleaf why explains",
    State.SHADOW: "an undeclared reader: a rotation will break it; declare it",
    State.GHOST_GRANT: "granted and not declared: remove the role assignment",
    State.GHOST_HOLDER: "it may still hold the value: a reason to rotate",
    State.PROBE: "it was refused and is not declared: look who it is",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """What the audit log says of one (identity, secret) pair.

    Attributes:
        reads: successful reads in the window. ``reads_before`` those before it.
        denied: refused reads, at any time.
    """

    reads: int = 0
    reads_before: int = 0
    denied: int = 0


def classify(*, declared: bool, granted: bool, observed: Observation) -> State | None:
    """The state of a pair; None where there is nothing to say: not declared, not granted, never asked for.

    A pair without a grant that read in the window or before it counts as having read before: it cannot read now.
    """
    has_read = observed.reads + observed.reads_before > 0
    if declared and granted:
        return State.HEALTHY if observed.reads else State.IDLE
    if declared:
        return State.BROKEN_NOW if has_read else State.WILL_FAIL
    if granted:
        return State.SHADOW if observed.reads else State.GHOST_GRANT
    if has_read:
        return State.GHOST_HOLDER
    return State.PROBE if observed.denied else None
