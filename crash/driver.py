"""An apsw connection that looks like the standard library's: the code under test does not know the difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apsw


class Cursor:
    """Looks like ``sqlite3.Cursor``; results are read at once."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid = 0
        self._rows: Iterator[tuple[Any, ...]] = iter(())

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        inner = self.connection.inner.cursor()
        described: list[Any] = []

        def look(cursor: apsw.Cursor, _statement: str, _bindings: object) -> bool:
            described[:] = cursor.description
            return True

        inner.exec_trace = look
        before = self.connection.inner.total_changes()
        self._rows = iter(list(inner.execute(statement, tuple(parameters))))
        self.description = tuple(described) or None
        self.rowcount = -1 if described else self.connection.inner.total_changes() - before
        self.lastrowid = self.connection.inner.last_insert_rowid()
        return self

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        changed = 0
        for row in rows:
            changed += max(0, self.execute(statement, row).rowcount)
        self.rowcount = changed
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        return [row for _, row in zip(range(size), self._rows, strict=False)]

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def close(self) -> None:
        self._rows = iter(())


class Connection:
    """Looks like ``sqlite3.Connection`` with ``isolation_level=None``."""

    isolation_level = None

    def __init__(self, path: str, vfs: str, *, synchronous: str) -> None:
        self.inner = apsw.Connection(path, vfs=vfs)
        # Shared memory cannot be simulated; one connection that holds the lock needs none.
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
            self.inner.execute(f"PRAGMA {pragma}")
        # Checkpoints move pages into the database now and then; a short run has to see some.
        self.inner.execute("PRAGMA wal_autocheckpoint=150")

    def cursor(self, _factory: object = None) -> Cursor:
        return Cursor(self)

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        return Cursor(self).execute(statement, parameters)

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> Cursor:
        return Cursor(self).executemany(statement, rows)

    def create_function(self, name: str, arguments: int, function: Callable[..., Any], **_: Any) -> None:
        self.inner.create_scalar_function(name, function, arguments)

    def commit(self) -> None:
        if self.inner.in_transaction:
            self.inner.execute("COMMIT")

    def rollback(self) -> None:
        if self.inner.in_transaction:
            self.inner.execute("ROLLBACK")

    def close(self) -> None:
        """Whoever made it closes it: the vault and the log share it."""
