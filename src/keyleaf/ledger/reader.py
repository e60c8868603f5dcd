"""Reading the log: entries in order, by filter, and who read what last."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET

from keyleaf.core.activity_header import decode_activities
from keyleaf.ledger.record import Record, decode
from keyleaf.ledger.tables import run

_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of the log as it is stored.

    Attributes:
        columns: time, resource and identity as queries see them; None in an export, which has none.
    """

    epoch: int
    seq: int
    leaf: bytes
    entry: bytes
    columns: tuple[int, str, str] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records to take; empty fields take all.

    Attributes:
        since / until: microseconds since 1970, inclusive and exclusive.
        identity: oid, client id, or application.
        resource: part of the resource's scope, regardless of case.
        secret: name of the secret: the last part of the scope.
        request_id: the server's, or the client's.
        instance / activity: of the orchestration that a read was for; both of the same entry.
    """

    since: int | None = None
    until: int | None = None
    identity: str = ""
    operation: str = ""
    resource: str = ""
    secret: str = ""
    decision: str = ""
    status: int | None = None
    request_id: str = ""
    instance: str = ""
    activity: str = ""

    def takes(self, record: Record) -> bool:
        """Whether a record passes."""
        who = (record.identity.lower(), record.client_id.lower(), record.application.lower())
        resource = record.resource.lower()
        return (
            (not self.identity or self.identity.lower() in who)
            and (not self.operation or self.operation.lower() == record.operation.lower())
            and (not self.resource or self.resource.lower() in resource)
            and (not self.secret or resource.endswith(f"/secrets/{self.secret.lower()}"))
            and (not self.decision or self.decision == record.decision)
            and (self.status is None or self.status == record.status)
            and (not self.request_id or self.request_id in (record.request_id, record.client_request_id))
            and (not (self.instance or self.activity) or self._names(record))
        )

    def _names(self, record: Record) -> bool:
        return record.activity is not UNSET and any(
            self.instance in ("", named.instance) and self.activity in ("", named.activity)
            for named in decode_activities(record.activity)
        )


def stored_entries(connection: Any, *, epoch: int | None = None, after: int = -1) -> Iterator[Stored]:
    """The rows of one epoch (or of all), in order, from the one after ``after``."""
    epochs = [epoch] if epoch is not None else [row[0] for row in _all(connection, _EPOCHS)]
    for number in epochs:
        position = after
        while True:
            rows = _all(
                connection,
                "SELECT epoch, seq, leaf, entry, time, resource, identity FROM ledger_entry "
                "WHERE epoch = ? AND seq > ? ORDER BY seq LIMIT ?",
                (number, position, _CHUNK),
            )
            for row in rows:
                yield Stored(_number(row[0]), _number(row[1]), _blob(row[2]), _blob(row[3]), (row[4], row[5], row[6]))
            if len(rows) < _CHUNK:
                break
            position = rows[-1][1]


_EPOCHS = "SELECT DISTINCT epoch FROM ledger_entry ORDER BY epoch"


def query(
    connection: Any, wanted: Filter, *, limit: int | None = None, after: tuple[int, int] = (0, -1)
) -> Iterator[Record]:
    """The records that pass ``wanted``, oldest first, from the one that follows epoch and number ``after``."""
    conditions, parameters = ["1 = 1"], []
    if wanted.since is not None:
        conditions.append("time >= ?")
        parameters.append(wanted.since)
    if wanted.until is not None:
        conditions.append("time < ?")
        parameters.append(wanted.until)
    taken = 0
    position = after
    while True:
        rows = _all(
            connection,
            f"SELECT epoch, seq, entry FROM ledger_entry WHERE (epoch, seq) > (?, ?) AND {' AND '.join(conditions)} "
            "ORDER BY epoch, seq LIMIT ?",
            (*position, *parameters, _CHUNK),
        )
        for row in rows:
            record = decode(_blob(row[2]))
            if wanted.takes(record):
                yield record
                taken += 1
                if taken == limit:
                    return
        if len(rows) < _CHUNK:
            return
        position = (rows[-1][0], rows[-1][1])


def last(connection: Any, wanted: Filter, count: int) -> list[Record]:
    """The last ``count`` records that pass, oldest first."""
    found: list[Record] = []
    row = run(connection, "SELECT epoch, seq FROM ledger_entry ORDER BY epoch DESC, seq DESC LIMIT 1").fetchone()
    position = None if row is None else (row[0], row[1] + 1)
    while position is not None and len(found) < count:
        rows = _all(
            connection,
            "SELECT epoch, seq, entry FROM ledger_entry WHERE (epoch, seq) < (?, ?) "
            "ORDER BY epoch DESC, seq DESC LIMIT ?",
            (*position, _CHUNK),
        )
        for row in rows:
            record = decode(_blob(row[2]))
            in_time = (wanted.since is None or record.time >= wanted.since) and (
                wanted.until is None or record.time < wanted.until
            )
            if in_time and wanted.takes(record):
                found.append(record)
                if len(found) == count:
                    break
        position = (rows[-1][0], rows[-1][1]) if len(rows) == _CHUNK else None
    return found[::-1]


def reads_of(connection: Any, resource: str) -> list[Record]:
    """The last record of each identity about one resource (a secret's scope), newest first: who did read it."""
    rows = _all(
        connection,
        "SELECT e.entry FROM ledger_entry e JOIN (SELECT identity, max(time) AS newest FROM ledger_entry "
        "WHERE resource = ? GROUP BY identity) n ON e.identity = n.identity AND e.time = n.newest WHERE e.resource = ?",
        (resource.lower(), resource.lower()),
    )
    return sorted((decode(_blob(row[0])) for row in rows), key=lambda record: record.time, reverse=True)


@dataclass(frozen=True, slots=True)
class StoredNote:
    """A signed checkpoint as it is stored.

    Attributes:
        row: epoch, size and packed frontier beside the note; None in an export, which has none.
    """

    note: str
    row: tuple[int, int, bytes] | None = None


def notes(connection: Any) -> list[StoredNote]:
    """Every stored checkpoint, oldest first."""
    rows = _all(connection, "SELECT note, epoch, size, frontier FROM ledger_checkpoint ORDER BY epoch, size")
    return [StoredNote(str(row[0]), (row[1], row[2], _blob(row[3]))) for row in rows]


def _blob(value: object) -> bytes:
    """The bytes in a cell; SQLite holds whatever somebody put there, and what are no bytes are none of ours."""
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _all(connection: Any, statement: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = run(connection, statement, parameters).fetchall()
    return rows
