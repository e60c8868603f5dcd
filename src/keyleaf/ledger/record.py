"""One audit record: what is kept of every request, and its canonical bytes.

- An entry is RFC 8785 JSON: sorted keys, no spaces, integers only. Its hash is therefore a function of its content.
- ``epoch`` and ``seq`` are inside the entry: a record moved elsewhere in the log does not fit there.
- No value, no length of a value and no hash of a value is ever in it.
"""

from __future__ import annotations

import copy

import msgspec

from keyleaf.core.errors import LedgerError

MAX_ENTRY_BYTES = 65_535
_LONGEST = {"user_agent": 512, "path": 1024, "reason": 1024, "resource": 1024, "request_id": 128, "caller": 64}
_LONGEST_OTHER = 512
_LONGEST_PLAIN = 4096


class Record(msgspec.Struct, kw_only=True):
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
        epoch / seq: its place in the log, written when it is appended.
        client_request_id / activity: what the client says of a read for an orchestration, see
            :mod:`keyleaf.core.activity_header`; absent from every other record.
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
    epoch: int = 0
    seq: int = 0
    client_request_id: str | msgspec.UnsetType = msgspec.UNSET
    activity: str | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder(order="sorted")
_texts = tuple(name for name, kind in Record.__annotations__.items() if kind == "str")


def encode(record: Record, epoch: int, seq: int) -> bytes:
    """The canonical bytes of ``record`` at its place, which is written into it."""
    record.epoch = epoch
    record.seq = seq
    try:
        encoded = _encoder.encode(record)
    except UnicodeEncodeError:
        encoded = b""
    return encoded if 0 < len(encoded) <= _LONGEST_PLAIN else _encoder.encode(_clean(record))


def decode(entry: bytes) -> Record:
    """The record in an entry.

    Raises:
        LedgerError: the bytes are not an entry.
    """
    try:
        return msgspec.json.decode(entry, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise LedgerError("an entry of the log is not a record", hint="keyleaf audit verify") from None


def _clean(record: Record) -> Record:
    """A copy with over-long texts cut and lone surrogates, which JSON cannot carry, replaced."""
    cleaned = copy.copy(record)
    for name in _texts:
        text: str = getattr(record, name)[: _LONGEST.get(name, _LONGEST_OTHER)]
        setattr(cleaned, name, text.encode(errors="replace").decode())
    return cleaned
