"""For tests of orchestrations: run one without an engine, and replay it to see whether it is deterministic.

    run = Replay(fulfil, order, activities={"charge": lambda order: Receipt("r-1")}, events={"approved": True})
    assert run.result == "sent"
    assert [call.name for call in run.calls] == ["charge", "reserve", "send"]

The orchestration's code runs as an engine would run it; activities are the functions that are given. When it has
ended it is replayed with what was recorded, once from every point at which an engine could have stopped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from keyleaf.orchestrate.definitions import REGISTRY, Registry
from keyleaf.orchestrate.determinism import NondeterminismError
from keyleaf.orchestrate.driver import Driver, Finished
from keyleaf.orchestrate.engines.base import StepView
from keyleaf.orchestrate.errors import ActivityFailed, CallError, OrchestrationFailed
from keyleaf.orchestrate.outcomes import Message, event_outcome, outcome_of
from keyleaf.orchestrate.payload import PayloadCodec, from_json, to_json
from keyleaf.orchestrate.tasks import First, Leaf, Outcome, Task
from keyleaf.orchestrate.words import Orchestration

_BEGIN = 1_700_000_000.0


@dataclass(frozen=True)
class Call:
    """A command that the orchestration gave.

    Attributes:
        index: counts from 1.
        kind: activity, timer, event or child.
        name: of it.
        arguments: by name, as JSON carries them.
        seconds: of a timer.
    """

    index: int
    kind: str
    name: str
    arguments: Mapping[str, Any]
    seconds: float = 0.0


class Replay:
    """One run of an orchestration without an engine.

    Args:
        orchestration: what runs.
        args: its input.
        activities: function, value or exception for each activity (and sub-orchestration) by name. A function gets
            the arguments by name; a list is given out one by one.
        events: value, or list of values, for each event by name; an event that is not named never comes, so a wait
            with a time limit ends by it.
        instance: its id.

    Attributes:
        result: what it returned; reading it raises what it raised.
        error: what it raised, or None.
        calls: its commands in order.
        statuses: its custom statuses in order.

    Raises:
        NondeterminismError: a replay took another way.
    """

    def __init__(
        self,
        orchestration: Orchestration[Any],
        *args: Any,
        activities: Mapping[str, Any] | None = None,
        events: Mapping[str, Any] | None = None,
        instance: str = "test",
        registry: Registry = REGISTRY,
        **kwargs: Any,
    ) -> None:
        self._definition = orchestration.definition
        self._registry = registry
        self._instance = instance
        self._codec = PayloadCodec({})
        what = f"the input of orchestration {self._definition.name}"
        data = self._definition.parameters.encode(args, kwargs, what)
        self._arguments = self._definition.parameters.decode(data, what)
        port = _Live(self, dict(activities or {}), dict(events or {}))
        finished = self._drive(port)
        self.error = finished.error
        self._value = finished.value
        self.calls = port.calls
        self.statuses = port.statuses
        for known in range(len(port.order) + 1):
            self._compare(port, known)

    @property
    def result(self) -> Any:
        """What the orchestration returned."""
        if self.error is not None:
            raise self.error
        return self._value

    def _drive(self, port: _Live | _Recorded) -> Finished:
        driver = Driver(self._definition, self._instance, dict(self._arguments), _BEGIN, port, self._codec)
        try:
            while True:
                finished = driver.advance()
                if finished is not None:
                    return finished
                assert driver.waiting is not None
                if not port.go_on(driver.waiting):
                    return Finished(error=_Stopped())
        finally:
            driver.close()

    def _compare(self, live: _Live, known: int) -> None:
        """Replay with the first ``known`` outcomes; what is asked must be what was asked."""
        recorded = _Recorded(live, known)
        finished = self._drive(recorded)
        for now, then in zip(recorded.calls, live.calls, strict=False):
            if (now.kind, now.name, now.arguments) != (then.kind, then.name, then.arguments):
                raise NondeterminismError(
                    f"{self._definition.name}: command {then.index} was {then.kind} {then.name}"
                    f" with {dict(then.arguments)} and is {now.kind} {now.name} with {dict(now.arguments)} at replay"
                )
        ended = not isinstance(finished.error, _Stopped)
        if ended and known == len(live.order):
            same = (finished.value, type(finished.error)) == (self._value, type(self.error))
            if not same or len(recorded.calls) != len(live.calls):
                raise NondeterminismError(f"{self._definition.name} ended differently when it was replayed")


def replay_history(
    orchestration: Orchestration[Any],
    arguments: Mapping[str, Any],
    started: float,
    steps: Sequence[StepView],
    codec: PayloadCodec,
    *,
    instance: str,
    registry: Registry = REGISTRY,
) -> None:
    """Replay a recorded instance with the code as it is now.

    Args:
        arguments: its input by name.
        started: seconds since 1970.
        steps: its recorded commands, as ``Control.steps`` gives them.
        codec: opens its payloads.

    Raises:
        NondeterminismError: the code gives another command than the one recorded; an instance that runs would fail.
    """
    port = _History({step.index: step for step in steps if step.kind != "choice"}, codec, registry, instance)
    driver = Driver(orchestration.definition, instance, dict(arguments), started, port, codec)
    try:
        while True:
            finished = driver.advance()
            if finished is not None:
                if isinstance(finished.error, NondeterminismError):
                    raise finished.error
                return
            if driver.waiting is not None and driver.waiting.leaves():
                return
    finally:
        driver.close()


class _Stopped(Exception):
    """The replay has used up what was recorded."""


class _Live:
    """Carries out commands with the functions that the test gives."""

    def __init__(self, replay: Replay, activities: dict[str, Any], events: dict[str, Any]) -> None:
        self._replay = replay
        self._activities = activities
        self._events = {name: list(value) if isinstance(value, list) else [value] for name, value in events.items()}
        self._time = _BEGIN
        self._waiting: list[Leaf[Any]] = []
        self.calls: list[Call] = []
        self.statuses: list[str] = []
        self.order: list[tuple[int, Outcome]] = []

    def start(self, leaf: Leaf[Any]) -> None:
        self.calls.append(_call(leaf))
        self._waiting.append(leaf)

    def race(self, race: First) -> None:
        race.watch()

    def candidate(self, race: First) -> None:
        race.choose(race.candidate or 0)

    def status(self, text: str) -> None:
        self.statuses.append(text)

    def go_on(self, task: Task[Any]) -> bool:
        """End the next command: whatever can end at once, else the earliest timer."""
        ready = next((leaf for leaf in self._waiting if self._ends_now(leaf)), None)
        if ready is None:
            timers = [leaf for leaf in self._waiting if leaf.kind == "timer"]
            if not timers:
                names = ", ".join(f"{leaf.kind} {leaf.name}" for leaf in self._waiting)
                raise CallError(f"the orchestration waits for {names}, which the test does not give")
            ready = min(timers, key=lambda leaf: leaf.due)
        self._waiting.remove(ready)
        self._time = max(self._time + 0.001, ready.due)
        outcome = self._outcome(ready)
        self.order.append((ready.index, outcome))
        ready.settle(outcome)
        return True

    def _ends_now(self, leaf: Leaf[Any]) -> bool:
        if leaf.kind == "event":
            return bool(self._events.get(leaf.name))
        return leaf.kind != "timer"

    def _outcome(self, leaf: Leaf[Any]) -> Outcome:
        if leaf.kind == "timer":
            return Outcome(leaf.due)
        if leaf.kind == "event":
            value = self._events[leaf.name].pop(0)
            return Outcome(self._time, from_json(to_json(value, leaf.name), leaf.wanted, f"event {leaf.name}"))
        try:
            given = self._activities[leaf.name]
        except KeyError:
            raise CallError(f"the test gives nothing for {leaf.kind} {leaf.name}") from None
        if isinstance(given, list):
            given = given.pop(0)
        try:
            value = _called(given, _call(leaf).arguments)
        except Exception as error:
            failure = (
                ActivityFailed(leaf.name, type(error).__qualname__, str(error))
                if leaf.kind == "activity"
                else OrchestrationFailed(leaf.name, type(error).__qualname__, str(error))
            )
            return Outcome(self._time, error=failure)
        registry = self._replay._registry
        kind = registry.activity(leaf.name) if leaf.kind == "activity" else registry.orchestration(leaf.name)
        what = f"the result of {leaf.kind} {leaf.name}"
        return Outcome(self._time, from_json(to_json(value, what), kind.parameters.result, what))


class _Recorded:
    """Gives what was recorded, up to a point."""

    def __init__(self, live: _Live, known: int) -> None:
        self._left = list(live.order[:known])
        self._open: dict[int, Leaf[Any]] = {}
        self.calls: list[Call] = []

    def start(self, leaf: Leaf[Any]) -> None:
        self.calls.append(_call(leaf))
        self._open[leaf.index] = leaf

    def race(self, race: First) -> None:
        race.watch()

    def candidate(self, race: First) -> None:
        race.choose(race.candidate or 0)

    def status(self, text: str) -> None:
        """Nothing is shown."""

    def go_on(self, task: Task[Any]) -> bool:
        if not self._left:
            return False
        index, outcome = self._left.pop(0)
        leaf = self._open.pop(index, None)
        if leaf is not None:
            leaf.settle(outcome)
        return True


class _History:
    """Gives what an engine has recorded."""

    def __init__(self, steps: dict[int, StepView], codec: PayloadCodec, registry: Registry, instance: str) -> None:
        self._steps = steps
        self._codec = codec
        self._registry = registry
        self._instance = instance

    def start(self, leaf: Leaf[Any]) -> None:
        step = self._steps.get(leaf.index)
        if step is None:
            return
        if (step.kind, step.name) != (leaf.kind, leaf.name):
            raise NondeterminismError(
                f"{self._instance}: command {leaf.index} was {step.kind} {step.name} and is {leaf.kind} {leaf.name} now"
            )
        if leaf.kind == "event":
            leaf.settle(event_outcome(self._codec, leaf, msgspec.json.decode(step.texts[0], type=Message)))
        else:
            leaf.settle(outcome_of(self._registry, self._codec, leaf, step.envelopes[-1], self._instance))

    def race(self, race: First) -> None:
        race.watch()

    def candidate(self, race: First) -> None:
        race.choose(race.candidate or 0)

    def status(self, text: str) -> None:
        """Nothing is shown."""


def _call(leaf: Leaf[Any]) -> Call:
    arguments: dict[str, Any] = {}
    if leaf.payload:
        arguments = from_json(leaf.payload[2:].encode(), dict[str, Any], leaf.name) if leaf.payload[:2] == "p:" else {}
    return Call(leaf.index, leaf.kind, leaf.name, arguments, max(0.0, leaf.due - leaf.since) if leaf.due else 0.0)


def _called(given: Any, arguments: Mapping[str, Any]) -> Any:
    if isinstance(given, BaseException):
        raise given
    if not callable(given):
        return given
    value = given(**arguments)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


__all__ = ["Call", "Replay", "replay_history"]
