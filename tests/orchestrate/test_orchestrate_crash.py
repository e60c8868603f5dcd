"""``kill -9`` of workers, and restarts of PostgreSQL: instances complete and their effects happen once."""

from __future__ import annotations

import pytest
from crash.flows import INSTANCES, postgres_kills, sqlite_kills


@pytest.mark.slow
def test_instances_complete_when_the_worker_of_a_sqlite_file_is_killed() -> None:
    figures = sqlite_kills(1, seed=7)
    assert dict(figures.problems) == {}
    assert (figures.runs, figures.instances) == (1, INSTANCES)
    assert figures.kills >= 1


@pytest.mark.slow
@pytest.mark.postgres
def test_the_instances_of_a_killed_worker_are_taken_over_while_postgres_restarts() -> None:
    figures = postgres_kills(1, seed=7, restart_every=1)
    assert dict(figures.problems) == {}
    assert (figures.runs, figures.kills, figures.restarts, figures.instances) == (1, 1, 1, INSTANCES)
