"""Transactions on SQLite and Postgres, and what is said when a database cannot be used."""

from __future__ import annotations

import sqlite3
import threading
import uuid
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import delete, func, insert, select, text

from keyleaf.core.errors import InputError, StateError
from keyleaf.store import Database, raw_connection, sqlite_url
from keyleaf.store.schema import meta, secret


@pytest.fixture
def postgres_url(postgres_socket: Path) -> str:
    """The URL of an empty Postgres database: for what SQLite has no counterpart of."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={postgres_socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://postgres@/{name}?host={postgres_socket}"


def rows(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(meta)).scalar_one())


def test_a_write_is_committed_at_the_end(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(meta).values(key="a", value="1"))
    assert rows(database) == 1


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_any_exception_rolls_the_whole_write_back(database: Database, failure: type[BaseException]) -> None:
    with pytest.raises(failure), database.write() as connection:
        connection.execute(insert(meta).values(key="a", value="1"))
        connection.execute(insert(meta).values(key="b", value="2"))
        raise failure
    assert rows(database) == 0
    with database.write() as connection:
        connection.execute(insert(meta).values(key="a", value="1"))
    assert rows(database) == 1


def test_what_is_written_in_a_read_does_not_stay(database: Database) -> None:
    with database.read() as connection:
        connection.execute(insert(meta).values(key="a", value="1"))
    assert rows(database) == 0


def test_a_read_does_not_see_an_open_write(database: Database) -> None:
    with database.write() as writing:
        writing.execute(insert(meta).values(key="a", value="1"))
        assert rows(database) == 0
    assert rows(database) == 1


def test_a_read_on_sqlite_keeps_its_snapshot(tmp_path: Path) -> None:
    database = Database.open(sqlite_url(tmp_path / "state.db"))
    database.migrate()
    with database.read() as reading:
        count = select(func.count()).select_from(meta)
        assert reading.execute(count).scalar_one() == 0
        with database.write() as writing:
            writing.execute(insert(meta).values(key="a", value="1"))
        assert reading.execute(count).scalar_one() == 0
    assert rows(database) == 1
    database.close()


def test_writes_of_many_threads_follow_one_another(database: Database) -> None:
    with database.write() as connection:
        connection.execute(insert(meta).values(key="n", value="0"))

    def add() -> None:
        for _ in range(10):
            with database.write() as connection:
                value = connection.execute(select(meta.c.value).where(meta.c.key == "n").with_for_update()).scalar_one()
                connection.execute(meta.update().where(meta.c.key == "n").values(value=str(int(value) + 1)))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        assert connection.execute(select(meta.c.value)).scalar_one() == "40"


def test_a_row_without_its_owner_is_refused(database: Database) -> None:
    from sqlalchemy.exc import IntegrityError

    with pytest.raises(IntegrityError), database.write() as connection:
        connection.execute(insert(secret).values(vault_key="no-such-vault", name_key="a", name="a"))


def test_sqlite_is_set_to_keep_what_it_has_acknowledged(tmp_path: Path) -> None:
    database = Database.open(sqlite_url(tmp_path / "state.db"))
    with database.read() as first, database.read() as second:
        for connection in (first, second):
            values = {p: connection.execute(text(f"PRAGMA {p}")).scalar_one() for p in ("journal_mode", "synchronous")}
            assert values == {"journal_mode": "wal", "synchronous": 2}
            assert connection.execute(text("PRAGMA secure_delete")).scalar_one() == 1
            assert isinstance(raw_connection(connection), sqlite3.Connection)
    database.close()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "no url",
        "mysql://ann:hunter2@localhost/x",
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://ann:hunter2@localhost:port/x",
        "://ann:hunter2@x",
    ],
)
def test_a_url_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(InputError) as caught:
        Database.open(url)
    assert "hunter2" not in str(caught.value)
    assert str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:hunter2@127.0.0.1:1/x", "postgresql://ann:hunter2@/x?host=/nonexistent"]
)
def test_a_server_that_is_not_there_is_told_without_the_password(url: str) -> None:
    with pytest.raises(StateError, match="cannot open the database") as caught:
        Database.open(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.hint
    assert caught.value.__cause__ is None


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    other = tmp_path / "state.db"
    other.write_bytes(b"certainly not a database" * 100)
    with pytest.raises(StateError, match="cannot open the database"):
        Database.open(sqlite_url(other))
    with pytest.raises(StateError, match="cannot open the database"):
        Database.open(sqlite_url(tmp_path / "nowhere" / "state.db"))


@pytest.mark.postgres
def test_only_one_process_may_claim_a_postgres_database(postgres_url: str) -> None:
    first, second = Database.open(postgres_url), Database.open(postgres_url)
    first.migrate()
    with pytest.raises(StateError, match="another keyleaf"), first.write() as connection:
        first.claim(connection)
    second.close()
    with first.write() as connection:
        first.claim(connection)
        connection.execute(delete(meta))
    first.close()


def test_the_write_ahead_log_is_moved_into_the_database_once_it_has_grown(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    database = Database.open(sqlite_url(file))
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (content BLOB)")
    assert not database.trim(), "a small one is left alone"
    for _ in range(18):
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1048576))")
    wal = file.with_name("state.db-wal")
    grown = wal.stat().st_size
    assert grown > 16 * 1024 * 1024, "no commit moves it by itself"
    assert database.trim()
    with database.write() as connection:
        connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1048576))")
    assert wal.stat().st_size == grown, "it is written again from its beginning"
    assert file.stat().st_size > 18 * 1024 * 1024
    database.close()


def test_a_long_reader_puts_the_trimming_off_and_nobody_waits(tmp_path: Path) -> None:
    database = Database.open(sqlite_url(tmp_path / "state.db"))
    with database.write() as connection:
        connection.exec_driver_sql("CREATE TABLE filler (content BLOB)")
    with database.read() as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM filler").scalar_one() == 0
        for _ in range(18):
            with database.write() as connection:
                connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1048576))")
        assert database.trim()
        assert reader.exec_driver_sql("SELECT count(*) FROM filler").scalar_one() == 0
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO filler VALUES (zeroblob(1))")
    database.close()
