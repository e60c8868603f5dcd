"""The log's own tables, and the one algorithm that appends to them, on either driver.

The head row is the lock: whoever appends holds it from reading the size until commit. On SQLite the transaction has
begun IMMEDIATE; on Postgres the row is selected FOR UPDATE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keyleaf.core.errors import LedgerError
from keyleaf.ledger.merkle import Frontier, leaf_hash
from keyleaf.ledger.record import Record, encode

FORMAT = 1

# A table by row id: a record of a kilobyte would overflow the cells of a table that is its own index.
# No index beside the primary key: an index on what is queried would write one more page a record, scattered over the
# file, and halve what a server can serve. A query reads a million records in about a second instead.
_SQLITE_DDL = (
    """CREATE TABLE IF NOT EXISTS ledger_entry (
        epoch INTEGER NOT NULL, seq INTEGER NOT NULL, leaf BLOB NOT NULL, entry BLOB NOT NULL,
        time INTEGER NOT NULL, resource TEXT NOT NULL, identity TEXT NOT NULL,
        PRIMARY KEY (epoch, seq))""",
    """CREATE TABLE IF NOT EXISTS ledger_head (
        id INTEGER PRIMARY KEY CHECK (id = 1), format INTEGER NOT NULL, origin TEXT NOT NULL, epoch INTEGER NOT NULL,
        size INTEGER NOT NULL, frontier BLOB NOT NULL, generation INTEGER NOT NULL, vkey TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS ledger_checkpoint (
        epoch INTEGER NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL, frontier BLOB NOT NULL,
        PRIMARY KEY (epoch, size))""",
)
_POSTGRES_DDL = tuple(statement.replace("BLOB", "BYTEA").replace("INTEGER", "BIGINT") for statement in _SQLITE_DDL)
_COLUMNS = "epoch, seq, leaf, entry, time, resource, identity"
_MARKS = "(?, ?, ?, ?, ?, ?, ?)"
_ROWS_A_STATEMENT = 64


def is_postgres(connection: Any) -> bool:
    """Whether a driver's connection is psycopg's."""
    return type(connection).__module__.startswith("psycopg")


def run(connection: Any, statement: str, parameters: Sequence[object] = ()) -> Any:
    """Execute with ``?`` placeholders on either driver."""
    if is_postgres(connection):
        return connection.execute(statement.replace("?", "%s"), parameters)
    return connection.execute(statement, parameters)


def create(connection: Any) -> None:
    """Create the tables where they are missing."""
    if is_postgres(connection):
        connection.execute("SELECT pg_advisory_xact_lock(1801812323)")
    for statement in _POSTGRES_DDL if is_postgres(connection) else _SQLITE_DDL:
        connection.execute(statement)


@dataclass(slots=True)
class Head:
    """The head row."""

    origin: str
    epoch: int
    frontier: Frontier
    generation: int
    vkey: str

    @property
    def log_origin(self) -> str:
        """The origin of this epoch's checkpoints."""
        return self.origin if self.epoch == 1 else f"{self.origin}/epoch-{self.epoch}"


def read_head(connection: Any, *, lock: bool = False) -> Head | None:
    """The head row; None before the log has begun.

    Raises:
        LedgerError: it is not one that this program can continue.
    """
    suffix = " FOR UPDATE" if lock and is_postgres(connection) else ""
    row = run(
        connection, f"SELECT format, origin, epoch, size, frontier, generation, vkey FROM ledger_head{suffix}"
    ).fetchone()
    if row is None:
        return None
    if row[0] != FORMAT:
        raise LedgerError(f"the log has format {row[0]}; this program writes format {FORMAT}")
    try:
        frontier = Frontier.parse(row[3], bytes(row[4]))
        if not isinstance(row[2], int) or not isinstance(row[5], int):
            raise ValueError("no number")
    except (TypeError, ValueError):
        raise LedgerError("the log's head does not fit itself", hint="keyleaf audit verify") from None
    return Head(row[1], row[2], frontier, row[5], row[6])


def insert_head(connection: Any, head: Head) -> None:
    """Write the first head row; another process may have been faster."""
    run(
        connection,
        "INSERT INTO ledger_head (id, format, origin, epoch, size, frontier, generation, vkey) "
        "VALUES (1, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (FORMAT, head.origin, head.epoch, head.frontier.size, head.frontier.packed(), head.generation, head.vkey),
    )


def write_head(connection: Any, head: Head) -> None:
    """Write size, frontier, epoch and generation."""
    run(
        connection,
        "UPDATE ledger_head SET epoch = ?, size = ?, frontier = ?, generation = ?",
        (head.epoch, head.frontier.size, head.frontier.packed(), head.generation),
    )


def append_entries(connection: Any, head: Head, records: Sequence[Record]) -> int:
    """Append to the locked ``head`` and write the entries; the caller writes the head. Returns the first index."""
    first = head.frontier.size
    rows: list[tuple[int, int, bytes, bytes, int, str, str]] = []
    for seq, record in enumerate(records, start=first):
        entry = encode(record, head.epoch, seq)
        leaf = leaf_hash(entry)
        head.frontier.append(leaf)
        rows.append(
            (head.epoch, seq, leaf, entry, record.time, column(record.resource.lower()), column(record.identity))
        )
    if not is_postgres(connection):
        # One statement for the batch: each statement is a turn of the interpreter lock.
        for start in range(0, len(rows), _ROWS_A_STATEMENT):
            part = rows[start : start + _ROWS_A_STATEMENT]
            marks = ", ".join([_MARKS] * len(part))
            connection.execute(
                f"INSERT INTO ledger_entry ({_COLUMNS}) VALUES {marks}", [value for row in part for value in row]
            )
    elif len(rows) < 4:
        for row in rows:
            run(connection, f"INSERT INTO ledger_entry ({_COLUMNS}) VALUES {_MARKS}", row)
    else:
        with (
            connection.cursor() as cursor,
            cursor.copy(f"COPY ledger_entry ({_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int8", "int8", "bytea", "bytea", "int8", "text", "text"])
            for row in rows:
                copy.write_row(row)
    return first


def column(text: str) -> str:
    """What a column that queries look in holds for ``text``: no NUL, which Postgres refuses, no lone surrogate."""
    return text.replace("\x00", "").encode(errors="replace").decode()
