"""Instances that start by cron: once for each minute that is due, on DBOS's own scheduler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOS

from keyleaf import Queue, Worker, activity, activity_info, orchestration
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.engines.base import Query

pytestmark = pytest.mark.asyncio

ON_SQLITE = pytest.mark.parametrize("dbos_url", ["sqlite"], indirect=True)
ON_POSTGRES = pytest.mark.parametrize(
    "dbos_url", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)

DAY = datetime(2026, 1, 1, 3, tzinfo=UTC)


def cleaning(ran: list[str], cron: str, *, version: str = "1", queue: Queue | None = None) -> Registry:
    """A registry with one orchestration that notes its runs."""
    registry = Registry()

    @activity(registry=registry)
    async def clean(days: int) -> str:
        ran.append(activity_info().instance)
        return f"{days} days"

    @orchestration(registry=registry, cron=cron, version=version, queue=queue)
    async def nightly(days: int = 30) -> str:
        return f"{version}: {await clean(days)}"

    return registry


async def met(condition: Callable[[], object], limit: float = 20.0) -> None:
    """Until a condition holds."""
    end = time.monotonic() + limit
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < end, f"not within {limit} s"
        await asyncio.sleep(0.05)


async def due(begin: datetime, end: datetime) -> None:
    """Let DBOS start what was due from ``begin`` up to ``end``."""
    await asyncio.to_thread(DBOS.backfill_schedule, "keyleaf.nightly", begin, end)


def schedules() -> dict[str, str]:
    """What DBOS keeps: cron by name."""
    return {each["schedule_name"]: each["schedule"] for each in DBOS.list_schedules()}


def ended(worker: Worker, instances: Iterable[str]) -> Callable[[], bool]:
    """Whether the scheduler's runs have ended, and these instances are all that there is."""

    def look() -> bool:
        views = worker.engine.control.list(Query(name="nightly"))
        open_runs = DBOS.list_workflows(name="keyleaf.cron", status=["ENQUEUED", "PENDING"])
        return (
            not open_runs
            and all(view.state == "completed" for view in views)
            and {view.instance for view in views} == set(instances)
        )

    return look


async def test_an_instance_starts_for_each_time_that_is_due(dbos_url: str) -> None:
    ran: list[str] = []
    async with Worker(dbos_url, registry=cleaning(ran, "*/5 * * * *"), payload_key="plain", environment={}) as worker:
        assert schedules() == {"keyleaf.nightly": "*/5 * * * *"}
        await due(DAY, DAY + timedelta(minutes=11))
        expected = {"nightly-2026-01-01T0305", "nightly-2026-01-01T0310"}
        await met(ended(worker, expected))
        assert sorted(ran) == sorted(expected)
        assert await worker.result("nightly-2026-01-01T0305", 10) == "1: 30 days"


@ON_SQLITE
async def test_a_time_that_was_served_is_not_served_again(dbos_url: str) -> None:
    ran: list[str] = []
    registry = cleaning(ran, "*/5 * * * *")
    async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
        # Somebody started it by hand already: whoever comes second finds it, by its id.
        await worker.run("nightly", 7, instance="nightly-2026-01-01T0305", timeout=10)
        await due(DAY, DAY + timedelta(minutes=6))
        await met(ended(worker, {"nightly-2026-01-01T0305"}))
    async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
        await due(DAY, DAY + timedelta(minutes=11))
        await met(ended(worker, {"nightly-2026-01-01T0305", "nightly-2026-01-01T0310"}))
    assert sorted(ran) == ["nightly-2026-01-01T0305", "nightly-2026-01-01T0310"]


@ON_POSTGRES
async def test_the_scheduler_itself_starts_one_instance_a_minute(dbos_url: str) -> None:
    """DBOS also knows seconds: it fires many times within a minute, and only the first one starts an instance."""
    ran: list[str] = []
    async with Worker(dbos_url, registry=cleaning(ran, "0 3 * * *"), payload_key="plain", environment={}) as worker:
        database: sa.Engine = worker.engine.database  # type: ignore[attr-defined]
        table = "dbos.workflow_schedules" if database.dialect.name == "postgresql" else "workflow_schedules"
        with database.begin() as connection:
            connection.execute(sa.text(f"UPDATE {table} SET schedule = '* * * * * *'"))
        begun = datetime.now(UTC)
        await met(lambda: len(DBOS.list_workflows(name="keyleaf.cron", status="SUCCESS")) >= 2)
        moments = {f"nightly-{at:%Y-%m-%dT%H%M}" for at in (begun, datetime.now(UTC) + timedelta(seconds=1))}
        await met(lambda: len(ran) >= 1)
        assert set(ran) <= moments
        assert len(ran) == len(set(ran)) <= len(moments)


@ON_SQLITE
async def test_what_is_declared_now_is_what_is_scheduled(dbos_url: str) -> None:
    ran: list[str] = []

    async def serve(registry: Registry, then: Callable[[Worker], Any]) -> None:
        async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
            await then(worker)

    async def first(worker: Worker) -> None:
        assert schedules() == {"keyleaf.nightly": "0 3 * * *"}

    async def changed(worker: Worker) -> None:
        assert schedules() == {"keyleaf.nightly": "0 4 * * *"}
        await due(DAY, DAY + timedelta(hours=2))
        await met(ended(worker, {"nightly-2026-01-01T0400"}))
        assert await worker.result("nightly-2026-01-01T0400", 10) == "2: 30 days"

    async def gone(_: Worker) -> None:
        assert schedules() == {}

    async def foreign(_: Worker) -> None:
        assert schedules() == {"keyleaf.nightly": "0 4 * * *"}, "the schedule of another program's orchestration stays"

    both = cleaning(ran, "0 3 * * *")
    both.orchestrations["nightly"]["2"] = cleaning(ran, "0 4 * * *", version="2").orchestration("nightly")
    await serve(cleaning(ran, "0 3 * * *"), first)
    await serve(both, changed)
    await serve(Registry(), foreign)
    await serve(cleaning(ran, ""), gone)


@ON_SQLITE
async def test_what_starts_by_cron_lines_up_in_its_queue(dbos_url: str) -> None:
    ran: list[str] = []
    registry = cleaning(ran, "*/5 * * * *", queue=Queue("nights", concurrency=1))
    async with Worker(dbos_url, registry=registry, payload_key="plain", environment={}) as worker:
        await due(DAY, DAY + timedelta(minutes=6))
        await met(ended(worker, {"nightly-2026-01-01T0305"}))
        (run,) = await DBOS.list_workflows_async(name="nightly")
        assert run.queue_name == "nights"
