"""Copies of a log to verify: a database as it is at one moment, or an exported file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keyleaf.core.errors import InputError, StateError
from keyleaf.ledger.export import from_lines
from keyleaf.ledger.reader import notes, stored_entries
from keyleaf.ledger.tables import is_postgres, read_head, run
from keyleaf.ledger.verify import Copy


@contextlib.contextmanager
def snapshot(connection: Any) -> Iterator[None]:
    """Everything read in the block is of one moment, whoever writes meanwhile.

    Raises:
        StateError: the file is damaged, or holds no log.
    """
    postgres = is_postgres(connection)
    try:
        if postgres:
            connection.rollback()
        run(connection, "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ" if postgres else "BEGIN")
        yield
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("sqlite3", "psycopg"):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StateError("the audit log cannot be read", hint=first) from None
    finally:
        with contextlib.suppress(Exception):
            connection.rollback()


def copy_of(connection: Any, vkey: str = "") -> Copy:
    """The log of a database; inside :func:`snapshot`.

    Args:
        vkey: the key as it was kept elsewhere; empty to take the database's word.

    Raises:
        LedgerError: the head is not one.
        StateError: no log has begun.
    """
    head = read_head(connection)
    if head is None:
        raise StateError("there is no audit log in this database", hint="keyleaf serve begins one")
    claim = (head.log_origin, head.epoch, head.frontier.size, head.frontier.root())
    return Copy(stored_entries(connection), notes(connection), vkey or head.vkey, claim, head.vkey)


def copy_of_export(path: Path, vkey: str = "") -> Copy:
    """The log of an exported file.

    Raises:
        InputError: names the file and the line.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            entries, signed, key = from_lines(lines, str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}", hint=error.strerror or "") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not an exported log", hint="keyleaf audit export --format jsonl") from None
    if not vkey and not key:
        raise InputError(f"{path} holds no checkpoint", hint="give the key: --vkey")
    return Copy(entries, signed, vkey or key, None, key)
