"""An empty room on each database; all tests share one Postgres database, which takes longer to make than a test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from vault_room import Room

from keyleaf.store import Database, schema, sqlite_url


@pytest.fixture(scope="session")
def postgres_database(postgres_socket: Path) -> Iterator[Database]:
    """A migrated database on Postgres."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={postgres_socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    database = Database.open(f"postgresql://postgres@/{name}?host={postgres_socket}")
    database.migrate()
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """A vault without secrets, on SQLite and on Postgres."""
    if request.param == "sqlite":
        database = Database.open(sqlite_url(tmp_path / "state.db"))
        yield Room(database)
        database.close()
        return
    database = request.getfixturevalue("postgres_database")
    with database.write() as connection:
        tables = ", ".join(table.name for table in schema.metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {tables} CASCADE"))
    yield Room(database)
