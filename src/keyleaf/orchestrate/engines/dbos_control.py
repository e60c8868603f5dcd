"""Looks at instances on DBOS and acts on them, from any process."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

import msgspec
import sqlalchemy as sa
from dbos import DBOSClient, WorkflowStatus
from dbos import error as dbos_error

from keyleaf.orchestrate.engines.base import ENDED, InstanceView, Query, Start, State, StepView, Waiting
from keyleaf.orchestrate.engines.dbos_run import CHOICE, TIMER
from keyleaf.orchestrate.engines.dbos_store import (
    APPLICATION,
    BLOCKED,
    CONTROL,
    PROGRESS,
    QUEUE,
    REASON,
    STATUS,
    TAG,
    VERSION,
    WAITING,
    WORKER,
    FlowEnded,
    TextSerializer,
    reason_of,
)
from keyleaf.orchestrate.envelope import Blocked, unpack
from keyleaf.orchestrate.errors import EngineUnreachable, InstanceInUse, InstanceNotFound
from keyleaf.orchestrate.outcomes import Message

P = ParamSpec("P")
T = TypeVar("T")

_STATES: dict[str, State] = {
    "PENDING": "running",
    "ENQUEUED": "pending",
    "DELAYED": "pending",
    "SUCCESS": "completed",
    "ERROR": "failed",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
    "CANCELLED": "terminated",
}
_CHUNK = 500
_CLOCK = 1.5
_CHILD = "keyleaf.child "


def _asks(method: Callable[P, T]) -> Callable[P, T]:
    """What the database does wrong is told in one line."""

    @functools.wraps(method)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except sa.exc.SQLAlchemyError as error:
            if "no such table" in str(error) or "UndefinedTable" in type(getattr(error, "orig", None)).__name__:
                raise EngineUnreachable(
                    "no worker has served the engine's database yet", hint="start a worker first"
                ) from None
            raise EngineUnreachable(f"the engine's database failed: {reason_of(error)}") from None

    return asked


class DbosControl:
    """See :class:`keyleaf.orchestrate.engines.base.Control`. Each method raises EngineUnreachable."""

    def __init__(self, database: sa.Engine) -> None:
        self._filters = database.dialect.name == "postgresql"
        self._client = DBOSClient(
            system_database_engine=database, serializer=TextSerializer(), application_name=APPLICATION
        )

    @_asks
    def start(self, instance: str, start: Start, queue: str) -> None:
        try:
            self._client.enqueue(
                {
                    "queue_name": queue or QUEUE,
                    "workflow_name": start.name,
                    "workflow_id": instance,
                    "workflow_id_reuse_policy": "reject",
                    "app_version": VERSION,
                    "attributes": attributes_of(start),
                },
                msgspec.json.encode(start).decode(),
            )
        except dbos_error.DBOSWorkflowIDInUseError:
            raise InstanceInUse(f"instance {instance} exists already") from None

    @_asks
    def get(self, instance: str) -> InstanceView | None:
        found = self._client.list_workflows(workflow_ids=[instance])
        return view_of(found[0]) if found else None

    @_asks
    def list(self, query: Query) -> list[InstanceView]:
        statuses = sorted({status for status, state in _STATES.items() if state in _engine_states(query.states)})
        # On SQLite DBOS does not filter by attributes: the tags are compared here.
        attributes = {TAG + key: value for key, value in query.tags} if self._filters else {}
        found: list[InstanceView] = []
        offset = 0
        while len(found) < query.limit:
            page = self._client.list_workflows(
                status=statuses if query.states else None,
                name=query.name or None,
                start_time=_iso(query.since),
                end_time=_iso(query.until),
                attributes=attributes or None,
                workflow_id_prefix=query.prefix or None,
                sort_desc=True,
                limit=_CHUNK,
                offset=offset,
            )
            for status in page:
                if status.name.startswith("keyleaf.") or status.input is None:
                    continue
                view = view_of(status)
                tagged = all(view.tags.get(key) == value for key, value in query.tags)
                if tagged and (not query.states or view.state in query.states):
                    found.append(view)
            if len(page) < _CHUNK:
                break
            offset += _CHUNK
        return found[: query.limit]

    @_asks
    def steps(self, instance: str) -> builtins.list[StepView]:
        try:
            recorded = self._client.list_workflow_steps(instance)
        except dbos_error.DBOSNonExistentWorkflowError:
            recorded = []
        found: list[StepView] = []
        events = 0
        for each in recorded:
            step = _step(each, events)
            if step is not None:
                found.append(step)
            events += each["function_name"] == "DBOS.sleep"  # recorded with every wait for an event
        return found

    @_asks
    def signal(self, instance: str, event: str, message: str) -> None:
        try:
            self._client.send(instance, message, topic=event)
        except dbos_error.DBOSNonExistentWorkflowError:
            raise InstanceNotFound(f"no instance is called {instance}") from None

    @_asks
    def cancel(self, instance: str, reason: str) -> None:
        self._client.update_workflow_attributes(instance, {CONTROL: "cancel", REASON: reason}, merge=True)

    @_asks
    def terminate(self, instance: str, reason: str) -> None:
        self._client.update_workflow_attributes(instance, {CONTROL: "terminate", REASON: reason}, merge=True)
        self._client.cancel_workflow(instance, cancel_children=True)

    @_asks
    def suspend(self, instance: str, reason: str) -> None:
        self._client.update_workflow_attributes(instance, {CONTROL: "suspend", REASON: reason}, merge=True)
        self._client.cancel_workflow(instance)

    @_asks
    def resume(self, instance: str) -> None:
        self._client.update_workflow_attributes(instance, {CONTROL: "", REASON: ""}, merge=True)
        self._client.resume_workflow(instance, queue_name=QUEUE)

    @_asks
    def update(self, instance: str, attributes: dict[str, Any]) -> None:
        """Merge attributes into those of an instance."""
        self._client.update_workflow_attributes(instance, attributes, merge=True)

    @_asks
    def states(self, instances: builtins.list[str]) -> builtins.list[tuple[str, str, dict[str, Any]]]:
        """Id, DBOS status and attributes of instances."""
        found = self._client.list_workflows(workflow_ids=instances, load_input=False, load_output=False)
        return [(each.workflow_id, each.status, each.attributes or {}) for each in found]

    def close(self) -> None:
        self._client.destroy()


def attributes_of(start: Start) -> dict[str, Any]:
    """What DBOS keeps in the clear about an instance, to find it by."""
    return {TAG + key: value for key, value in start.tags.items()}


def view_of(status: WorkflowStatus) -> InstanceView:
    """An instance from its row."""
    given: Any = status.input
    arguments = given.get("args", ()) if isinstance(given, dict) else ()
    start = msgspec.json.decode(arguments[0], type=Start) if arguments else Start(status.name, "", 0.0, "")
    attributes: dict[str, Any] = status.attributes or {}
    state = _STATES.get(status.status, "failed")
    if status.status == "CANCELLED" and attributes.get(CONTROL) == "suspend":
        state = "suspended"
    result, error = "", ""
    if isinstance(status.error, FlowEnded):
        ended = unpack(status.error.text)
        state = "cancelled" if ended.kind == "cancelled" else "failed"
        error = status.error.text
    elif status.error is not None:
        error = f"engine: {status.error}"
    elif isinstance(status.output, str):
        result = status.output
    live = state not in ENDED
    # SQLite's clock, by which DBOS writes these, has whole seconds.
    created, updated = (status.created_at or 0) / 1000, (status.updated_at or 0) / 1000
    if abs(start.created - created) < _CLOCK:
        created = start.created
    with suppress(msgspec.MsgspecError):
        updated = unpack(result or error).ended
    return InstanceView(
        status.workflow_id,
        status.name,
        start.version,
        state,
        created,
        updated,
        attributes.get(STATUS, ""),
        {key.removeprefix(TAG): value for key, value in attributes.items() if key.startswith(TAG)},
        start.parent,
        attributes.get(WORKER, "") or (status.executor_id or ""),
        tuple(msgspec.convert(attributes.get(WAITING) or [], list[Waiting])) if live else (),
        tuple(msgspec.convert(attributes.get(BLOCKED) or [], list[Blocked])) if live else (),
        start,
        result,
        error,
        {name: (done, begun) for name, (done, begun) in (attributes.get(PROGRESS) or {}).items()} if live else {},
    )


def _engine_states(states: tuple[State, ...]) -> set[State]:
    wanted: set[State] = set(states)
    if wanted & {"suspended", "terminated"}:
        wanted |= {"terminated"}
    if wanted & {"cancelled", "failed"}:
        wanted |= {"failed"}
    return wanted


def _step(each: Any, events: int) -> StepView | None:
    """A recorded step as a command. A wait for an event draws two of DBOS's step ids, every other command one."""
    name, output = each["function_name"], each["output"]
    started = (each.get("started_at_epoch_ms") or 0) / 1000
    ended = (each.get("completed_at_epoch_ms") or 0) / 1000
    if name == "DBOS.recv" and isinstance(output, str):
        message = msgspec.json.decode(output, type=Message)
        return StepView(each["function_id"] - events, "event", message.event, started, ended, texts=(output,))
    if name == CHOICE:
        return StepView(each["function_id"] - events, "choice", "", started, ended, texts=(str(output),))
    if name.startswith("DBOS.") or not isinstance(output, str):
        return None
    envelope = unpack(output)
    kind = "timer" if name == TIMER else "child" if name.startswith(_CHILD) else "activity"
    return StepView(envelope.index, kind, envelope.activity, envelope.started, envelope.ended, (envelope,))


def command_of(step: str) -> str:
    """A command in words, from the name of its DBOS step."""
    if step == TIMER:
        return "a timer"
    if step == CHOICE:
        return "a choice of the first"
    if step.startswith("DBOS."):
        return "a wait for an event"
    if step.startswith(_CHILD):
        return f"orchestration {step.removeprefix(_CHILD)}"
    return f"activity {step}"


def _iso(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None
