"""Results that a restarted instance takes over from the one before. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from keyleaf.orchestrate.driver import require_same
from keyleaf.orchestrate.engines.base import Carried, EngineContext, StepView
from keyleaf.orchestrate.envelope import pack, unpack
from keyleaf.orchestrate.errors import CallError
from keyleaf.orchestrate.outcomes import Message, event_outcome, event_purpose, outcome_of
from keyleaf.orchestrate.tasks import Leaf, Outcome


def carried_outcomes(context: EngineContext, carried: Carried | None) -> Callable[[Leaf[Any]], Outcome | None] | None:
    """A look-up of carried results for the driver, or None."""
    if carried is None:
        return None

    def look_up(leaf: Leaf[Any]) -> Outcome | None:
        text = carried.envelopes.get(leaf.index)
        if text is None:
            return None
        kind, name, body = msgspec.json.decode(text, type=tuple[str, str, str])
        require_same(leaf.index, kind, name, leaf)
        if leaf.kind == "event":
            message = msgspec.json.decode(body, type=Message)
            return event_outcome(context.codec, leaf, message, event_purpose(carried.instance, leaf.name))
        return outcome_of(context.registry, context.codec, leaf, unpack(body), carried.instance)

    return look_up


def carry(instance: str, steps: list[StepView], restart_at: str, already: Carried | None) -> Carried:
    """What an instance restarted at a step takes over.

    Args:
        restart_at: a command's number, or the name of an activity, event or sub-orchestration: its first call.

    Raises:
        CallError: there is no such step.
    """
    before = _before(instance, steps, restart_at)
    if already is not None and already.instance != instance:
        raise CallError(
            f"{instance} was itself restarted from a step of {already.instance}",
            hint=f"restart {already.instance} instead",
        )
    envelopes: dict[int, str] = {}
    for step in steps:
        if step.index >= before or step.kind == "choice":
            continue
        body = step.texts[0] if step.kind == "event" else pack(step.envelopes[-1])
        envelopes[step.index] = msgspec.json.encode((step.kind, step.name, body)).decode()
    return Carried(instance, before, envelopes)


def _before(instance: str, steps: list[StepView], restart_at: str) -> int:
    if restart_at.isdigit():
        number = int(restart_at)
        if 1 <= number <= max((step.index for step in steps), default=0) + 1:
            return number
    for step in steps:
        if step.name == restart_at and step.kind != "choice":
            return step.index
    names = ", ".join(f"{step.index} {step.name}" for step in steps if step.kind != "choice") or "none"
    raise CallError(f"{instance} has no step {restart_at}", hint=f"its steps are {names}")
