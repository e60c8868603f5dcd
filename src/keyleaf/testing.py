"""For tests of orchestrations: run one without an engine, and replay it to see whether it is deterministic.

    run = Replay(fulfil, order, activities={"charge": Receipt("r-1"), "send": "sent"}, events={"approved": True})
    assert run.result == "sent"
    assert [call.name for call in run.calls] == ["charge", "approved", "send"]

The orchestration's code runs as an engine would run it; activities are the functions that are given. When it has
ended it is replayed with what was recorded, once from every point at which an engine could have stopped.

An instance that really ran is replayed with the code as it is now by :func:`replay_instance`: before a change is
deployed, it tells whether instances that run would still finish.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from keyleaf.client.guard import SecretGuard
from keyleaf.client.reference import SecretReference
from keyleaf.core.secret import CURRENT_ACTIVITY, Secret
from keyleaf.orchestrate.attempt import ActivityInfo, as_running
from keyleaf.orchestrate.definitions import ActivityDefinition, OrchestrationDefinition, Registry
from keyleaf.orchestrate.determinism import NondeterminismError
from keyleaf.orchestrate.driver import Driver, Finished
from keyleaf.orchestrate.errors import ActivityFailed, CallError, OrchestrationFailed
from keyleaf.orchestrate.history import replay_history, replay_instance
from keyleaf.orchestrate.payload import PayloadCodec, from_json, to_json
from keyleaf.orchestrate.tasks import First, Leaf, Outcome
from keyleaf.orchestrate.words import Activity, Orchestration

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
        activities: what each activity (and sub-orchestration) does, by name. A function, ``async`` or not, gets the
            arguments by name, typed; it may be the activity itself. A list is given out one by one. An exception is
            what is left when all retries have failed. Anything else is the result.
        events: value, or list of values, for each event by name; an event that is not named never comes, so a wait
            with a time limit ends by it.
        secrets: value of each secret by ``vault/name``, or by name, for functions that take the activity's secrets.
            As in a worker, a value that would be recorded is refused.
        instance: its id.
        registry: where activities are looked up; the orchestration's own if left out.

    Attributes:
        result: what it returned; reading it raises what it raised.
        error: what it raised, or None.
        calls: its commands in order.
        statuses: its custom statuses in order.

    Raises:
        NondeterminismError: a replay took another way; names the command, what it was and what it is.
        CallError: the test gives nothing for what the orchestration calls, or a result of another type.
    """

    def __init__(
        self,
        orchestration: Orchestration[Any],
        *args: Any,
        activities: Mapping[str, Any] | None = None,
        events: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        instance: str = "test",
        registry: Registry | None = None,
        **kwargs: Any,
    ) -> None:
        self._definition = orchestration.definition
        self._registry = orchestration.registry if registry is None else registry
        self._instance = instance
        guard = SecretGuard()
        for label, value in (secrets or {}).items():
            guard.hold(label, value)
        self._codec = PayloadCodec({}, guard=guard)
        what = f"the input of orchestration {self._definition.name}"
        data = self._definition.parameters.encode(args, kwargs, what)
        self._codec.check(data, what)
        self._arguments = self._definition.parameters.decode(data, what)
        given = _Given(self._registry, self._codec, dict(activities or {}), dict(events or {}), dict(secrets or {}))
        port = _Live(given, instance)
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
                while not driver.waiting.settled:
                    if not port.go_on():
                        return Finished(error=_Stopped())
        finally:
            driver.close()

    def _compare(self, live: _Live, known: int) -> None:
        """Replay with the first ``known`` outcomes; what is asked must be what was asked."""
        recorded = _Recorded(live, known)
        finished = self._drive(recorded)
        for now, then in zip(recorded.calls, live.calls, strict=False):
            if (now.kind, now.name) != (then.kind, then.name):
                self._differs(f"command {then.index} was {then.kind} {then.name} and is {now.kind} {now.name}")
            if now != then:
                given = f"was given {_shown(then)} and is given {_shown(now)}"
                self._differs(f"command {then.index}, {then.kind} {then.name}, {given}")
        if len(recorded.calls) > len(live.calls):
            more = recorded.calls[len(live.calls)]
            self._differs(f"command {more.index}, {more.kind} {more.name}, is new")
        if not isinstance(finished.error, _Stopped) and known == len(live.order):
            if len(recorded.calls) < len(live.calls):
                missed = live.calls[len(recorded.calls)]
                self._differs(f"command {missed.index}, {missed.kind} {missed.name}, is not given any more")
            if (finished.value, type(finished.error)) != (self._value, type(self.error)):
                self._differs("its end is another one")

    def _differs(self, how: str) -> None:
        raise NondeterminismError(
            f"{self._definition.name} took another way when it was replayed: {how}",
            hint="what it decides by must come from its input, activities, events, now(), random() or uuid()",
        )


class _Stopped(Exception):
    """The replay has used up what was recorded."""


class _Given:
    """What the test gives for what the orchestration calls."""

    def __init__(
        self,
        registry: Registry,
        codec: PayloadCodec,
        activities: dict[str, Any],
        events: dict[str, Any],
        secrets: dict[str, str],
    ) -> None:
        self.codec = codec
        self._registry = registry
        self._activities = {
            name: list(value) if isinstance(value, list) else value for name, value in activities.items()
        }
        self._events = {name: list(value) if isinstance(value, list) else [value] for name, value in events.items()}
        self._secrets = secrets
        for name in activities:
            if name not in registry.activities and name not in registry.orchestrations:
                known = ", ".join(sorted({*registry.activities, *registry.orchestrations})) or "none"
                raise CallError(f"no activity or orchestration is called {name}", hint=f"there are {known}")

    def has_event(self, name: str) -> bool:
        """Whether one is left."""
        return bool(self._events.get(name))

    def event(self, name: str, wanted: Any) -> Any:
        """The next value of an event."""
        what = f"event {name}"
        data = to_json(self._events[name].pop(0), what)
        self.codec.check(data, what)
        return from_json(data, wanted, what)

    def outcome(self, leaf: Leaf[Any], at: float) -> Outcome:
        """How an activity or a sub-orchestration ends."""
        if leaf.name not in self._activities:
            raise CallError(
                f"the test gives nothing for {leaf.kind} {leaf.name}", hint=f'add activities={{"{leaf.name}": …}}'
            )
        given = self._activities[leaf.name]
        if isinstance(given, list):
            if not given:
                raise CallError(f"{leaf.kind} {leaf.name} is called more often than the test's list has results")
            given = given.pop(0)
        what = f"the result of {leaf.kind} {leaf.name}"
        definition: ActivityDefinition | OrchestrationDefinition = (
            self._registry.activity(leaf.name) if leaf.kind == "activity" else self._registry.orchestration(leaf.name)
        )
        try:
            data = to_json(self._called(given, definition, leaf), what)
            self.codec.check(data, what)
        except _NotGiven as error:
            raise CallError(*error.args) from None
        except Exception as error:
            if leaf.kind == "activity":
                return Outcome(at, error=ActivityFailed(leaf.name, type(error).__qualname__, str(error)))
            child = leaf.driver.child_instance(leaf.index)
            return Outcome(at, error=OrchestrationFailed(child, type(error).__qualname__, str(error)))
        return Outcome(at, from_json(data, definition.parameters.result, what))

    def _called(self, given: Any, definition: ActivityDefinition | OrchestrationDefinition, leaf: Leaf[Any]) -> Any:
        if isinstance(given, BaseException):
            raise given
        if isinstance(given, Activity):
            given = given.definition.function
        if not callable(given):
            return given
        arguments = definition.parameters.decode(leaf.payload[2:].encode(), f"the input of {leaf.kind} {leaf.name}")
        if isinstance(definition, ActivityDefinition):
            taken = inspect.signature(given).parameters
            for parameter, reference in definition.secrets.items():
                if parameter in taken:
                    arguments[parameter] = self._secret(reference, leaf.name)
        info = ActivityInfo(leaf.driver.instance, leaf.name, 1, f"{leaf.driver.instance}:{leaf.index}")
        token = CURRENT_ACTIVITY.set(leaf.name)
        try:
            with as_running(info):
                value = given(**arguments)
                return _ended(value) if inspect.iscoroutine(value) else value
        finally:
            CURRENT_ACTIVITY.reset(token)

    def _secret(self, reference: SecretReference, activity: str) -> Secret:
        for label in (reference.label, f"{reference.vault}/{reference.name}", reference.name):
            if label in self._secrets:
                return Secret(self._secrets[label], reference.label)
        raise _NotGiven(
            f"the test gives no secret {reference.label} for activity {activity};"
            f' add secrets={{"{reference.label}": "…"}}'
        )


class _NotGiven(Exception):
    """The test lacks something."""


class _Live:
    """Carries out commands with what the test gives."""

    replaying = False

    def __init__(self, given: _Given, instance: str) -> None:
        self._given = given
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

    def go_on(self) -> bool:
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
        return self._given.has_event(leaf.name) if leaf.kind == "event" else leaf.kind != "timer"

    def _outcome(self, leaf: Leaf[Any]) -> Outcome:
        if leaf.kind == "timer":
            return Outcome(leaf.due)
        if leaf.kind == "event":
            return Outcome(self._time, self._given.event(leaf.name, leaf.wanted))
        return self._given.outcome(leaf, self._time)


class _Recorded:
    """Gives what was recorded, up to a point."""

    replaying = False

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

    def go_on(self) -> bool:
        if not self._left:
            return False
        index, outcome = self._left.pop(0)
        leaf = self._open.pop(index, None)
        if leaf is not None:
            leaf.settle(outcome)
        return True


def _call(leaf: Leaf[Any]) -> Call:
    arguments: dict[str, Any] = {}
    if leaf.payload:
        arguments = from_json(leaf.payload[2:].encode(), dict[str, Any], leaf.name) if leaf.payload[:2] == "p:" else {}
    return Call(leaf.index, leaf.kind, leaf.name, arguments, max(0.0, leaf.due - leaf.since) if leaf.due else 0.0)


def _shown(call: Call) -> str:
    return f"{call.seconds:g} s" if call.kind == "timer" else str(dict(call.arguments))


def _ended(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, also where a loop runs already: in a test that is itself ``async``."""
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(context.run, asyncio.run, work).result()


__all__ = ["Call", "Replay", "replay_history", "replay_instance"]
