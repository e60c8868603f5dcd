"""What an engine offers, whichever it is."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from keyleaf.client.guard import SecretGuard
from keyleaf.core.clock import Clock
from keyleaf.orchestrate.attempt import ActivityRunner
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.envelope import Blocked, Envelope
from keyleaf.orchestrate.payload import PayloadCodec

State = Literal["pending", "running", "suspended", "completed", "failed", "cancelled", "terminated"]
STATES: tuple[State, ...] = (
    "pending",
    "running",
    "suspended",
    "completed",
    "failed",
    "cancelled",
    "terminated",
)
ENDED: frozenset[State] = frozenset({"completed", "failed", "cancelled", "terminated"})


class Carried(msgspec.Struct, frozen=True, omit_defaults=True):
    """Results that a restarted instance takes over.

    Attributes:
        instance: whose results they are; what their payloads are bound to.
        before: commands with a smaller number are taken over.
        envelopes: the recorded outcomes, by command number.
    """

    instance: str
    before: int
    envelopes: dict[int, str] = {}


class Start(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an engine keeps as the input of an instance.

    Attributes:
        name, version: of the orchestration.
        created: seconds since 1970.
        payload: sealed arguments.
        parent: instance that started this one as a sub-orchestration.
        tags: to find it by; in the clear.
        carried: set by a restart from a step.
    """

    name: str
    version: str
    created: float
    payload: str
    parent: str = ""
    tags: dict[str, str] = {}
    carried: Carried | None = None


@dataclass(frozen=True)
class Waiting:
    """What an instance waits for.

    Attributes:
        kind: activity, timer, event, child, retry or secret.
        name: of it.
        since: seconds since 1970.
        until: time limit or due time; 0: none.
        detail: in words.
    """

    kind: str
    name: str
    since: float
    until: float = 0.0
    detail: str = ""
    index: int = 0


FAN_OUT = 10
"""Calls of one activity from which on their progress is shown."""


@dataclass(frozen=True)
class InstanceView:
    """An instance as it can be seen without the payload key.

    Attributes:
        progress: by activity: calls that have ended, and calls; only for those called ten times or more.
    """

    instance: str
    name: str
    version: str
    state: State
    created: float
    updated: float
    status: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    parent: str = ""
    worker: str = ""
    waiting: tuple[Waiting, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    start: Start | None = None
    result: str = ""
    error: str = ""
    progress: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepView:
    """One recorded command of an instance.

    Attributes:
        index: its number.
        kind: activity, timer, event, child or choice.
        envelopes: one for each recorded attempt (one in all where attempts share a record).
    """

    index: int
    kind: str
    name: str
    started: float
    ended: float
    envelopes: tuple[Envelope, ...] = ()
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """Which instances to list. Empty: any."""

    states: tuple[State, ...] = ()
    name: str = ""
    since: float = 0.0
    until: float = 0.0
    tags: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    limit: int = 100


class Control(Protocol):
    """Looks at instances and acts on them, from any process."""

    def start(self, instance: str, start: Start, queue: str) -> None:
        """Create an instance. Raises InstanceInUse if the id is taken."""
        ...

    def get(self, instance: str) -> InstanceView | None:
        """The instance, or None."""
        ...

    def list(self, query: Query) -> list[InstanceView]:
        """Instances, newest first."""
        ...

    def steps(self, instance: str) -> builtins.list[StepView]:
        """The recorded commands of an instance in order."""
        ...

    def signal(self, instance: str, event: str, message: str) -> None:
        """Send an external event."""
        ...

    def cancel(self, instance: str, reason: str) -> None:
        """Ask it to end; it may undo things first."""
        ...

    def terminate(self, instance: str, reason: str) -> None:
        """End it where it stands."""
        ...

    def suspend(self, instance: str, reason: str) -> None:
        """Stop it at its next step until it is resumed."""
        ...

    def resume(self, instance: str) -> None:
        """Go on."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Engine(Protocol):
    """Runs orchestrations in this process.

    Attributes:
        quiet: seconds that may pass between the starts of activities that were called at once.
    """

    quiet: float

    @property
    def control(self) -> Control:
        """Looks at instances and acts on them."""
        ...

    def check(self, registry: Registry) -> None:
        """Raises DefinitionError for what this engine cannot do."""
        ...

    async def serve(self, context: EngineContext) -> None:
        """Begin to run instances; returns when ready."""
        ...

    async def begin(self, instance: str, start: Start, queue: str) -> None:
        """Start an instance from this process, quicker than ``control.start`` where the engine can."""
        ...

    async def result(self, instance: str, timeout: float | None) -> InstanceView:
        """Wait until it has ended. Raises TimeoutError."""
        ...

    async def stop(self) -> None:
        """Stop running instances; they go on at the next start."""
        ...


@dataclass(frozen=True)
class EngineContext:
    """What an engine needs to run instances."""

    registry: Registry
    runner: ActivityRunner
    codec: PayloadCodec
    reader: Any
    worker: str
    clock: Clock
    guard: SecretGuard
