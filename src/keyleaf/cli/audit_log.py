"""Finding the audit log, and showing its records: what the verbs of ``keyleaf audit`` share."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from keyleaf.cli.present import print_table
from keyleaf.cli.serve import state_directory
from keyleaf.core.activity_header import decode_activities
from keyleaf.core.errors import InputError, StateError
from keyleaf.ledger import Record, connect

_AGE = re.compile(r"([0-9]{1,6})([smhdw])\Z")
_UNITS: Mapping[str, timedelta] = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MISSING_ROLE = re.compile(r"^would allow it: '([^']+)'", re.MULTILINE)
COLUMNS = ("#", "time", "who", "operation", "what", "status", "decision", "reason")


@dataclass(frozen=True)
class LogPlace:
    """Where a log is, and what is kept beside it.

    Attributes:
        vkey: what verifies its checkpoints; empty if it is not kept here.
        kept: the note of the last checkpoint as the server keeps it beside the database; empty if there is none.
    """

    root: Path
    url: str
    vkey: str
    kept: str


def place_of(state: Path | None, *, database: bool = True) -> LogPlace:
    """The log that the command line or the environment names; nothing is written.

    Args:
        database: whether there has to be a database.

    Raises:
        StateError: there is none.
    """
    root = state_directory(state).expanduser().absolute()
    url = os.environ.get("KEYLEAF_DATABASE_URL", "")
    if not url and database:
        if not (root / "state.db").exists():
            raise StateError(f"there is no audit log in {root}", hint="name the state directory: --state")
        # Not through the store: SQLAlchemy, which nothing here needs, is half of the time that this command takes.
        url = f"sqlite:///{(root / 'state.db').resolve()}"
    return LogPlace(root, url, _text(root / "ledger.vkey").strip(), _text(root / "ledger.checkpoint"))


@contextlib.contextmanager
def reading(place: LogPlace) -> Iterator[Any]:
    """The driver's own connection, for reading only."""
    connection = connect(place.url, read_only=True)
    try:
        yield connection
    finally:
        connection.close()


def microseconds(text: str, option: str, now: datetime) -> int | None:
    """A moment as the log writes it: from an age (``90m``, ``7d``) or a time; None for an empty text.

    Raises:
        InputError: neither.
    """
    if not text:
        return None
    age = _AGE.match(text)
    try:
        if age:
            moment = now - int(age[1]) * _UNITS[age[2]]
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise InputError(
            f"{option} {text!r} is no time", hint="such as 2030-01-31T12:00Z, or an age: 90m, 7d"
        ) from None


def as_data(record: Record) -> dict[str, object]:
    """One record as plain data, for ``--json``: the time readable, the rest as it is kept."""
    data: dict[str, object] = msgspec.to_builtins(record)
    return {"epoch": data.pop("epoch"), "seq": data.pop("seq"), **data, "time": iso(record.time)}


def iso(moment: int) -> str:
    """Microseconds since 1970 as UTC time."""
    return (_EPOCH + timedelta(microseconds=moment)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(record: Record) -> tuple[str, ...]:
    """One record as cells."""
    place = str(record.seq) if record.epoch == 1 else f"{record.epoch}/{record.seq}"
    status = str(record.status) if record.status else "-"
    return place, iso(record.time), _who(record), record.operation, _what(record), status, record.decision, _why(record)


def line(record: Record) -> str:
    """One record as a line, where a table would have to know the end. Control characters are shown, not obeyed."""
    text = "  ".join(cell for cell in row(record) if cell)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def show(records: Iterable[Record]) -> None:
    """A table of records."""
    print_table(COLUMNS, ([_printable(cell) for cell in row(record)] for record in records))


def _who(record: Record) -> str:
    name = record.identity_resource.rsplit("/", 1)[-1]
    who = record.application or name or record.client_id or record.identity or "-"
    named = decode_activities(record.activity) if record.activity is not msgspec.UNSET else []
    more = f" +{len(named) - 1}" if len(named) > 1 else ""
    return f"{who} for {named[0].instance}/{named[0].activity}{more}" if named else who


def _what(record: Record) -> str:
    vault, separator, secret = record.resource.partition("/secrets/")
    name = vault.rsplit("/", 1)[-1]
    version = f"@{record.version[:8]}" if record.version else ""
    return (f"{name}/{secret}{version}" if separator else name) or record.path or "-"


def _why(record: Record) -> str:
    """The reason in a few words: ``--json`` and the export have all of it."""
    if record.decision == "allowed":
        return ""
    missing = _MISSING_ROLE.search(record.reason)
    return f"lacks {missing[1]}" if missing else record.reason.partition("\n")[0]


def _printable(cell: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cell)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"cannot read {path}", hint=getattr(error, "strerror", "") or "it is no text") from None
