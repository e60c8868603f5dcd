"""Steps an ``async def`` orchestration deterministically.

Rules:
    - The orchestration's code runs only inside :meth:`Driver.advance`, on one thread, until it awaits a task that has
      not ended. Everything that it can observe (results, times, which of several came first) is recorded by the engine
      before it is observed, so running it again from the start takes the same way.
    - Commands are numbered in the order in which the code gives them. A carried result (restart from a step) or a
      recorded one is matched by that number and by kind and name; a mismatch is a NondeterminismError.
    - The time that the code sees is the greatest recorded time of what it has awaited.
    - A cancellation is delivered where the code waits, once. Commands given after that are shielded.
"""

from __future__ import annotations

import random as random_module
import threading
import uuid as uuid_module
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from keyleaf.orchestrate.definitions import ActivityDefinition, OrchestrationDefinition
from keyleaf.orchestrate.determinism import NondeterminismError, foreign_awaitable, orchestrating
from keyleaf.orchestrate.errors import CallError, EventTimeout, InstanceCancelled, NotAnException, is_interpreters
from keyleaf.orchestrate.payload import PayloadCodec
from keyleaf.orchestrate.tasks import All, EventWait, First, Leaf, LeafKind, Outcome, Task

LIMIT_OF = "time limit of event "
"""How the timer that limits a wait for an event is called."""


class Port(Protocol):
    """What an engine does for a running orchestration.

    Attributes:
        replaying: the commands given now are known to be in the history already.
    """

    @property
    def replaying(self) -> bool: ...

    def start(self, leaf: Leaf[Any]) -> None:
        """Carry out a command; ``leaf.settle`` is called when it has ended."""
        ...

    def race(self, race: First) -> None:
        """Begin a race: call ``race.watch()``, and ``race.choose`` with what is recorded."""
        ...

    def candidate(self, race: First) -> None:
        """A child of the race ended, and none was chosen yet."""
        ...

    def status(self, text: str) -> None:
        """Show a custom status."""
        ...


@dataclass(frozen=True)
class Finished:
    """The orchestration's code has ended: with a value or with an error."""

    value: Any = None
    error: BaseException | None = None


class _Here(threading.local):
    driver: Driver | None = None


_HERE = _Here()


def current_driver() -> Driver | None:
    """The run whose orchestration code is being stepped on this thread, if any."""
    return _HERE.driver


class Driver:
    """One run of one orchestration.

    Args:
        definition: what runs.
        instance: its id.
        arguments: its input by name.
        time: when it was started, seconds since 1970.
        port: carries out commands.
        codec: seals the inputs of commands.
        carried: outcomes of commands taken over from another run, by index.
    """

    def __init__(
        self,
        definition: OrchestrationDefinition,
        instance: str,
        arguments: dict[str, Any],
        time: float,
        port: Port,
        codec: PayloadCodec,
        *,
        carried: Callable[[Leaf[Any]], Outcome | None] | None = None,
    ) -> None:
        self.definition = definition
        self.instance = instance
        self.time = time
        self.port = port
        self.codec = codec
        self.cancel_delivered = False
        self.waiting: Task[Any] | None = None
        self.commands = 0
        self._arguments = arguments
        self._carried = carried
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._events: dict[str, Leaf[Any]] = {}
        self._uuids = 0
        self.random = random_module.Random(f"keyleaf:{instance}")  # noqa: S311 (repeatable on purpose)

    def advance(self) -> Finished | None:
        """Run the code until it awaits something that has not ended (then ``waiting`` is that), or ends."""
        outer = _HERE.driver
        _HERE.driver = self
        try:
            with orchestrating(self.definition.name):
                if self._coroutine is None:
                    self._coroutine = self.definition.function(**self._arguments)
                assert self._coroutine is not None
                yielded = self._coroutine.send(None)
            if not isinstance(yielded, Task) or yielded.driver is not self:
                raise foreign_awaitable(yielded, self._coroutine)
            self.waiting = yielded
            return None
        except StopIteration as stop:
            return Finished(stop.value)
        except Exception as error:
            self.close()
            return Finished(error=error)
        except BaseException as raised:
            if is_interpreters(raised):
                raise
            return Finished(error=NotAnException(raised))
        finally:
            _HERE.driver = outer

    def close(self) -> None:
        """Let go of the code without running it further."""
        if self._coroutine is not None:
            with suppress(RuntimeError):  # the code awaits while it is being closed
                self._coroutine.close()

    def saw(self, outcome: Outcome) -> None:
        """The code is given this outcome."""
        self.time = max(self.time, outcome.at)
        if isinstance(outcome.error, InstanceCancelled):
            self.cancel_delivered = True

    # What orchestration code asks for.

    def activity(self, definition: ActivityDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Leaf[Any]:
        """Start an activity."""
        index = self._next()
        what = f"{self.instance}: the input of activity {definition.name}"
        data = definition.parameters.encode(args, kwargs, what)
        return self._begin(
            self._with_input("activity", index, definition.name, data, self.purpose(index, "input"), what)
        )

    def child(self, definition: OrchestrationDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Leaf[Any]:
        """Start a sub-orchestration."""
        index = self._next()
        what = f"{self.instance}: the input of orchestration {definition.name}"
        data = definition.parameters.encode(args, kwargs, what)
        child = self.child_instance(index)
        return self._begin(self._with_input("child", index, definition.name, data, input_purpose(child), what))

    def timer(self, seconds: float, name: str = "timer") -> Leaf[None]:
        """Start a durable timer."""
        if not seconds >= 0:
            raise CallError(f"{self.instance}: a timer of {seconds} s cannot be set", hint="use 0 or more seconds")
        return self._begin(Leaf(self, "timer", self._next(), name, due=self.time + seconds))

    def event(self, name: str, timeout: float | None = None, wanted: Any = Any) -> Task[Any]:
        """Wait for an external event whose value is of type ``wanted``."""
        self.codec.check(name, f"{self.instance}: the name of an event")
        leaf = self._events.get(name)
        if leaf is not None and not leaf.taken and not leaf.abandoned:
            raise CallError(
                f"{self.instance} waits for event {name} twice at once", hint="give the events different names"
            )
        if leaf is None or leaf.taken:
            leaf = self._events[name] = Leaf(self, "event", self._next(), name)
            leaf.wanted = wanted
            self._begin(leaf)
        leaf.abandoned = False
        if timeout is None:
            return leaf
        race = self.first([leaf, self.timer(timeout, f"{LIMIT_OF}{name}")])
        return EventWait(self, race, leaf, EventTimeout(name, timeout))

    def all(self, tasks: Sequence[Task[Any]], *, return_exceptions: bool) -> All:
        """Wait for all."""
        return All(self, self._own(tasks), return_exceptions=return_exceptions)

    def first(self, tasks: Sequence[Task[Any]]) -> First:
        """Wait for the first."""
        if not tasks:
            raise CallError(f"{self.instance}: first() needs at least one task")
        race = First(self, self._next(), self._own(tasks))
        self.port.race(race)
        return race

    def set_status(self, text: object) -> None:
        """Show a custom status."""
        if not isinstance(text, str):
            str_only = type(text).__qualname__
            raise CallError(f"{self.instance}: set_status() takes text, not {str_only}")
        self.codec.check(text, f"{self.instance}: the custom status")
        self.port.status(text)

    def uuid(self) -> uuid_module.UUID:
        """A UUID that is the same at every replay (version 5 of instance and count)."""
        self._uuids += 1
        return uuid_module.uuid5(uuid_module.NAMESPACE_URL, f"keyleaf:{self.instance}:{self._uuids}")

    def child_instance(self, index: int) -> str:
        """The id of the sub-orchestration that command ``index`` starts."""
        return f"{self.instance}.{index}"

    def purpose(self, index: int, what: str) -> str:
        """What the payload of a command is bound to."""
        return f"{self.instance}/{index}/{what}"

    def _next(self) -> int:
        self.commands += 1
        return self.commands

    def _with_input(self, kind: LeafKind, index: int, name: str, data: bytes, purpose: str, what: str) -> Leaf[Any]:
        """A command with an input. What cannot be kept is refused here, where the code gives the command."""
        self.codec.require_fits(data, what)
        leaf: Leaf[Any] = Leaf(self, kind, index, name, seals=lambda: self.codec.seal(data, purpose, what))
        if not self.port.replaying:
            _ = leaf.payload
        return leaf

    def _begin(self, leaf: Leaf[Any]) -> Leaf[Any]:
        carried = self._carried(leaf) if self._carried is not None else None
        if carried is not None:
            leaf.settle(carried)
        else:
            self.port.start(leaf)
        return leaf

    def _own(self, tasks: Sequence[object]) -> list[Task[Any]]:
        own: list[Task[Any]] = []
        for task in tasks:
            if not isinstance(task, Task):
                name = getattr(task, "__qualname__", type(task).__name__)
                if isinstance(task, Coroutine):
                    task.close()
                raise NondeterminismError(
                    f"{self.instance}: gather() and first() take activities, timers, events and sub-orchestrations,"
                    f" not {name}",
                    hint="make the chain of steps an orchestration of its own and call that",
                )
            if task.driver is not self:
                raise NondeterminismError(f"{self.instance}: this task belongs to {task.driver.instance}")
            own.append(task)
        return own


def input_purpose(instance: str) -> str:
    """What the input of an instance is bound to."""
    return f"{instance}/input"


def output_purpose(instance: str) -> str:
    """What the output of an instance is bound to."""
    return f"{instance}/output"


def require_same(index: int, kind: LeafKind | str, name: str, leaf: Leaf[Any]) -> None:
    """Raises NondeterminismError unless the recorded command is the one that the code gives now."""
    if (kind, name) != (leaf.kind, leaf.name):
        raise changed_code(leaf.driver.instance, f"command {index}", f"{kind} {name}", f"{leaf.kind} {leaf.name}")


def changed_code(instance: str, place: str, recorded: str, given: str) -> NondeterminismError:
    """The error for a recorded command that is not the one that the code gives now."""
    return NondeterminismError(
        f"{instance}: {place} was {recorded} and is {given} now",
        hint="the code changed: give it a new version=… and keep the old one until its instances have ended",
    )
