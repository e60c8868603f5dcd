"""Runs one turn of an instance on the Durable Task SDK: the driver's commands become its tasks.

Rules:
    - The orchestration's code is an ``async def``; the SDK is given a generator that yields one task at a time, which
      is completed when what the code awaits has ended.
    - Every attempt of an activity is an activity call of its own, and every wait between two is a durable timer: a
      worker that waits holds nothing, and hosts that limit the time of an activity are satisfied.
    - The order in which things end is the order of the history, so which came first needs no record.
    - A cancellation is an external event.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from durabletask import task

from keyleaf.orchestrate.activity_call import ActivityCall
from keyleaf.orchestrate.driver import Driver, Finished, input_purpose
from keyleaf.orchestrate.engines.base import FAN_OUT, EngineContext, Start, Waiting
from keyleaf.orchestrate.engines.carrying import carried_outcomes
from keyleaf.orchestrate.engines.ending import end_of
from keyleaf.orchestrate.envelope import AttemptNote, Blocked, Envelope, unpack
from keyleaf.orchestrate.errors import ActivityFailed, InstanceCancelled, OrchestrationFailed, UnknownOrchestration
from keyleaf.orchestrate.outcomes import Message, event_outcome, outcome_of
from keyleaf.orchestrate.tasks import First, Leaf, Outcome, Task

CANCEL = "keyleaf.cancel"
_SHOWN = 20
_KEPT = 200


class FlowEnded(Exception):
    """An instance ended other than with a value. The message is the packed envelope."""


class Board(msgspec.Struct, omit_defaults=True):
    """The custom status as keyleaf writes it.

    Attributes:
        status: the author's text.
        progress: calls of each activity that is called often: ended, and in all.
        commands: number, kind and name of timers and events, whose history events do not tell.
    """

    status: str = ""
    waiting: list[Waiting] = []
    blocked: list[Blocked] = []
    commands: list[tuple[int, str, str]] = []
    progress: dict[str, tuple[int, int]] = {}


class _Observer(task.CompositeTask[None]):
    """Calls back when a task has ended, in the order of the history."""

    def __init__(self, observed: task.Task[Any], callback: Callable[[task.Task[Any]], None]) -> None:
        self._callback = callback
        super().__init__([observed])

    def on_child_completed(self, child: task.Task[Any]) -> None:
        self._callback(child)


class DurablePort:
    """Carries out the commands of one replay."""

    def __init__(self, context: EngineContext, turn: task.OrchestrationContext, start: Start, expect: Any) -> None:
        self._context = context
        self._turn = turn
        self._start = start
        self._expect = expect
        self._open: dict[int, Leaf[Any]] = {}
        self._board = Board()
        self._progress: dict[str, tuple[int, int]] = {}
        self._wake: task.CompletableTask[None] | None = None
        self._observers: list[_Observer] = []
        self.timed_out = False
        self._observe(turn.wait_for_external_event(CANCEL), self._cancel)

    @property
    def replaying(self) -> bool:
        """Whether the SDK is repeating the history."""
        return self._turn.is_replaying

    def start(self, leaf: Leaf[Any]) -> None:
        """Begin a command."""
        self._open[leaf.index] = leaf
        leaf.tell(lambda _: self._ended(leaf))
        if leaf.kind == "activity":
            self._called(leaf, ended=False)
            self._attempt(leaf, 1, ())
        elif leaf.kind == "timer":
            self._note(leaf)
            self._show(Waiting("timer", leaf.name, leaf.since, leaf.due, index=leaf.index))
            timer = self._turn.create_timer(_moment(leaf.due))
            self._observe(timer, lambda _: leaf.settle(Outcome(leaf.due)))
        elif leaf.kind == "event":
            self._note(leaf)
            self._show(Waiting("event", leaf.name, leaf.since, index=leaf.index))
            self._observe(self._turn.wait_for_external_event(leaf.name), lambda done: self._event(leaf, done))
        else:
            self._child(leaf)

    def race(self, race: First) -> None:
        """Begin to see which comes first."""
        race.watch()

    def candidate(self, race: First) -> None:
        """The first child of the race has ended: the history has the order."""
        race.choose(race.candidate or 0)

    def status(self, text: str) -> None:
        """Show a custom status."""
        self._board.status = text
        self._publish()

    def limit(self, seconds: float) -> None:
        """End the instance after so long."""

        def over(_: task.Task[Any]) -> None:
            self.timed_out = True
            self._awake()

        self._observe(self._turn.create_timer(_moment(self._start.created + seconds)), over)

    def wait(self, awaited: Task[Any]) -> task.Task[None]:
        """The task that the SDK waits for while the code waits for ``awaited``."""
        self._wake = task.CompletableTask()
        awaited.tell(lambda _: self._awake())
        return self._wake

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.is_complete:
            self._wake.complete(None)

    def _observe(self, observed: task.Task[Any], callback: Callable[[task.Task[Any]], None]) -> None:
        self._observers.append(_Observer(observed, callback))

    # Activities.

    def _attempt(self, leaf: Leaf[Any], number: int, notes: tuple[AttemptNote, ...]) -> None:
        if leaf.settled:
            return
        text = ""  # what was called before is not called again: its input is in the history
        if not self.replaying:
            driver = leaf.driver
            call = ActivityCall(
                driver.instance, driver.definition.name, leaf.name, leaf.index, leaf.payload, leaf.since, number
            )
            self._expect(call)
            text = msgspec.json.encode(call).decode()
        called: task.Task[Any] = self._turn.call_activity(leaf.name, input=text)
        self._observe(called, lambda done: self._attempted(leaf, number, notes, done))

    def _attempted(self, leaf: Leaf[Any], number: int, notes: tuple[AttemptNote, ...], done: task.Task[Any]) -> None:
        if leaf.settled:
            return
        if done.is_failed:
            details = done.get_exception().details
            error = ActivityFailed(leaf.name, details.error_type, details.message, attempts=number)
            leaf.settle(Outcome(leaf.since, error=error))
            return
        envelope = unpack(done.get_result())
        notes = (*notes, *envelope.notes)
        if envelope.kind in ("value", "cancelled") or envelope.retry_in < 0:
            self._settle(leaf, envelope)
            return
        until = envelope.ended + envelope.retry_in
        if envelope.blocked is not None:
            detail = f"blocked on secret {envelope.blocked.secret}: {envelope.blocked.reason}"
            self._board.blocked = [*self._board.blocked, envelope.blocked][-_SHOWN:]
            self._show(Waiting("secret", leaf.name, leaf.since, envelope.blocked.deadline, detail, leaf.index))
        else:
            detail = f"attempt {number} failed: {notes[-1].error}"
            self._show(Waiting("retry", leaf.name, leaf.since, until, detail, leaf.index))
        following = number if envelope.kind == "blocked" else number + 1

        def again(_: task.Task[Any]) -> None:
            self._hide(leaf.index)
            self._attempt(leaf, following, notes)

        self._observe(self._turn.create_timer(_moment(until)), again)

    def _settle(self, leaf: Leaf[Any], envelope: Envelope) -> None:
        leaf.settle(outcome_of(self._context.registry, self._context.codec, leaf, envelope, leaf.driver.instance))

    # Sub-orchestrations, events, cancellation.

    def _child(self, leaf: Leaf[Any]) -> None:
        instance = leaf.driver.child_instance(leaf.index)
        version = self._context.registry.orchestration(leaf.name).version
        payload = "" if self.replaying else leaf.payload
        start = Start(leaf.name, version, leaf.since, payload, parent=leaf.driver.instance, tags=self._start.tags)
        self._show(Waiting("child", instance, leaf.since, index=leaf.index))
        called: task.Task[Any] = self._turn.call_sub_orchestrator(
            leaf.name, input=msgspec.json.encode(start).decode(), instance_id=instance, version=version
        )

        def done(child: task.Task[Any]) -> None:
            text = child.get_exception().details.message if child.is_failed else child.get_result()
            try:
                ended = unpack(text)
            except msgspec.MsgspecError:
                reason = text or "it was terminated"
                leaf.settle(Outcome(leaf.since, error=OrchestrationFailed(instance, "engine", reason)))
                return
            kind = "error" if ended.kind == "cancelled" else ended.kind
            self._settle(leaf, msgspec.structs.replace(ended, kind=kind))

        self._observe(called, done)

    def _event(self, leaf: Leaf[Any], done: task.Task[Any]) -> None:
        message = msgspec.json.decode(done.get_result(), type=Message)
        leaf.settle(event_outcome(self._context.codec, leaf, message))

    def _cancel(self, done: task.Task[Any]) -> None:
        message = msgspec.json.decode(done.get_result(), type=Message)
        for leaf in list(self._open.values()):
            if not leaf.shielded:
                error = InstanceCancelled(f"{leaf.driver.instance} was cancelled: {message.cancel}")
                if leaf.kind == "child":
                    self._turn.send_event(
                        leaf.driver.child_instance(leaf.index), CANCEL, data=msgspec.json.encode(message).decode()
                    )
                leaf.settle(Outcome(message.at, error=error))

    # What is shown.

    def _ended(self, leaf: Leaf[Any]) -> None:
        self._open.pop(leaf.index, None)
        if leaf.kind == "activity":
            self._called(leaf, ended=True)
        self._hide(leaf.index)

    def _called(self, leaf: Leaf[Any], *, ended: bool) -> None:
        done, begun = self._progress.get(leaf.name, (0, 0))
        self._progress[leaf.name] = (done + ended, begun + (not ended))
        if begun + (not ended) >= FAN_OUT:
            self._board.progress = {**self._board.progress, leaf.name: self._progress[leaf.name]}
            if not self.replaying:
                self._publish()

    def _note(self, leaf: Leaf[Any]) -> None:
        self._board.commands = [*self._board.commands, (leaf.index, leaf.kind, leaf.name)][-_KEPT:]

    def _show(self, waiting: Waiting) -> None:
        kept = [each for each in self._board.waiting if each.index != waiting.index]
        self._board.waiting = [*kept, waiting][-_SHOWN:]
        self._publish()

    def _hide(self, index: int) -> None:
        if any(each.index == index for each in self._board.waiting):
            self._board.waiting = [each for each in self._board.waiting if each.index != index]
            if not any(each.kind == "secret" for each in self._board.waiting):
                self._board.blocked = []
            self._publish()

    def _publish(self) -> None:
        self._turn.set_custom_status(msgspec.json.encode(self._board).decode())


def orchestrator(context: EngineContext, name: str, expect: Any) -> Callable[..., Generator[Any, Any, str]]:
    """The generator function that the SDK runs for an orchestration."""

    def run(turn: task.OrchestrationContext, text: Any) -> Generator[Any, Any, str]:
        start = msgspec.json.decode(text, type=Start)
        instance = turn.instance_id
        try:
            definition = context.registry.orchestration(start.name, start.version)
            data = context.codec.open(start.payload, input_purpose(instance))
            arguments = definition.parameters.decode(data, f"{instance}: the input of orchestration {start.name}")
        except UnknownOrchestration:
            # Work is filtered by version; a scheduler without filters makes the instance wait for one that has it.
            turn.set_custom_status(msgspec.json.encode(Board(f"no worker has version {start.version}")).decode())
            yield task.CompletableTask()
            raise
        except Exception as error:
            return _output(context, instance, start, Finished(error=error), start.created)
        port = DurablePort(context, turn, start, expect)
        driver = Driver(
            definition,
            instance,
            arguments,
            start.created,
            port,
            context.codec,
            carried=carried_outcomes(context, start.carried),
        )
        if definition.timeout is not None:
            port.limit(definition.timeout)
        try:
            while True:
                finished = driver.advance()
                if finished is not None:
                    break
                assert driver.waiting is not None
                yield port.wait(driver.waiting)
                if port.timed_out:
                    finished = Finished(error=TimeoutError(f"{instance} did not end within {definition.timeout:g} s"))
                    break
        finally:
            driver.close()
        return _output(context, instance, start, finished, driver.time)

    run.__name__ = name
    return run


def _output(context: EngineContext, instance: str, start: Start, finished: Finished, now: float) -> str:
    """What is recorded of the end. Raises FlowEnded unless it is a value."""
    completed, text = end_of(context, instance, start, finished, now)
    if not completed:
        raise FlowEnded(text)
    return text


def _moment(seconds: float) -> datetime:
    """A time as the SDK writes it: UTC without a zone."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).replace(tzinfo=None)
