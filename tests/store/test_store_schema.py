"""The migrations make exactly the schema that the program works with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from keyleaf.core.errors import StateError
from keyleaf.store import Database
from keyleaf.store.schema import metadata


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database.open(database_url)
    yield opened
    opened.close()


def test_the_migrations_lead_to_the_schema(database: Database) -> None:
    database.migrate()
    with database.read() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "target_metadata": metadata, "include_name": _ours}
        )
        assert compare_metadata(context, metadata) == []
        held = set(inspect(connection).get_table_names())
    assert set(metadata.tables) <= held


def _ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in metadata.tables


def test_migrating_again_changes_nothing(database: Database) -> None:
    database.migrate()
    with database.write() as connection:
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('kept', 'yes')"))
    database.migrate()
    with database.read() as connection:
        assert connection.execute(text("SELECT value FROM meta WHERE key = 'kept'")).scalar_one() == "yes"
        assert connection.execute(text("SELECT count(*) FROM alembic_version")).scalar_one() == 1


def test_a_newer_database_is_refused_and_left_alone(database: Database) -> None:
    database.migrate()
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StateError, match="newer keyleaf"):
        database.migrate()
    with database.read() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


def test_a_migration_that_fails_leaves_nothing(database: Database) -> None:
    with database.write() as connection:
        connection.execute(text("CREATE TABLE role_assignment (x integer)"))
    with pytest.raises(Exception, match="role_assignment"):
        database.migrate()
    with database.read() as connection:
        assert set(inspect(connection).get_table_names()) == {"role_assignment"}
