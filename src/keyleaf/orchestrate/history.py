"""Replays what an engine has recorded of an instance with the code as it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from keyleaf.orchestrate.definitions import OrchestrationDefinition, Registry
from keyleaf.orchestrate.determinism import NondeterminismError
from keyleaf.orchestrate.driver import Driver, input_purpose, require_same
from keyleaf.orchestrate.engines.base import StepView
from keyleaf.orchestrate.errors import CallError
from keyleaf.orchestrate.outcomes import Message, event_outcome, outcome_of
from keyleaf.orchestrate.payload import PayloadCodec
from keyleaf.orchestrate.tasks import First, Leaf
from keyleaf.orchestrate.words import Orchestration
from keyleaf.orchestrate.worker import Worker


async def replay_instance(worker: Worker, instance: str, orchestration: Orchestration[Any] | None = None) -> None:
    """Replay an instance that a worker's engine has recorded, ended or not, with the code as it is now.

    Args:
        orchestration: the code; what the worker has for the instance's name and version if left out.

    Raises:
        NondeterminismError: the code gives another command than the one recorded; an instance that runs would fail.
        InstanceNotFound: there is none of this id.
        CallError: it was restarted from a step of another one.
    """
    view = await worker.get(instance)
    start = view.start
    if start is None or start.carried is not None:
        origin = start.carried.instance if start is not None and start.carried is not None else "another instance"
        raise CallError(f"{instance} was restarted from a step of {origin}", hint=f"replay {origin}")
    definition = (
        worker.registry.orchestration(start.name, start.version) if orchestration is None else orchestration.definition
    )
    data = worker.codec.open(start.payload, input_purpose(instance))
    arguments = definition.parameters.decode(data, f"{instance}: the input of orchestration {start.name}")
    steps = await asyncio.to_thread(worker.engine.control.steps, instance)
    replay_history(
        definition, arguments, start.created, steps, worker.codec, instance=instance, registry=worker.registry
    )


def replay_history(
    orchestration: Orchestration[Any] | OrchestrationDefinition,
    arguments: Mapping[str, Any],
    started: float,
    steps: Sequence[StepView],
    codec: PayloadCodec,
    *,
    instance: str,
    registry: Registry | None = None,
) -> None:
    """Replay recorded steps with the code as it is now. :func:`replay_instance` finds all of this by itself.

    Args:
        arguments: its input by name.
        started: seconds since 1970.
        steps: its recorded commands, as ``Control.steps`` gives them.
        codec: opens its payloads.

    Raises:
        NondeterminismError: the code gives another command than the one recorded; an instance that runs would fail.
    """
    if isinstance(orchestration, Orchestration):
        definition, registry = orchestration.definition, registry or orchestration.registry
    else:
        definition, registry = orchestration, registry or Registry()
    port = _History(steps, codec, registry, instance)
    driver = Driver(definition, instance, dict(arguments), started, port, codec)
    try:
        finished = driver.advance()
        while finished is None and driver.waiting is not None and driver.waiting.settled:
            finished = driver.advance()
    finally:
        driver.close()
    port.require_all_asked()
    if finished is not None and isinstance(finished.error, NondeterminismError):
        raise finished.error


class _History:
    """Gives what an engine has recorded."""

    replaying = True

    def __init__(self, steps: Sequence[StepView], codec: PayloadCodec, registry: Registry, instance: str) -> None:
        self._left = {step.index: step for step in steps if step.kind != "choice"}
        self._choices = {step.index: int(step.texts[0]) for step in steps if step.kind == "choice" and step.texts}
        self._codec = codec
        self._registry = registry
        self._instance = instance
        self._mismatch: NondeterminismError | None = None

    def start(self, leaf: Leaf[Any]) -> None:
        step = self._left.pop(leaf.index, None)
        if step is None:
            return
        try:
            require_same(leaf.index, step.kind, step.name, leaf)
        except NondeterminismError as error:
            self._mismatch = self._mismatch or error  # the code may catch what is raised
            raise
        if leaf.kind == "event":
            leaf.settle(event_outcome(self._codec, leaf, msgspec.json.decode(step.texts[0], type=Message)))
        else:
            leaf.settle(outcome_of(self._registry, self._codec, leaf, step.envelopes[-1], self._instance))

    def race(self, race: First) -> None:
        race.watch()
        if race.index in self._choices:
            race.choose(self._choices[race.index])

    def candidate(self, race: First) -> None:
        if race.index not in self._choices:
            race.choose(race.candidate or 0)

    def status(self, text: str) -> None:
        """Nothing is shown."""

    def require_all_asked(self) -> None:
        """Raises NondeterminismError if the code gave another command, or did not give a recorded one."""
        if self._mismatch is not None:
            raise self._mismatch
        if self._left:
            step = self._left[min(self._left)]
            raise NondeterminismError(
                f"{self._instance}: command {step.index} was {step.kind} {step.name} and is not given any more",
                hint="the code changed: give it a new version=… and keep the old one until its instances have ended",
            )
