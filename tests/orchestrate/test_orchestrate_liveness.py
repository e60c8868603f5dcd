"""Who is alive on PostgreSQL, and who takes over what a dead worker owned."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from keyleaf import Worker, activity, orchestration
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.driver import input_purpose
from keyleaf.orchestrate.engines import liveness
from keyleaf.orchestrate.engines.base import Start
from keyleaf.orchestrate.engines.dbos_store import open_engine
from keyleaf.orchestrate.engines.liveness import Liveness, lock_key

FLOWS = Registry()


@activity(registry=FLOWS)
async def double(number: int) -> int:
    return 2 * number


@orchestration(registry=FLOWS)
async def doubled(number: int) -> int:
    return int(await double(number))


def worker_on(url: str, name: str) -> AbstractAsyncContextManager[Worker]:
    """A worker with a name, without a vault."""
    return Worker(url, registry=FLOWS, payload_key="plain", environment={}, name=name)


def orphan(worker: Worker, instance: str, owner: str) -> None:
    """An instance that belongs to somebody who is not there."""
    start = Start("doubled", "1", time.time(), worker.codec.seal(b'{"number":21}', input_purpose(instance)))
    worker.engine.control.start(instance, start, "nobody-looks-here")
    database: sa.Engine = worker.engine.database  # type: ignore[attr-defined]
    table = "dbos.workflow_status" if database.dialect.name == "postgresql" else "workflow_status"
    change = f"UPDATE {table} SET status = 'PENDING', queue_name = NULL, executor_id = :owner WHERE workflow_uuid = :id"
    with database.begin() as connection:
        connection.execute(sa.text(change), {"owner": owner, "id": instance})


class Watcher:
    """A worker's liveness on connections of its own."""

    def __init__(self, url: str, name: str) -> None:
        self.database = open_engine(url)
        self.liveness = Liveness(self.database, name, lambda _: None, lambda _: None, set)

    def dead(self) -> set[str]:
        """Whom it takes for dead."""
        return set(self.liveness._look())


@pytest.fixture
def watchers(postgres_url: str) -> Iterator[dict[str, Watcher]]:
    """Three of them on one database."""
    made = {name: Watcher(postgres_url, name) for name in ("one", "two", "three")}
    yield made
    for each in made.values():
        each.database.dispose()


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_workers_lock_has_a_number_that_postgres_takes(one: str, other: str) -> None:
    assert 0 <= lock_key(one) < 2**63
    assert (lock_key(one) == lock_key(other)) == (one == other)


@pytest.mark.postgres
@pytest.mark.asyncio
async def test_who_holds_no_lock_is_dead(
    postgres_url: str, watchers: dict[str, Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody is judged while the server has been up for less than this.
    monkeypatch.setattr(liveness, "GRACE", 1e9)
    async with worker_on(postgres_url, "keeper") as worker:
        for owner in ("one", "two", "ghost"):
            orphan(worker, f"of-{owner}", owner)
    one, two, three = watchers.values()
    one.liveness.hold()
    two.liveness.hold()
    assert three.dead() == set()
    monkeypatch.setattr(liveness, "GRACE", 0.0)
    assert three.dead() == {"ghost"}
    assert one.dead() == {"ghost"}
    await two.liveness.end()
    end = time.monotonic() + 10
    while three.dead() != {"two", "ghost"}:  # the server notices that a session was closed soon, not at once
        assert time.monotonic() < end
    assert three.dead() == {"two", "ghost"}, "looking takes nobody's lock for good"
    two.liveness.hold()
    assert three.dead() == {"ghost"}
    # A session that was ended from outside is replaced at the worker's next look.
    with three.database.connect() as connection:
        ended = connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
                " AND ((classid::bigint << 32) | objid::bigint) = :key AND granted"
            ),
            {"key": lock_key("one")},
        ).scalars()
        assert list(ended) == [True]
    assert one.dead() == {"ghost"}
    assert three.dead() == {"ghost"}


@pytest.mark.asyncio
async def test_what_a_dead_worker_owned_is_finished_by_another(dbos_url: str) -> None:
    async with worker_on(dbos_url, "heir") as worker:
        orphan(worker, "left-behind", "ghost")
        begun = time.monotonic()
        assert await worker.result("left-behind", 20) == 42
        assert time.monotonic() - begun < 5.0 + liveness.GRACE
        assert (await worker.get("left-behind")).worker == "heir"
