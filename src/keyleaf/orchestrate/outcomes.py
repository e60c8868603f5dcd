"""From recorded envelopes to what orchestration code is given, and back. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.driver import output_purpose
from keyleaf.orchestrate.envelope import Envelope, ErrorBody
from keyleaf.orchestrate.errors import ActivityFailed, CallError, InstanceCancelled, OrchestrationFailed
from keyleaf.orchestrate.payload import PayloadCodec, from_json
from keyleaf.orchestrate.tasks import Leaf, Outcome


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """An external event, or a cancellation that wakes a wait for one.

    Attributes:
        event: its name.
        at: when it was sent, seconds since 1970.
        body: sealed JSON value.
        cancel: reason of a cancellation.
    """

    event: str
    at: float
    body: str = ""
    cancel: str = ""


def event_purpose(instance: str, event: str) -> str:
    """What the payload of an event is bound to."""
    return f"{instance}/event/{event}"


def outcome_of(registry: Registry, codec: PayloadCodec, leaf: Leaf[Any], envelope: Envelope, instance: str) -> Outcome:
    """How a command ended, for the orchestration's code.

    Args:
        instance: whose envelope it is: the run itself, or the one that it was carried from.
    """
    at = envelope.ended
    if envelope.kind == "cancelled":
        return Outcome(at, error=InstanceCancelled(f"{leaf.driver.instance} was cancelled: {envelope.body}"))
    try:
        if leaf.kind == "timer":
            return Outcome(at)
        purpose = output_purpose(f"{instance}.{leaf.index}") if leaf.kind == "child" else f"{instance}/{leaf.index}"
        if envelope.kind == "error":
            suffix = "" if leaf.kind == "child" else "/error"
            error = msgspec.json.decode(codec.open(envelope.body, purpose + suffix), type=ErrorBody)
            return Outcome(at, error=as_exception(leaf, error))
        suffix = "" if leaf.kind == "child" else "/output"
        data = codec.open(envelope.body, purpose + suffix)
        return Outcome(at, from_json(data, _result_type(registry, leaf), f"the result of {leaf.kind} {leaf.name}"))
    except CallError as error:
        return Outcome(at, error=error)


def event_outcome(codec: PayloadCodec, leaf: Leaf[Any], message: Message, purpose: str = "") -> Outcome:
    """What a wait for an event gives. ``purpose`` is what a carried event is bound to."""
    if message.cancel:
        return Outcome(message.at, error=InstanceCancelled(f"{leaf.driver.instance} was cancelled: {message.cancel}"))
    data = codec.open(message.body, purpose or event_purpose(leaf.driver.instance, leaf.name))
    try:
        return Outcome(message.at, from_json(data, leaf.wanted, f"event {leaf.name}"))
    except CallError as error:
        return Outcome(message.at, error=error)


def as_exception(leaf: Leaf[Any], body: ErrorBody) -> Exception:
    """A recorded error as it is raised where the result is awaited."""
    if leaf.kind == "child":
        return OrchestrationFailed(
            leaf.driver.child_instance(leaf.index), body.type, body.message, details=body.details
        )
    return ActivityFailed(leaf.name, body.type, body.message, attempts=body.attempts, details=body.details)


def _result_type(registry: Registry, leaf: Leaf[Any]) -> Any:
    if leaf.kind == "activity":
        return registry.activity(leaf.name).parameters.result
    return registry.orchestration(leaf.name).parameters.result
