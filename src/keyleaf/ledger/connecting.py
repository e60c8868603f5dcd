"""A driver's own connection for the log, with the durability that it promises."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from keyleaf.core.errors import InputError, StateError

_BUSY_SECONDS = 10.0


def connect(url: str, *, read_only: bool = False) -> Any:
    """Open ``sqlite:////path`` or ``postgresql://…`` with the bare driver.

    Raises:
        InputError: another kind of URL.
        StateError: it cannot be opened; the message shows no password.
    """
    scheme = urlsplit(url).scheme.split("+")[0]
    if scheme == "sqlite":
        return _sqlite(url.split("://", 1)[1][1:], read_only=read_only)
    if scheme == "postgresql":
        return _postgres(url, read_only=read_only)
    raise InputError("the log lives in SQLite or Postgres", hint="sqlite:////absolute/path or postgresql://…")


def _sqlite(path: str, *, read_only: bool) -> sqlite3.Connection:
    try:
        target = f"file:{quote(path)}?mode={'ro' if read_only else 'rwc'}"
        if read_only and _is_frozen(path):
            target += "&immutable=1"
        connection = sqlite3.connect(
            target,
            uri=True,
            isolation_level=None,
            timeout=_BUSY_SECONDS,
            check_same_thread=False,
            cached_statements=256,
        )
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            # Whoever owns the database moves the write-ahead log into it, beside the writers and not in a commit.
            connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        raise StateError(f"cannot open {path}", hint=str(error)) from None
    return connection


def _is_frozen(path: str) -> bool:
    """Whether nothing can be written beside a copy, as on a medium for reading only: SQLite then needs to be told."""
    return not os.access(Path(path).parent, os.W_OK) and not Path(f"{path}-wal").exists()


def _postgres(url: str, *, read_only: bool) -> Any:
    import psycopg

    plain = "postgresql://" + url.split("://", 1)[1]
    try:
        connection = psycopg.connect(plain, autocommit=False)
    except psycopg.Error as error:
        first = (str(error).strip().splitlines() or ["no answer"])[0]
        raise StateError("cannot reach the Postgres database", hint=first) from None
    connection.read_only = read_only
    return connection
