"""An instance that its living worker owns and has lost begins again: what a lost answer of the database leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flows_of_tests import four

from keyleaf.core.errors import StateError
from keyleaf.orchestrate.engines.dbos_engine import DbosEngine
from keyleaf.orchestrate.engines.dbos_store import statement
from keyleaf.orchestrate.errors import EngineUnreachable

pytestmark = pytest.mark.asyncio

_STRAND = (
    "UPDATE dbos.workflow_status SET status = 'PENDING', output = NULL, executor_id = :worker, recovery_attempts = 999"
    " WHERE workflow_uuid = 'lost'"
)
_LAST_STEP = "DELETE FROM dbos.operation_outputs WHERE workflow_uuid = 'lost' AND function_id = 4"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flows.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


async def test_a_stranded_instance_begins_again_by_itself(store: str, make_worker: Any) -> None:
    async with make_worker(store) as worker:
        assert await worker.run(four, 1, instance="lost") == 5
        with worker.engine.database.begin() as connection:
            connection.execute(statement(_LAST_STEP, worker.engine.database))
            connection.execute(statement(_STRAND, worker.engine.database), {"worker": worker.name})
        assert (await worker.get("lost")).state == "running"
        assert await worker.result("lost", timeout=30) == 5
        assert len(worker.engine.control.steps("lost")) == 4


async def test_an_engine_that_is_away_is_named_and_the_start_can_be_repeated(
    store: str, make_worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_worker(store) as worker:
        control = worker.engine.control
        monkeypatch.setattr("keyleaf.orchestrate.engines.dbos_engine._AGAIN", 0.001)
        with worker.engine.database.begin() as connection:
            connection.execute(statement("ALTER TABLE dbos.workflow_status RENAME TO away", worker.engine.database))
        with pytest.raises(EngineUnreachable, match=r"^instance late may not have started: .*workflow_status"):
            await worker.start(four, 1, instance="late")
        with pytest.raises(EngineUnreachable, match=r"^no worker has served the engine's database yet"):
            control.get("late")
        with worker.engine.database.begin() as connection:
            away = "dbos.away" if store.startswith("postgresql") else "away"
            connection.exec_driver_sql(f"ALTER TABLE {away} RENAME TO workflow_status")
        assert await worker.run(four, 1, instance="late", timeout=30) == 5
        assert isinstance(worker.engine, DbosEngine)


async def test_a_process_runs_one_worker_on_dbos_and_a_second_one_does_no_harm(
    tmp_path: Path, make_worker: Any
) -> None:
    async with make_worker(f"sqlite:///{tmp_path / 'one.sqlite'}") as one:
        with pytest.raises(StateError, match="this process runs a worker on DBOS already"):
            async with make_worker(f"sqlite:///{tmp_path / 'two.sqlite'}"):
                raise AssertionError("it began")
        assert await one.run(four, 1) == 5
    async with make_worker(f"sqlite:///{tmp_path / 'two.sqlite'}") as two:
        assert await two.run(four, 1) == 5
