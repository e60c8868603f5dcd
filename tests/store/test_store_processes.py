"""Several processes on one database, each with connections of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text

from keyleaf.core.errors import StateError
from keyleaf.store import Database, schema, sqlite_url


def at_once(works: list[Callable[[], None]]) -> list[Exception]:
    """What went wrong when all of them ran together."""
    failures: list[Exception] = []

    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_those_that_migrate_at_once_do_not_disturb_each_other(database_url: str) -> None:
    opened = [Database.open(database_url) for _ in range(4)]
    assert at_once([database.migrate for database in opened]) == []
    with opened[0].read() as connection:
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1
    for database in opened:
        database.close()


def test_those_that_write_one_sqlite_file_take_turns(tmp_path: Path) -> None:
    opened = [Database.open(sqlite_url(tmp_path / "state.db")) for _ in range(3)]
    opened[0].migrate()

    def work(number: int) -> None:
        for turn in range(10):
            with opened[number].write() as connection:
                connection.execute(insert(schema.meta).values(key=f"{number}-{turn}", value="v"))

    assert at_once([lambda number=number: work(number) for number in range(3)]) == []  # type: ignore[misc]
    with opened[0].read() as connection:
        assert len(connection.execute(select(schema.meta)).all()) == 30
    for database in opened:
        database.close()


@pytest.mark.postgres
def test_a_claim_waits_for_who_is_just_leaving(postgres_socket: Path) -> None:
    url = f"postgresql://postgres@/postgres?host={postgres_socket}"
    first, second = Database.open(url), Database.open(url)
    leaving = threading.Timer(0.2, second.close)
    with first.write() as connection:
        leaving.start()
        first.claim(connection)
        assert connection.execute(text("SHOW lock_timeout")).scalar_one() == "0"
    leaving.join()
    first.close()


@pytest.mark.postgres
def test_who_comes_during_a_claim_waits_until_it_is_over(postgres_socket: Path) -> None:
    url = f"postgresql://postgres@/postgres?host={postgres_socket}"
    first = Database.open(url)
    came = threading.Event()

    def come() -> None:
        Database.open(url).close()
        came.set()

    with first.write() as connection:
        first.claim(connection)
        thread = threading.Thread(target=come)
        thread.start()
        assert not came.wait(0.2)
    thread.join()
    assert came.is_set()
    first.close()


def test_a_host_that_cannot_be_a_name_is_an_error_in_words() -> None:
    with pytest.raises(StateError, match="cannot open the database"):
        Database.open("postgresql://\x80/x")
