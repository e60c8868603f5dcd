"""The state database: SQLite in a file, or Postgres."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from keyleaf.core.errors import InputError, StateError

Dialect = Literal["sqlite", "postgresql"]

_BUSY_MILLISECONDS = 10_000
_POOL = 8
_LARGE_LOG_BYTES = 16 * 1024 * 1024
_CLAIM_MILLISECONDS = 1_000
_USERS = 0x6B65796C_01  # every connection to a Postgres database holds this lock shared


class Database:
    """Opens connections for reading and for writing.

    Reads see a consistent snapshot. Writes are serialised: by ``BEGIN IMMEDIATE`` and ``writer_lock`` on SQLite, by the
    ledger's head row and row locks on Postgres. ``writer_lock`` is shared with the ledger's writer thread, so that the
    two never wait for each other in SQLite's busy sleep.
    """

    def __init__(self, engine: Engine, url: str) -> None:
        self._engine = engine
        self.url = url
        self.dialect: Dialect = "sqlite" if engine.dialect.name == "sqlite" else "postgresql"
        self.writer_lock = threading.Lock()

    @staticmethod
    def open(url: str) -> Database:
        """Open ``sqlite:////absolute/path`` or ``postgresql://…``.

        Raises:
            InputError: not such a URL. The message shows no password.
            StateError: the database cannot be reached or is not one.
        """
        parsed = _parse(url)
        engine = _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _postgres_engine(parsed)
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                connection.rollback()
        except (DBAPIError, UnicodeError) as error:
            engine.dispose()
            shown = parsed.render_as_string(hide_password=True)
            raise StateError(f"cannot open the database {shown}", hint=_reason(error)) from None
        return Database(engine, url)

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a transaction that is rolled back at the end."""
        with self._engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A connection in a writing transaction: committed at the end, rolled back on any exception."""
        lock: Any = self.writer_lock if self.dialect == "sqlite" else contextlib.nullcontext()
        with lock, self._engine.connect() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def migrate(self) -> None:
        """Bring the schema to this program's version.

        Raises:
            StateError: the database was written by a newer keyleaf.
        """
        from keyleaf.store.migration import upgrade

        with self.write() as connection:
            upgrade(connection)

    def claim(self, connection: Connection) -> None:
        """Make sure, until ``connection`` commits, that no other process uses the database.

        Only Postgres needs this: a SQLite file is guarded by the lock of its state directory. Call it on the first
        connection that this process has opened.

        Raises:
            StateError: another process is connected.
        """
        if self.dialect == "sqlite":
            return
        # A process that has just ended frees its lock a moment later, so the first answer is not the last.
        connection.execute(text(f"SET LOCAL lock_timeout = '{_CLAIM_MILLISECONDS}ms'"))
        try:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _USERS})
        except OperationalError:
            raise StateError("another keyleaf is using the database", hint="stop every server of it first") from None
        connection.execute(text("SET LOCAL lock_timeout = 0"))

    def trim(self) -> bool:
        """Move SQLite's write-ahead log into the database once it has grown; says whether it did.

        Commits do not do so themselves: the one that happened to come at the limit would wait for all of it. The long
        part runs beside the writers; only what has come meanwhile is moved under ``writer_lock``. A long reader puts
        it off. Call it now and then, from a thread of its own.

        Source: https://www.sqlite.org/wal.html
        """
        if self.dialect != "sqlite" or not _has_grown(self._engine.url.database):
            return False
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
            try:
                with self.writer_lock:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(RESTART)")
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        return True

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def raw_connection(connection: Connection) -> Any:
    """The driver's own connection (sqlite3 or psycopg) below ``connection``."""
    return connection.connection.dbapi_connection


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path.resolve()}"


def _has_grown(file: str | None) -> bool:
    wal = Path(f"{file}-wal")
    return wal.exists() and wal.stat().st_size > _LARGE_LOG_BYTES


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise InputError(
            "the database URL cannot be read", hint="sqlite:////absolute/path or postgresql://user@host/name"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise InputError("the database URL names no file", hint="sqlite:////absolute/path/state.db")
        return parsed
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise InputError(f"keyleaf keeps its state in SQLite or Postgres, not in {parsed.get_backend_name()}")


def _sqlite_engine(url: URL) -> Engine:
    # Transactions are begun by hand, so the driver must not begin any of its own.
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=_POOL,
        max_overflow=2 * _POOL,
        connect_args={"check_same_thread": False, "isolation_level": None, "timeout": _BUSY_MILLISECONDS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "wal_autocheckpoint=0")
        for pragma in (*pragmas, f"busy_timeout={_BUSY_MILLISECONDS}"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    return engine


def _postgres_engine(url: URL) -> Engine:
    engine = create_engine(url, pool_size=_POOL, max_overflow=2 * _POOL, pool_pre_ping=True)

    @event.listens_for(engine, "connect")
    def _sign_in(connection: Any, _record: object) -> None:
        # Held until the connection closes; waits only while a root key is being changed.
        connection.execute("SELECT pg_advisory_lock_shared(%s)", (_USERS,))
        connection.commit()

    return engine


def _reason(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    lines = str(original).strip().splitlines()
    return lines[0] if lines else type(original).__name__
