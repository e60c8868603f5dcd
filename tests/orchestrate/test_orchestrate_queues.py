"""What a queue promises holds: how many run at once, over all workers and on one, and how many start in a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from dbos import DBOS

from keyleaf import Queue, Rate, Worker, activity, activity_info, gather, orchestration
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.engines.base import Query

pytestmark = pytest.mark.asyncio

ON_SQLITE = pytest.mark.parametrize("dbos_url", ["sqlite"], indirect=True)
ON_POSTGRES = pytest.mark.parametrize(
    "dbos_url", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


class Gate:
    """Lets activities in, counts them, and lets them out one by one."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.most = 0
        self._exits = asyncio.Semaphore(0)

    async def pass_through(self) -> None:
        """Come in, and wait to be let out."""
        self.inside.append(activity_info().instance)
        self.most = max(self.most, len(self.inside))
        await self._exits.acquire()
        self.inside.remove(activity_info().instance)

    def let_out(self, count: int = 1) -> None:
        """Let the next ones out."""
        for _ in range(count):
            self._exits.release()


def guarded(gate: Gate, queue: Queue) -> Registry:
    """A registry of two orchestrations that share a queue."""
    registry = Registry()

    @activity(registry=registry)
    async def enter(number: int) -> int:
        await gate.pass_through()
        return number

    @orchestration(registry=registry, queue=queue)
    async def visit(number: int) -> int:
        return int(await enter(number))

    @orchestration(registry=registry, queue=queue, name="revisit")
    async def again(number: int) -> int:
        return int(await enter(number))

    @orchestration(registry=registry)
    async def tour(count: int) -> list[int]:
        return list(await gather(*[visit(number) for number in range(count)]))

    return registry


async def met(condition: Callable[[], object], limit: float = 20.0) -> None:
    """Until a condition holds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit} s"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("dbos_url", "limit"),
    [
        ("sqlite", {"concurrency": 2}),
        ("sqlite", {"worker_concurrency": 2}),
        pytest.param("postgresql", {"concurrency": 2}, marks=pytest.mark.postgres),
    ],
    indirect=["dbos_url"],
)
async def test_no_more_run_at_once_than_the_queue_lets(dbos_url: str, limit: dict[str, Any]) -> None:
    gate = Gate()
    registry = guarded(gate, Queue("museum", **limit))
    async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
        for number in range(3):
            await worker.start("visit", number, instance=f"visit-{number}")
            await worker.start("revisit", number, instance=f"revisit-{number}")
        for left in range(6, 0, -1):
            await met(lambda left=left: len(gate.inside) == min(2, left))  # type: ignore[misc]
            states = [view.state for view in await asyncio.to_thread(worker.engine.control.list, Query())]
            assert states.count("running") <= 2
            assert states.count("pending") >= left - 2
            gate.let_out()
        assert [await worker.result(f"visit-{number}", 20) for number in range(3)] == [0, 1, 2]
        assert [await worker.result(f"revisit-{number}", 20) for number in range(3)] == [0, 1, 2]
        assert gate.most == 2


@ON_SQLITE
async def test_sub_orchestrations_line_up_too(dbos_url: str) -> None:
    gate = Gate()
    registry = guarded(gate, Queue("museum", concurrency=1))
    async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
        gate.let_out(4)
        assert await worker.run("tour", 4, timeout=20) == [0, 1, 2, 3]
        assert gate.most == 1


@ON_POSTGRES
async def test_no_more_start_in_a_time_than_the_queue_lets(dbos_url: str) -> None:
    gate = Gate()
    gate.let_out(5)
    registry = guarded(gate, Queue("museum", rate=Rate(2, 1.0)))
    async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
        for number in range(5):
            await worker.start("visit", number, instance=f"visit-{number}")
        for number in range(5):
            assert await worker.result(f"visit-{number}", 20) == number
        runs = await DBOS.list_workflows_async(name="visit")
    begun = sorted((run.dequeued_at or 0) / 1000 for run in runs)
    assert len(begun) == 5
    for earlier, later in zip(begun, begun[2:], strict=False):
        assert later - earlier >= 0.99, begun  # kept in whole milliseconds


@ON_SQLITE
async def test_a_limit_that_was_changed_holds_for_what_waits_already(dbos_url: str) -> None:
    gate = Gate()
    async with Worker(
        dbos_url, registry=guarded(gate, Queue("museum", concurrency=1)), payload_key="plain", environment={}
    ) as worker:
        for number in range(4):
            await worker.start("visit", number, instance=f"visit-{number}")
        await met(lambda: len(gate.inside) == 1)
    wider = Gate()
    async with Worker(
        dbos_url, registry=guarded(wider, Queue("museum", concurrency=3)), payload_key="plain", environment={}
    ) as worker:
        await met(lambda: len(wider.inside) == 3)
        wider.let_out(4)
        for number in range(4):
            assert await worker.result(f"visit-{number}", 20) == number
        assert wider.most == 3
