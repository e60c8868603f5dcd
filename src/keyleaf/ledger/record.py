"""One audit record: what is kept of every request, and its canonical bytes.

- An entry is RFC 8785 JSON: sorted keys, no spaces, integers only. Its hash is therefore a function of its content.
- ``epoch`` and ``seq`` are inside the entry: a record moved elsewhere in the log does not fit there.
- No value, no length of a value and no hash of a value is ever in it.
"""

from __future__ import annotations

import msgspec

from keyleaf.core.errors import LedgerError

MAX_ENTRY_BYTES = 65_535
_LONGEST = {"user_agent": 512, "path": 1024, "reason": 1024, "resource": 1024, "request_id": 128, "caller": 64}
_LONGEST_OTHER = 512


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it.

    Attributes:
        time: microseconds since 1970 UTC, when the request arrived.
        request_id: as answered in ``x-ms-request-id``.
        tenant: the directory.
        identity: ``oid`` of the caller; empty if it was not authenticated.
        client_id: ``appid`` of the caller, or the one that a failed token request claimed.
        identity_resource: ARM id of a managed identity.
        application: the Application of the tree that the identity belongs to.
        operation: as Azure names it: ``SecretGet``, ``Authentication`` …
        resource: scope that the operation is about: an ARM id, a secret's below its vault's.
        version: the version that was read or made.
        decision: allowed, denied, unauthenticated, or none where nothing had to be decided.
        reason: why: the role at which scope, or what was missing.
        assignment: id of the role assignment that allowed it.
        status: HTTP status of the answer.
        error: code and inner code of an error answer.
        latency_us: microseconds from arrival until the record was handed to the log.
        caller: address of the client.
    """

    time: int
    request_id: str
    operation: str
    decision: str
    status: int
    tenant: str = ""
    identity: str = ""
    client_id: str = ""
    identity_resource: str = ""
    application: str = ""
    resource: str = ""
    version: str = ""
    reason: str = ""
    assignment: str = ""
    error: str = ""
    latency_us: int = 0
    caller: str = ""
    user_agent: str = ""
    method: str = ""
    path: str = ""


class Entry(Record, frozen=True, kw_only=True):
    """A record at its place in the log."""

    epoch: int
    seq: int


_encoder = msgspec.json.Encoder(order="sorted")
_fields = Record.__struct_fields__


def encode(record: Record, epoch: int, seq: int) -> bytes:
    """The canonical bytes of ``record`` at its place."""
    fields = {name: getattr(record, name) for name in _fields}
    fields["epoch"] = epoch
    fields["seq"] = seq
    try:
        encoded = _encoder.encode(fields)
    except UnicodeEncodeError:
        encoded = _encoder.encode(_clean(fields))
    return encoded if len(encoded) <= 4096 else _encoder.encode(_clean(fields))


def decode(entry: bytes) -> Entry:
    """The record in an entry.

    Raises:
        LedgerError: the bytes are not an entry.
    """
    try:
        return msgspec.json.decode(entry, type=Entry)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LedgerError("an entry of the log is not a record") from None


def _clean(fields: dict[str, str | int]) -> dict[str, str | int]:
    """Cut over-long texts and replace lone surrogates, which JSON cannot carry."""
    cleaned: dict[str, str | int] = {}
    for name, value in fields.items():
        if isinstance(value, str):
            value = value[: _LONGEST.get(name, _LONGEST_OTHER)].encode(errors="replace").decode()
        cleaned[name] = value
    return cleaned
