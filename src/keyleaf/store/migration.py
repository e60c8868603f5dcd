"""Brings a database's schema up to this program's."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from keyleaf.core.errors import StateError

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x6B65796C  # one migrating process at a time


def upgrade(connection: Connection) -> None:
    """Run the missing migrations inside the caller's transaction: all of them, or none.

    Raises:
        StateError: the database was written by a newer keyleaf.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    scripts = _scripts()
    context = MigrationContext.configure(connection, opts={"transactional_ddl": False})
    current = context.get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise StateError(
            "the database was written by a newer keyleaf", hint="run that version, or restore an older copy"
        )
    if current == scripts.get_current_head():
        return
    for script in reversed(list(scripts.iterate_revisions("head", current or "base"))):
        with Operations.context(context):
            script.module.upgrade()
        context._version.create(connection, checkfirst=True)
        connection.execute(context._version.delete())
        connection.execute(context._version.insert().values(version_num=script.revision))


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)
