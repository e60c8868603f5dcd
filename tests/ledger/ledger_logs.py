"""Logs to test with: a key, records, and a short way to append and to look."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from keyleaf.ledger import Ed25519Signer, Ledger, Record, Report, connect, copy_of, snapshot, verifier_key, verify

ORIGIN = "keyleaf.dev/audit"
SIGNER = Ed25519Signer(ORIGIN, bytes(range(32)))
VKEY = verifier_key(SIGNER.name, SIGNER.public_key)
START = 1_790_000_000_000_000


def record(number: int = 0, **more: Any) -> Record:
    """A record that tells apart from others by its number."""
    fields: dict[str, Any] = {
        "time": START + number,
        "request_id": f"request-{number}",
        "operation": "SecretGet",
        "decision": "allowed",
        "status": 200,
        "identity": f"00000000-0000-4000-8000-{number % 7:012d}",
        "resource": f"/subscriptions/S/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv/secrets/s{number % 5}",
    }
    return Record(**(fields | more))


@contextlib.contextmanager
def opened(url: str, **more: Any) -> Iterator[Ledger]:
    """A log, open for the time of the block."""
    ledger = Ledger.open(url, signer=more.pop("signer", SIGNER), origin=ORIGIN, **more)
    try:
        yield ledger
    finally:
        ledger.close()


def append(ledger: Ledger, count: int, first: int = 0) -> list[int]:
    """Append records together; returns their places."""

    async def together() -> list[int]:
        return await asyncio.gather(*(ledger.append(record(first + n)) for n in range(count)))

    return asyncio.run(together())


def check(url: str, *anchors: str) -> Report:
    """Verify the database as it is."""
    connection = connect(url, read_only=True)
    try:
        with snapshot(connection):
            return verify(copy_of(connection, VKEY), anchors)
    finally:
        connection.close()


@contextlib.contextmanager
def writing(url: str) -> Iterator[Any]:
    """The driver's connection, in a transaction that the caller ends."""
    connection = connect(url)
    try:
        if url.startswith("sqlite"):
            connection.execute("BEGIN IMMEDIATE")
        yield connection
    finally:
        connection.close()
