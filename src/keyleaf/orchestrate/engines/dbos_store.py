"""DBOS's store as keyleaf uses it: the database engine, the serializer, and names of its attributes."""

from __future__ import annotations

import fcntl
import math
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from dbos import Serializer
from dbos._dbos import _get_dbos_instance
from sqlalchemy import event
from sqlalchemy.engine import make_url

from keyleaf.core.errors import InputError, StateError
from keyleaf.orchestrate.errors import EngineUnreachable

APPLICATION = "keyleaf"
VERSION = "keyleaf-1"
"""DBOS recovers instances of one application version only; which code an instance needs is keyleaf's own to tell."""

QUEUE = "keyleaf"
"""Where instances line up that another process starts."""

CRON = "keyleaf.cron"

_RESTED = 1.0
"""Seconds after which a connection to Postgres is asked whether it lives before it is used."""

# Attributes of a DBOS workflow.
TAG = "tag."
STATUS = "status"
WAITING = "waiting"
BLOCKED = "blocked"
PROGRESS = "progress"
CONTROL = "control"
REASON = "reason"
WORKER = "worker"


DATABASE_FAILED = (sa.exc.SQLAlchemyError, EngineUnreachable)
"""What is raised where the database fails: never the outcome of an instance."""


class FlowEnded(Exception):
    """An instance ended other than with a value. ``text`` is the packed envelope."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class TextSerializer(Serializer):
    """Keeps keyleaf's own texts as they are, and what DBOS adds as JSON: never pickle."""

    def name(self) -> str:
        return "keyleaf"

    def serialize(self, data: Any) -> str:
        if isinstance(data, str):
            return "s" + data
        if isinstance(data, FlowEnded):
            return "e" + data.text
        if isinstance(data, BaseException):
            return "x" + msgspec.json.encode([type(data).__qualname__, str(data)]).decode()
        return "j" + msgspec.json.encode(data).decode()

    def deserialize(self, serialized_data: str) -> Any:
        kind, text = serialized_data[:1], serialized_data[1:]
        if kind == "s":
            return text
        if kind == "e":
            return FlowEnded(text)
        if kind == "x":
            name, message = msgspec.json.decode(text)
            return RuntimeError(f"{name}: {message}")
        value = msgspec.json.decode(text)
        if isinstance(value, dict) and value.keys() == {"args", "kwargs"}:
            value["args"] = tuple(value["args"])
        return value


def record_step(instance: str, step: int, name: str, output: str, started: int) -> None:
    """Write the result of a step that is known not to be recorded yet. Called in the context of its workflow.

    Args:
        started: milliseconds since 1970.

    Raises:
        DBOSWorkflowConflictIDError: the run does not own the instance any more.
    """
    serializer = TextSerializer()
    _get_dbos_instance()._sys_db.record_operation_result(
        {
            "workflow_uuid": instance,
            "function_id": step,
            "function_name": name,
            "output": serializer.serialize(output),
            "error": None,
            "serialization": serializer.name(),
            "started_at_epoch_ms": started,
            "child_workflow_id": None,
        }
    )


def open_engine(url: str, *, create: bool = True) -> sa.Engine:
    """A SQLAlchemy engine for ``sqlite:///path`` or ``postgresql://…``; a SQLite file is made if ``create``.

    On SQLite all threads share one connection, and wait for it in turn: with several, writers meet SQLite's busy
    handler, which sleeps for up to 100 ms at a time. It runs in WAL mode with ``synchronous=FULL``: an acknowledged
    write is on disk, and readers in other processes do not wait for writers (https://www.sqlite.org/wal.html).

    Raises:
        InputError: the URL cannot be used.
        EngineUnreachable: the database does not answer.
    """
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # the URL itself is not repeated: a password may be in it
        raise InputError(
            "the engine's URL is not a database URL", hint="use sqlite:///file or postgresql://host/name"
        ) from None
    engine = _sqlite(parsed, create) if parsed.drivername.split("+")[0] == "sqlite" else _postgres(parsed)
    try:
        with engine.connect():
            pass
    except sa.exc.SQLAlchemyError as error:
        reason = reason_of(error)
        raise EngineUnreachable(
            f"the engine's database {parsed.render_as_string(hide_password=True)} cannot be opened: {reason}",
            hint="look at KEYLEAF_ORCHESTRATOR",
        ) from None
    return engine


def statement(text: str, database: sa.Engine) -> sa.TextClause:
    """SQL on DBOS's tables, which have a schema on PostgreSQL alone."""
    return sa.text(text if database.dialect.name == "postgresql" else text.replace("dbos.", ""))


def reason_of(error: Exception) -> str:
    """What a database said, in one line and without the statement and its values."""
    lines = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _sqlite(url: sa.URL, create: bool) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise InputError("sqlite:// needs a file", hint="use sqlite:///flows.sqlite or sqlite:////absolute/path")
    path = Path(url.database)
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} of the engine's database does not exist", hint="make it first")
    if not path.exists():
        if not create:
            raise EngineUnreachable(f"{path} does not exist: no worker has served it yet", hint="start a worker first")
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    engine = sa.create_engine(
        url.set(drivername="sqlite"),
        connect_args={"check_same_thread": False, "timeout": 30},
        poolclass=sa.QueuePool,
        pool_size=1,
        max_overflow=0,
        pool_timeout=60,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        connection.execute("PRAGMA busy_timeout=30000")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def _postgres(url: sa.URL) -> sa.Engine:
    """An engine that asks whether a connection still lives only where it has rested: one round trip less for each use.

    A connection that breaks within that time breaks as one in use does: DBOS tries again.
    """
    engine = sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_size=20, max_overflow=20)

    @event.listens_for(engine, "checkin")
    def _note(connection: Any, record: Any) -> None:
        record.info["used"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _ask(connection: Any, record: Any, proxy: Any) -> None:
        if time.monotonic() - record.info.get("used", -math.inf) < _RESTED:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise sa.exc.InvalidatePoolError from error  # the others are as old: none of them is tried

    return engine


def only_worker(database: sa.Engine) -> int | None:
    """Make sure that no other process runs instances of a SQLite file; returns what has to be closed in the end.

    Raises:
        StateError: another worker serves the file. PostgreSQL is for several.
    """
    path = database.url.database
    if database.dialect.name != "sqlite" or path is None:
        return None
    lock = os.open(f"{path}.worker", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StateError(
            f"another worker runs the instances of {path}", hint="stop it, or use postgresql:// for several workers"
        ) from None
    return lock
