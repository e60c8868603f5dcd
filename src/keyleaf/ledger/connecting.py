"""A driver's own connection for the log, with the durability that it promises."""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import unquote, urlsplit

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
        target = f"file:{path}?mode={'ro' if read_only else 'rwc'}"
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
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.Error as error:
        raise StateError(f"cannot open {unquote(path)}", hint=str(error)) from None
    return connection


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
