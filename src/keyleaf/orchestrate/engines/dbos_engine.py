"""Orchestrations on DBOS, with SQLite in one process or Postgres in many."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import msgspec
import sqlalchemy as sa
from dbos import DBOS, SetWorkflowAttributes, SetWorkflowID
from dbos import error as dbos_error
from dbos._dbos import _get_dbos_instance
from dbos._utils import INTERNAL_QUEUE_NAME

from keyleaf.core.errors import StateError
from keyleaf.orchestrate.attempt import seal_error
from keyleaf.orchestrate.definitions import OrchestrationDefinition, Registry
from keyleaf.orchestrate.driver import Driver, Finished, changed_code, input_purpose, output_purpose
from keyleaf.orchestrate.engines.base import ENDED, EngineContext, InstanceView, Start, State
from keyleaf.orchestrate.engines.board import Board
from keyleaf.orchestrate.engines.carrying import carried_outcomes
from keyleaf.orchestrate.engines.dbos_control import DbosControl, attributes_of, command_of
from keyleaf.orchestrate.engines.dbos_declare import POLL, Scheduled, declare, require_queues_agree
from keyleaf.orchestrate.engines.dbos_run import DbosPort, run_to_end
from keyleaf.orchestrate.engines.dbos_store import (
    APPLICATION,
    BLOCKED,
    CRON,
    DATABASE_FAILED,
    STATUS,
    VERSION,
    WAITING,
    FlowEnded,
    TextSerializer,
    only_worker,
    open_engine,
    reason_of,
    statement,
)
from keyleaf.orchestrate.engines.ending import end_of
from keyleaf.orchestrate.engines.liveness import Liveness
from keyleaf.orchestrate.envelope import Envelope, unpack
from keyleaf.orchestrate.errors import (
    EngineUnreachable,
    InstanceInUse,
    UnknownOrchestration,
)
from keyleaf.orchestrate.running import Running, Stopped
from keyleaf.orchestrate.tasks import Leaf
from keyleaf.orchestrate.tracing import mark_failed, orchestration_span

LOG = logging.getLogger("keyleaf.orchestrate")

_AGAIN = 0.5
"""Seconds before the database is asked again after it failed."""

_BEGIN_TRIES = 10
_NOT_ITS_FAULT = "UPDATE dbos.workflow_status SET recovery_attempts = 0 WHERE workflow_uuid = :instance"

_RECOVERIES = 1000
"""Times that an instance may be begun again before it is given up: it may be what kills its worker."""


_BEGUN_HERE: contextvars.ContextVar[str] = contextvars.ContextVar("keyleaf_begun_here", default="")
"""The new instance that the call around this run has just created."""


class DbosEngine:
    """See :class:`keyleaf.orchestrate.engines.base.Engine`.

    DBOS keeps one application a process, so a process serves one engine at a time.
    """

    quiet = 0.05
    _in_process = False

    def __init__(self, url: str) -> None:
        self.database: sa.Engine = open_engine(url)
        self._control: DbosControl | None = None
        self._context: EngineContext | None = None
        self._board: Board | None = None
        self._liveness: Liveness | None = None
        self._running: dict[str, Running] = {}
        self._lock: int | None = None
        self._functions: dict[str, Callable[..., Awaitable[str]]] = {}
        self._here: dict[str, asyncio.Future[InstanceView | None]] = {}
        self._serves = False

    @property
    def control(self) -> DbosControl:
        """Made when it is first used: a worker must have made the tables before."""
        if self._control is None:
            self._control = DbosControl(self.database)
        return self._control

    def check(self, registry: Registry) -> None:
        """DBOS can do all that can be declared; two queues of one name must agree."""
        require_queues_agree(registry)

    async def serve(self, context: EngineContext) -> None:
        if DbosEngine._in_process:
            raise StateError(
                "this process runs a worker on DBOS already",
                hint="register all orchestrations in one, or use processes",
            )
        self._context = context
        self._lock = only_worker(self.database)
        self._serves = DbosEngine._in_process = True
        try:
            await self._launch(context)
        except sa.exc.SQLAlchemyError as error:
            raise EngineUnreachable(f"the engine's database failed: {reason_of(error)}") from None

    async def _launch(self, context: EngineContext) -> None:
        for name in ("dbos", "dbos.queue"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self.database.url.render_as_string(hide_password=False),
                "system_database_engine": self.database,
                "serializer": TextSerializer(),
                "application_version": VERSION,
                "executor_id": context.worker,
                "log_level": "CRITICAL",
                "use_listen_notify": self.database.dialect.name == "postgresql",
                "notification_listener_polling_interval_sec": POLL,
                "scheduler_polling_interval_sec": 1.0,
                "max_executor_threads": 64,
            }
        )
        for name in context.registry.orchestrations:
            self._functions[name] = DBOS.workflow(name=name, max_recovery_attempts=_RECOVERIES)(self._function(name))

        async def on_schedule(at: str, scheduled: dict[str, str]) -> str:
            return await self._on_schedule(str(at), Scheduled(**scheduled))

        cron = DBOS.workflow(name=CRON)(on_schedule)
        self._liveness = Liveness(self.database, context.worker, self._recover, self._hand_back, self._runs)
        await asyncio.to_thread(self._liveness.hold)
        DBOS.launch()
        await asyncio.to_thread(declare, context.registry, cron)
        self._board = Board(self.database, self.control, self._running)
        self._board.begin()
        self._liveness.begin()

    async def begin(self, instance: str, start: Start, queue: str) -> None:
        for left in range(_BEGIN_TRIES, 0, -1):
            try:
                await self._begin(instance, start, queue)
                return
            except DATABASE_FAILED as error:  # begun twice, it is found to exist
                if left == 1:
                    raise EngineUnreachable(
                        f"instance {instance} may not have started: the engine's database failed: {reason_of(error)}",
                        hint="start it again with the same id",
                    ) from None
                await asyncio.sleep(_AGAIN)

    async def _begin(self, instance: str, start: Start, queue: str) -> None:
        if queue or start.name not in self._functions:
            await asyncio.to_thread(self.control.start, instance, start, queue)
            return
        await self._in_fresh_context(self._start_here(instance, start))

    async def _start_here(self, instance: str, start: Start) -> None:
        text = msgspec.json.encode(start).decode()
        with (
            SetWorkflowID(instance, workflow_id_reuse_policy="reject"),
            SetWorkflowAttributes(attributes_of(start) or None),
        ):
            try:
                function: Any = self._functions[start.name]
                _BEGUN_HERE.set(instance)  # for the run that comes of this call alone, not for one that is recovered
                handle: Any = await DBOS.start_workflow_async(function, text)
            except dbos_error.DBOSWorkflowIDInUseError:
                raise InstanceInUse(f"instance {instance} exists already") from None
        ended = self._here[instance] = asyncio.ensure_future(self._ended_here(instance, start, handle))
        ended.add_done_callback(lambda _: self._here.pop(instance, None))

    async def _ended_here(self, instance: str, start: Start, handle: Any) -> InstanceView | None:
        """The view of an instance that has ended in this process, or None if the store has to be asked."""
        try:
            text, failure = await handle.get_result(), ""
        except FlowEnded as error:
            text, failure = "", error.text
        except Exception:
            return None
        assert self._context is not None
        state: State = "completed" if text else "cancelled" if unpack(failure).kind == "cancelled" else "failed"
        return InstanceView(
            instance,
            start.name,
            start.version,
            state,
            start.created,
            self._context.clock.now(),
            tags=dict(start.tags),
            parent=start.parent,
            worker=self._context.worker,
            start=start,
            result=text,
            error=failure,
        )

    async def result(self, instance: str, timeout: float | None) -> InstanceView:
        async with asyncio.timeout(timeout):
            ended = self._here.get(instance)
            if ended is not None:
                view = await asyncio.shield(ended)
                if view is not None:
                    return view
            wait = 0.02
            while True:
                try:
                    view = await asyncio.to_thread(self.control.get, instance)
                except DATABASE_FAILED as error:
                    LOG.warning("%s: the engine's database failed: %s", instance, reason_of(error))
                    view, wait = None, _AGAIN
                if view is not None and view.state in ENDED:
                    return view
                await asyncio.sleep(wait)
                wait = min(wait * 1.5, 2.0)

    async def stop(self) -> None:
        for running in tuple(self._running.values()):
            running.changed = lambda _: None
            running.stop()
        if self._board is not None:
            await self._board.end()
        if self._liveness is not None:
            await self._liveness.end()
        if self._serves:
            threads = ThreadPoolExecutor(thread_name_prefix="keyleaf")
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(
                threads, functools.partial(DBOS.destroy, destroy_registry=True, workflow_completion_timeout_sec=0)
            )
            loop.set_default_executor(threads)  # DBOS put its own in this place, and has ended it
            self._serves = DbosEngine._in_process = False
        if self._control is not None:
            self._control.close()
            self._control = None
        self.database.dispose()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _function(self, name: str) -> Callable[[str], Awaitable[str]]:
        async def run(text: str) -> str:
            return await self._run(text)

        run.__name__ = run.__qualname__ = f"keyleaf.{name}"
        return run

    async def _run(self, text: str) -> str:
        context = self._context
        assert context is not None
        assert self._board is not None
        instance = DBOS.workflow_id or ""
        start = msgspec.json.decode(text, type=Start)
        first_run = _BEGUN_HERE.get() == instance
        running = Running(instance, start.name, context.clock.now(), self._board.changed)
        self._running[instance] = running
        with orchestration_span(start.name, instance) as span:
            try:
                definition = await self._definition(start, running)
                finished = await self._drive(context, definition, instance, start, running, first_run)
            except Stopped:
                raise dbos_error.DBOSWorkflowCancelledError(f"{instance} was stopped") from None
            except DATABASE_FAILED as error:
                # What the database does is not the instance's outcome: it is run again by whoever finds it stranded.
                LOG.warning("%s begins again: the engine's database failed: %s", instance, reason_of(error))
                raise dbos_error.DBOSWorkflowConflictIDError(instance) from None
            finally:
                await self._board.settle(running)
                self._running.pop(instance, None)
            completed, text = end_of(context, instance, start, finished, context.clock.now())
            if not completed:
                mark_failed(span, type(finished.error).__qualname__)
                raise FlowEnded(text)
            return text

    async def _definition(self, start: Start, running: Running) -> OrchestrationDefinition:
        """The code of the instance; without it the instance waits for a worker that has it."""
        assert self._context is not None
        try:
            return self._context.registry.orchestration(start.name, start.version)
        except UnknownOrchestration as error:
            LOG.error("%s waits: %s", running.instance, error)
            running.status = f"waits for a worker that has {start.name} version {start.version}"
            running.changed(running)
            await running.pause(float("inf"), shielded=True)
            raise

    async def _drive(
        self,
        context: EngineContext,
        definition: OrchestrationDefinition,
        instance: str,
        start: Start,
        running: Running,
        first_run: bool,
    ) -> Finished:
        try:
            data = context.codec.open(start.payload, input_purpose(instance))
            arguments = definition.parameters.decode(data, f"{instance}: the input of orchestration {start.name}")
        except Exception as error:
            return Finished(error=error)
        port = DbosPort(context, start, running, self._child, first_run=first_run)
        driver = Driver(
            definition,
            instance,
            arguments,
            start.created,
            port,
            context.codec,
            carried=carried_outcomes(context, start.carried),
        )
        limit = None if definition.timeout is None else start.created + definition.timeout - context.clock.now()
        try:
            async with asyncio.timeout(limit):
                return await run_to_end(driver, port)
        except dbos_error.DBOSUnexpectedStepError as error:
            _, number, given, recorded = error.inputs
            return Finished(error=changed_code(instance, f"step {number}", command_of(recorded), command_of(given)))
        except TimeoutError:
            return Finished(error=TimeoutError(f"{instance} did not end within {definition.timeout:g} s"))

    async def _child(self, instance: str, start: Start, leaf: Leaf[Any], running: Running) -> Envelope:
        """Start a sub-orchestration, or find the one that was started, and wait for its end."""
        definition = self._context.registry.orchestration(start.name) if self._context else None
        queue = definition.queue.name if definition is not None and definition.queue is not None else ""
        begun = False
        while True:
            try:
                if not begun:
                    with suppress(InstanceInUse):
                        await self._in_fresh_context(self.begin(instance, start, queue))
                    begun = True
                view = await self.result(instance, 1.0)
                break
            except DATABASE_FAILED as error:
                LOG.warning("%s: the engine's database failed: %s", running.instance, reason_of(error))
                await asyncio.sleep(_AGAIN)
            except TimeoutError:
                if running.stopped:
                    raise dbos_error.DBOSWorkflowCancelledError(f"{running.instance} was stopped") from None
                if running.cancelled and not leaf.shielded:
                    await asyncio.to_thread(self.cancel_here, instance, running.cancelled)
        return self._child_envelope(view, leaf)

    def cancel_here(self, instance: str, reason: str) -> None:
        """Cancel an instance, at once if it runs in this process."""
        self.control.cancel(instance, reason)

    async def _on_schedule(self, at: str, scheduled: Scheduled) -> str:
        """Start what is due. The worker that hears of it need not have the orchestration."""
        assert self._context is not None
        instance = f"{scheduled.name}-{at[:16].replace(':', '')}"
        now, nothing = self._context.clock.now(), self._context.codec.seal(b"{}", input_purpose(instance))
        with suppress(InstanceInUse):
            start = Start(scheduled.name, scheduled.version, now, nothing)
            await self._in_fresh_context(self.begin(instance, start, scheduled.queue))
        return instance

    async def _in_fresh_context(self, work: Any) -> Any:
        """Run outside the DBOS workflow that may surround this call."""
        return await asyncio.get_running_loop().create_task(work, context=contextvars.Context())

    def _recover(self, executors: list[str]) -> None:
        DBOS._recover_pending_workflows(executors)

    def _hand_back(self, instance: str) -> None:
        """Back to the queue, as if it had not been taken: what strands an instance is not the instance's fault."""
        assert self._context is not None
        view = self.control.get(instance)
        if view is not None and view.name not in self._context.registry.orchestrations:
            self.control.update(
                instance, {STATUS: f"waits for a worker that has {view.name}", WAITING: [], BLOCKED: []}
            )
        with self.database.begin() as connection:
            connection.execute(statement(_NOT_ITS_FAULT, self.database), {"instance": instance})
        _get_dbos_instance()._sys_db.reenqueue_for_recovery(instance, [self._context.worker], INTERNAL_QUEUE_NAME)

    def _runs(self) -> set[str]:
        """The instances that this process runs, or is about to."""
        active = _get_dbos_instance()._active_workflows_set.activeList()
        return {*self._running, *active}

    def _child_envelope(self, view: InstanceView, leaf: Leaf[Any]) -> Envelope:
        """How a sub-orchestration ended, as its parent records it."""
        assert self._context is not None
        text = "engine: it was terminated" if view.state == "terminated" else view.result or view.error
        if text.startswith("engine: "):
            failure = RuntimeError(text.removeprefix("engine: "))
            body = seal_error(self._context.codec, self._context.guard, failure, output_purpose(view.instance))
            return Envelope("error", leaf.name, leaf.index, leaf.since, view.updated, view.worker, body)
        ended = msgspec.json.decode(text, type=Envelope)
        kind = "error" if ended.kind == "cancelled" else ended.kind
        return Envelope(kind, leaf.name, leaf.index, leaf.since, ended.ended, ended.worker, ended.body)
