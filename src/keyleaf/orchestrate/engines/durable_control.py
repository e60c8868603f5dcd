"""Looks at instances on a Durable Task backend and acts on them."""

from __future__ import annotations

import builtins
import functools
import logging
import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar
from urllib.parse import parse_qs, urlsplit

import grpc
import msgspec
from durabletask import history
from durabletask.client import (
    AsyncTaskHubGrpcClient,
    OrchestrationQuery,
    OrchestrationState,
    OrchestrationStatus,
    TaskHubGrpcClient,
)

from keyleaf.core.errors import InputError
from keyleaf.orchestrate.activity_call import ActivityCall
from keyleaf.orchestrate.engines.base import ENDED, InstanceView, Query, Start, State, StepView
from keyleaf.orchestrate.engines.durable_run import CANCEL, Board
from keyleaf.orchestrate.envelope import Envelope, unpack
from keyleaf.orchestrate.errors import EngineUnreachable, InstanceInUse, InstanceNotFound
from keyleaf.orchestrate.outcomes import Message

LOG = logging.getLogger("keyleaf.orchestrate.durabletask")
LOG.setLevel(logging.CRITICAL)

_STATES: dict[OrchestrationStatus, State] = {
    OrchestrationStatus.RUNNING: "running",
    OrchestrationStatus.COMPLETED: "completed",
    OrchestrationStatus.FAILED: "failed",
    OrchestrationStatus.TERMINATED: "terminated",
    OrchestrationStatus.CONTINUED_AS_NEW: "running",
    OrchestrationStatus.PENDING: "pending",
    OrchestrationStatus.SUSPENDED: "suspended",
}


_ANSWERS_WITHIN = 5.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """Where a Durable Task backend is.

    ``durabletask://host:port`` is a sidecar or emulator without sign-in; with ``?taskhub=name`` it is the Durable Task
    Scheduler of Azure, which is signed in to with DefaultAzureCredential over TLS (``&insecure=1`` for its emulator).
    """

    host: str
    taskhub: str
    secure: bool

    @staticmethod
    def parse(url: str) -> Address:
        """Raises InputError."""
        try:
            parts = urlsplit(url)
            query = parse_qs(parts.query, strict_parsing=bool(parts.query))
            port = parts.port
        except ValueError as error:
            raise InputError(f"the engine's URL is not usable: {error}", hint="use durabletask://host:port") from None
        others = set(query) - {"taskhub", "insecure"}
        if not parts.hostname or parts.username is not None or parts.path.strip("/") or others:
            raise InputError("the engine's URL is not usable", hint="use durabletask://host:port or …?taskhub=name")
        taskhub = query.get("taskhub", [""])[0]
        host = f"{parts.hostname}:{port}" if port else parts.hostname
        return Address(host, taskhub, bool(taskhub) and "insecure" not in query)

    def credential(self, *, asynchronous: bool = False) -> Any:
        """DefaultAzureCredential for a scheduler with sign-in, else None."""
        if not self.secure:
            return None
        if asynchronous:
            from azure.identity.aio import DefaultAzureCredential as Asynchronous

            return Asynchronous()
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential()

    def client(self) -> TaskHubGrpcClient:
        """A client for any thread."""
        if self.taskhub:
            from durabletask.azuremanaged.client import DurableTaskSchedulerClient

            return DurableTaskSchedulerClient(
                host_address=self.host,
                taskhub=self.taskhub,
                token_credential=self.credential(),
                secure_channel=self.secure,
                logger=LOG,
            )
        return TaskHubGrpcClient(host_address=self.host, logger=LOG, emit_trace_spans=False)

    def asynchronous_client(self) -> AsyncTaskHubGrpcClient:
        """A client for the running loop."""
        if self.taskhub:
            from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient

            return AsyncDurableTaskSchedulerClient(
                host_address=self.host,
                taskhub=self.taskhub,
                token_credential=self.credential(asynchronous=True),
                secure_channel=self.secure,
                logger=LOG,
            )
        return AsyncTaskHubGrpcClient(host_address=self.host, logger=LOG, emit_trace_spans=False)


def _asks(method: Callable[P, T]) -> Callable[P, T]:
    """What the backend does wrong is told in one line."""

    @functools.wraps(method)
    def asked(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except grpc.RpcError as error:
            named = args[1] if len(args) > 1 and isinstance(args[1], str) else ""
            raise refused(error, named) from None

    return asked


class DurableControl:
    """See :class:`keyleaf.orchestrate.engines.base.Control`. Each method raises EngineUnreachable."""

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._client = self._address.client()
        require_answer(self._address)

    @_asks
    def start(self, instance: str, start: Start, queue: str) -> None:
        self._client.schedule_new_orchestration(
            start.name,
            input=msgspec.json.encode(start).decode(),
            instance_id=instance,
            tags=start.tags or None,
            version=start.version,
        )

    @_asks
    def get(self, instance: str) -> InstanceView | None:
        state = self._client.get_orchestration_state(instance)
        return view_of(state) if state is not None else None

    @_asks
    def list(self, query: Query) -> list[InstanceView]:
        wanted = OrchestrationQuery(
            created_time_from=_moment(query.since),
            created_time_to=_moment(query.until),
            instance_id_prefix=query.prefix or None,
            fetch_inputs_and_outputs=True,
        )
        found = [view_of(state) for state in self._client.get_all_orchestration_states(wanted)]
        kept = [
            view
            for view in found
            if (not query.states or view.state in query.states)
            and (not query.name or view.name == query.name)
            and all(view.tags.get(key) == value for key, value in query.tags)
        ]
        return sorted(kept, key=lambda view: view.created, reverse=True)[: query.limit]

    @_asks
    def steps(self, instance: str) -> builtins.list[StepView]:
        state = self._client.get_orchestration_state(instance)
        if state is None:
            return []
        return steps_of(self._client.get_orchestration_history(instance), _board(state))

    @_asks
    def signal(self, instance: str, event: str, message: str) -> None:
        self._client.raise_orchestration_event(instance, event, data=message)

    def cancel(self, instance: str, reason: str) -> None:
        message = Message(CANCEL, time.time(), cancel=reason or "no reason was given")
        self.signal(instance, CANCEL, msgspec.json.encode(message).decode())

    @_asks
    def terminate(self, instance: str, reason: str) -> None:
        self._client.terminate_orchestration(instance, output=reason or None, recursive=True)

    @_asks
    def suspend(self, instance: str, reason: str) -> None:
        self._client.suspend_orchestration(instance, reason=reason or None)

    @_asks
    def resume(self, instance: str) -> None:
        self._client.resume_orchestration(instance)

    def close(self) -> None:
        self._client.close()


def require_answer(address: Address) -> None:
    """Raises EngineUnreachable unless somebody listens there."""
    target = address.host if ":" in address.host else f"{address.host}:443"
    options = [("grpc.enable_retries", 0)]
    secure = address.secure
    channel = (
        grpc.secure_channel(target, grpc.ssl_channel_credentials(), options)
        if secure
        else grpc.insecure_channel(target, options)
    )
    heard: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
    channel.subscribe(heard.put, try_to_connect=True)
    end = time.monotonic() + _ANSWERS_WITHIN
    state = None
    with suppress(queue.Empty):
        while state not in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
            state = heard.get(timeout=max(0.0, end - time.monotonic()))
    channel.close()
    if state is not grpc.ChannelConnectivity.READY:
        raise EngineUnreachable(
            f"no Durable Task backend answers at {address.host}", hint="look at KEYLEAF_ORCHESTRATOR"
        ) from None


def refused(error: grpc.RpcError, instance: str) -> Exception:
    """An error of the backend in keyleaf's words."""
    code = error.code() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    if code == grpc.StatusCode.ALREADY_EXISTS:
        return InstanceInUse(f"instance {instance} exists already")
    if code == grpc.StatusCode.NOT_FOUND:
        return InstanceNotFound(f"no instance is called {instance}")
    return EngineUnreachable(f"the Durable Task backend refused: {code.name if code is not None else error}")


def view_of(state: OrchestrationState) -> InstanceView:
    """An instance from the backend's state."""
    text = msgspec.json.decode(state.serialized_input) if state.serialized_input else ""
    start = msgspec.json.decode(text, type=Start) if isinstance(text, str) and text else Start(state.name, "", 0.0, "")
    board = _board(state)
    shown = _STATES[state.runtime_status]
    result, error = "", ""
    if shown == "completed":
        result = msgspec.json.decode(state.serialized_output or '""')
    elif shown == "failed" and state.failure_details is not None:
        error = state.failure_details.message
        try:
            shown = "cancelled" if unpack(error).kind == "cancelled" else "failed"
        except msgspec.MsgspecError:
            error = f"engine: {state.failure_details.error_type}: {error}"
    live = shown not in ENDED
    return InstanceView(
        state.instance_id,
        state.name,
        start.version,
        shown,
        state.created_at.replace(tzinfo=UTC).timestamp(),
        state.last_updated_at.replace(tzinfo=UTC).timestamp(),
        board.status,
        dict(start.tags),
        start.parent,
        "",
        tuple(board.waiting) if live else (),
        tuple(board.blocked) if live else (),
        start,
        result,
        error,
        dict(board.progress) if live else {},
    )


def steps_of(events: builtins.list[history.HistoryEvent], board: Board) -> builtins.list[StepView]:
    """The commands of an instance from its history; an activity with all its attempts."""
    called: dict[int, ActivityCall] = {}
    children: dict[int, history.SubOrchestrationInstanceCreatedEvent] = {}
    attempts: dict[int, list[Envelope]] = {}
    steps: dict[int, StepView] = {}
    unclaimed = [(index, kind, name) for index, kind, name in board.commands if kind == "event"]
    fired: list[float] = []
    for event in events:
        if isinstance(event, history.TaskScheduledEvent) and event.input:
            called[event.event_id] = msgspec.json.decode(msgspec.json.decode(event.input), type=ActivityCall)
        elif isinstance(event, history.TaskCompletedEvent) and event.result:
            call = called[event.task_scheduled_id]
            gathered = attempts.setdefault(call.index, [])
            gathered.append(unpack(msgspec.json.decode(event.result)))
            last = gathered[-1]
            if last.kind in ("value", "cancelled") or last.retry_in < 0:
                steps[call.index] = StepView(
                    call.index, "activity", call.activity, gathered[0].started, last.ended, tuple(gathered)
                )
        elif isinstance(event, history.SubOrchestrationInstanceCreatedEvent):
            children[event.event_id] = event
        elif isinstance(
            event, history.SubOrchestrationInstanceCompletedEvent | history.SubOrchestrationInstanceFailedEvent
        ):
            _child_step(children[event.task_scheduled_id], event, steps)
        elif isinstance(event, history.EventRaisedEvent) and event.input and event.name != CANCEL:
            index = next((each for each, _, name in unclaimed if name.casefold() == event.name.casefold()), 0)
            if index:
                unclaimed = [each for each in unclaimed if each[0] != index]
                text = msgspec.json.decode(event.input)
                at = event.timestamp.replace(tzinfo=UTC).timestamp()
                steps[index] = StepView(index, "event", event.name, at, at, texts=(text,))
        elif isinstance(event, history.TimerFiredEvent):
            fired.append(event.fire_at.replace(tzinfo=UTC).timestamp())
    for index, kind, name in board.commands:
        if kind == "timer" and index not in steps and not any(each.index == index for each in board.waiting):
            at = max((each for each in fired), default=0.0)
            steps[index] = StepView(index, "timer", name, at, at, (Envelope("value", name, index, at, at),))
    return [steps[index] for index in sorted(steps)]


def _child_step(
    created: history.SubOrchestrationInstanceCreatedEvent,
    event: history.SubOrchestrationInstanceCompletedEvent | history.SubOrchestrationInstanceFailedEvent,
    steps: dict[int, StepView],
) -> None:
    if isinstance(event, history.SubOrchestrationInstanceCompletedEvent):
        text = msgspec.json.decode(event.result or '""')
    else:
        text = event.failure_details.message if event.failure_details is not None else ""
    try:
        envelope = unpack(text)
    except msgspec.MsgspecError:
        return
    index = int(created.instance_id.rsplit(".", 1)[-1])
    begun = created.timestamp.replace(tzinfo=UTC).timestamp()
    steps[index] = StepView(index, "child", created.name, begun, envelope.ended, (envelope,))


def _board(state: OrchestrationState) -> Board:
    if not state.serialized_custom_status:
        return Board()
    try:
        text = msgspec.json.decode(state.serialized_custom_status)
        return msgspec.json.decode(text, type=Board)
    except (msgspec.MsgspecError, TypeError):
        return Board()


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
