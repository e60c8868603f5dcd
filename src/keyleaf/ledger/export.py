"""The log in other people's shapes: JSON lines that verify on their own, CSV, and Azure's ``AuditEvent``.

AuditEvent: https://learn.microsoft.com/azure/key-vault/general/logging
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from keyleaf.core.errors import InputError
from keyleaf.ledger.reader import Stored, StoredNote
from keyleaf.ledger.record import Record, decode

# What spreadsheets take for a formula, in both widths: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class _Line(msgspec.Struct):
    """One line of the verifiable export."""

    epoch: int
    seq: int
    leaf: str
    entry: msgspec.Raw


class _NoteLine(msgspec.Struct):
    """A signed checkpoint among the lines, and the key that verifies it."""

    checkpoint: str
    vkey: str


def to_lines(entries: Iterable[Stored], notes: Iterable[StoredNote], vkey: str) -> Iterator[str]:
    """JSON lines that carry all that verification needs: records with their leaf hashes, then the checkpoints."""
    for stored in entries:
        line = _Line(stored.epoch, stored.seq, stored.leaf.hex(), msgspec.Raw(stored.entry))
        yield msgspec.json.encode(line).decode() + "\n"
    for stored_note in notes:
        yield msgspec.json.encode(_NoteLine(stored_note.note, vkey)).decode() + "\n"


def from_lines(lines: Iterable[str], name: str) -> tuple[list[Stored], list[StoredNote], str]:
    """Read the export back: entries, checkpoints, verifier key.

    Raises:
        InputError: names the file and the line.
    """
    entries: list[Stored] = []
    notes: list[StoredNote] = []
    vkey = ""
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            line = _read(text)
        except (msgspec.DecodeError, ValueError):
            raise InputError(f"{name}, line {number}: not a line of an exported log") from None
        if isinstance(line, _NoteLine):
            notes.append(StoredNote(line.checkpoint))
            if vkey not in ("", line.vkey):
                raise InputError(f"{name}, line {number}: a checkpoint by another key than the one before")
            vkey = line.vkey
        else:
            entries.append(Stored(line.epoch, line.seq, bytes.fromhex(line.leaf), bytes(line.entry)))
    return entries, notes, vkey


def _read(text: str) -> _Line | _NoteLine:
    line: _Line | _NoteLine
    if text.startswith('{"checkpoint"'):
        line = msgspec.json.decode(text, type=_NoteLine)
    else:
        line = msgspec.json.decode(text, type=_Line)
    # There is one way to write a line: what was not written by us is not ours.
    if msgspec.json.encode(line).decode() != text.rstrip("\n"):
        raise ValueError("not as it was written")
    if isinstance(line, _Line) and bytes.fromhex(line.leaf).hex() != line.leaf:
        raise ValueError("not as it was written")
    return line


def to_csv(entries: Iterable[Stored]) -> Iterator[str]:
    """CSV with a header; a cell that a spreadsheet would run as a formula starts with an apostrophe."""
    names = Record.__struct_fields__
    yield _row(names)
    for stored in entries:
        record = decode(stored.entry)
        values = (getattr(record, name) for name in names)
        yield _row(["" if value is msgspec.UNSET else _defused(str(value)) for value in values])


def to_audit_events(entries: Iterable[Stored]) -> Iterator[str]:
    """JSON lines in the shape of Azure's Key Vault audit log."""
    for stored in entries:
        yield msgspec.json.encode(audit_event(decode(stored.entry))).decode() + "\n"


def audit_event(record: Record) -> dict[str, object]:
    """One record as Azure writes it."""
    vault, _, name = record.resource.partition("/secrets/")
    claim = {"oid": record.identity, "appid": record.client_id}
    if record.identity_resource:
        claim["xms_mirid"] = record.identity_resource
    return {
        "time": _iso(record.time),
        "resourceId": vault.upper(),
        "operationName": record.operation,
        "operationVersion": "2026-04-01",
        "category": "AuditEvent",
        "resultType": "Success" if record.status < 400 else "Failed",
        "resultSignature": _signature(record.status),
        "resultDescription": record.error,
        "durationMs": str(record.latency_us // 1000),
        "callerIpAddress": record.caller,
        "correlationId": record.request_id,
        "identity": {"claim": claim},
        "properties": {
            "id": f"/secrets/{name}/{record.version}".rstrip("/") if name else record.path,
            "clientInfo": record.user_agent,
            "requestUri": record.path,
            "httpStatusCode": record.status,
            "isRbacAuthorized": record.decision == "allowed",
            "appliedAssignmentId": record.assignment,
            "tlsVersion": "TLS1_3",
        },
    }


def _signature(status: int) -> str:
    words = {200: "OK", 201: "Created", 204: "No Content", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
    return words.get(status, "Not Found" if status == 404 else str(status))


def _iso(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def _defused(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _row(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
