"""Orchestrations on the Durable Task SDK: Azure's Durable Task Scheduler, a sidecar, or the SDK's own backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import msgspec
from durabletask import task
from durabletask.worker import (
    ActivityWorkItemFilter,
    ConcurrencyOptions,
    OrchestrationWorkItemFilter,
    TaskHubGrpcWorker,
    WorkItemFilters,
)

from keyleaf.orchestrate.activity_call import ActivityCall
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.engines.base import EngineContext, InstanceView, Start
from keyleaf.orchestrate.engines.durable_control import LOG, Address, DurableControl, refused, view_of
from keyleaf.orchestrate.engines.durable_run import orchestrator
from keyleaf.orchestrate.envelope import pack
from keyleaf.orchestrate.errors import DefinitionError, EngineUnreachable

_ACTIVITIES = 1000
"""Activities that may wait or run at once; each holds a thread of the SDK while it does."""


_EXPECTED_FOR = 2.0
"""Seconds after which an activity that was called is not expected here any more: another worker has it, perhaps."""


class DurableEngine:
    """See :class:`keyleaf.orchestrate.engines.base.Engine`."""

    quiet = 0.25

    def __init__(self, url: str) -> None:
        self._address = Address.parse(url)
        self._control = DurableControl(url)
        self._worker: TaskHubGrpcWorker | None = None
        self._client: Any = None
        self._context: EngineContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._expected: dict[tuple[str, int, int], Any] = {}

    @property
    def control(self) -> DurableControl:
        return self._control

    def check(self, registry: Registry) -> None:
        """Durable Task has neither queues with limits nor cron; both would be promised and not kept."""
        for name, versions in registry.orchestrations.items():
            for definition in versions.values():
                if definition.queue is not None:
                    raise DefinitionError(
                        f"orchestration {name} declares queue {definition.queue.name}, and Durable Task has no queues"
                        " with limits",
                        hint="use PostgreSQL, or limit the calls inside its activities",
                    )
                if definition.cron:
                    raise DefinitionError(
                        f"orchestration {name} declares cron {definition.cron!r}, and Durable Task has no cron",
                        hint="use PostgreSQL, or start it from a timer trigger of Azure Functions",
                    )

    async def serve(self, context: EngineContext) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._client = self._address.asynchronous_client()
        worker = self._make_worker()
        for name in context.registry.orchestrations:
            worker._registry.add_named_orchestrator(name, orchestrator(context, name, self._expect))  # type: ignore[arg-type]
        for name in context.registry.activities:
            worker._registry.add_named_activity(name, self._activity(context))
        worker.use_work_item_filters(
            WorkItemFilters(
                [
                    OrchestrationWorkItemFilter(name, list(versions))
                    for name, versions in context.registry.orchestrations.items()
                ],
                [ActivityWorkItemFilter(name) for name in context.registry.activities],
            )
        )
        self._worker = worker
        await asyncio.to_thread(worker.start)

    def _make_worker(self) -> TaskHubGrpcWorker:
        concurrency = ConcurrencyOptions(
            maximum_concurrent_activity_work_items=_ACTIVITIES, maximum_thread_pool_workers=_ACTIVITIES + 50
        )
        if self._address.taskhub:
            from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker

            return DurableTaskSchedulerWorker(
                host_address=self._address.host,
                taskhub=self._address.taskhub,
                token_credential=self._address.credential(),
                secure_channel=self._address.secure,
                concurrency_options=concurrency,
                logger=LOG,
            )
        return TaskHubGrpcWorker(
            host_address=self._address.host, concurrency_options=concurrency, logger=LOG, emit_trace_spans=False
        )

    async def begin(self, instance: str, start: Start, queue: str) -> None:
        try:
            await self._client.schedule_new_orchestration(
                start.name,
                input=msgspec.json.encode(start).decode(),
                instance_id=instance,
                tags=start.tags or None,
                version=start.version,
            )
        except grpc.RpcError as error:
            raise refused(error, instance) from None

    async def result(self, instance: str, timeout: float | None) -> InstanceView:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    state = await self._client.wait_for_orchestration_completion(instance, timeout=30)
                except TimeoutError:
                    continue
                except grpc.RpcError as error:
                    if error.code() == grpc.StatusCode.UNAVAILABLE:
                        await asyncio.sleep(0.5)
                        continue
                    raise refused(error, instance) from None
                if state is None:
                    raise EngineUnreachable(f"the backend does not know {instance}")
                return view_of(state)

    async def stop(self) -> None:
        if self._worker is not None:
            await asyncio.to_thread(self._worker.stop)
        if self._client is not None:
            await self._client.close()
        self._control.close()

    def _expect(self, call: ActivityCall) -> None:
        """An activity was called: reads of its secrets are worth waiting for it. Called on the SDK's threads."""
        context, loop = self._context, self._loop
        assert context is not None
        assert loop is not None
        definition = context.registry.activities.get(call.activity)
        if definition is None or not definition.secrets or context.reader is None:
            return
        references = list(definition.secrets.values())

        place = call.instance, call.index, call.attempt

        def note() -> None:
            self._expected[place] = context.reader.expect(references)
            loop.call_later(_EXPECTED_FOR, give_up)

        def give_up() -> None:
            expectation = self._expected.pop(place, None)
            if expectation is not None:
                expectation.close()

        loop.call_soon_threadsafe(note)

    def _activity(self, context: EngineContext) -> Callable[[task.ActivityContext, Any], str]:
        loop = self._loop
        assert loop is not None

        async def attempt(call: ActivityCall) -> str:
            expectation = self._expected.pop((call.instance, call.index, call.attempt), None)
            try:
                return pack(await context.runner.attempt(call, expectation=expectation))
            finally:
                if expectation is not None:
                    expectation.close()

        def run(_: task.ActivityContext, text: Any) -> str:
            call = msgspec.json.decode(text, type=ActivityCall)
            return asyncio.run_coroutine_threadsafe(attempt(call), loop).result()

        return run
