"""The audit log: durable appends by how many wait together, verification of a long log, proofs.

The peer of an append is one bare commit of one row by the same driver with the same durability: it is what a record
costs without group commit.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import results
from bench.postgres import postgres
from keyleaf.ledger import Ed25519Signer, Ledger, Record, connect, copy_of, snapshot, verify
from keyleaf.ledger.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SECONDS = 3.0
AWAITERS = (1, 32, 256)
ENTRIES = 1_000_000
LEAVES = 100_000
PROOFS = 20
SIGNER = Ed25519Signer("bench.keyleaf.dev/audit", bytes(range(32)))


def main() -> None:
    """Measure and write ``ledger.json``."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="keyleaf-bench-") as scratch:
        figures["sqlite_bare_commits_per_second"] = _bare_commits(Path(scratch) / "bare.db")
        _appends(f"sqlite:///{scratch}/appends.db", "sqlite", figures)
        with postgres() as url:
            if url is not None:
                _appends(url, "postgres", figures)
        _verify(f"sqlite:///{scratch}/long.db", figures)
    _proofs(figures)
    results.write("ledger", figures)
    for name, value in figures.items():
        print(f"{name:45} {value:,}")


def _record(number: int) -> Record:
    return Record(
        time=1_700_000_000_000_000 + number,
        request_id="5b3f1f7e-8d55-4a4e-9a51-6d1f3c0f7a11",
        tenant="4d0c5d3e-9a51-4a4e-8d55-5b3f1f7e7a11",
        identity="0d9f6f0e-6d1f-4c0f-9a51-000000000007",
        client_id="7d9f6f0e-6d1f-4c0f-9a51-000000000007",
        application="payments",
        operation="SecretGet",
        resource="/subscriptions/4d0c5d3e/resourceGroups/keyleaf/providers/Microsoft.KeyVault/vaults/kv/secrets/db",
        version="0123456789abcdef0123456789abcdef",
        decision="allowed",
        reason="Key Vault Secrets User",
        status=200,
        latency_us=400,
        caller="127.0.0.1",
        user_agent="azsdk-python-keyvault-secrets/4.10.0 Python/3.11.7 (Linux)",
        method="GET",
        path="/secrets/db",
    )


def _bare_commits(path: Path) -> int:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE row (content BLOB)")
    content, count, started = bytes(700), 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        connection.execute("INSERT INTO row VALUES (?)", (content,))
        count += 1
    connection.close()
    return round(count / (time.perf_counter() - started))


def _appends(url: str, name: str, figures: dict[str, Any]) -> None:
    """Each awaiter appends, waits until its record is durable, and appends the next."""
    ledger = Ledger.open(url, signer=SIGNER, origin=SIGNER.name)
    try:
        for awaiters in AWAITERS:
            count, seconds = asyncio.run(_awaiting(ledger, awaiters))
            figures[f"{name}_appends_per_second_{awaiters}_awaiters"] = round(count / seconds)
    finally:
        ledger.close()


async def _awaiting(ledger: Ledger, awaiters: int) -> tuple[int, float]:
    started = time.perf_counter()
    counts = [0] * awaiters

    async def one(number: int) -> None:
        while time.perf_counter() - started < SECONDS:
            await ledger.append(_record(counts[number]))
            counts[number] += 1

    await asyncio.gather(*(one(number) for number in range(awaiters)))
    return sum(counts), time.perf_counter() - started


def _verify(url: str, figures: dict[str, Any]) -> None:
    """Fill a log with entries in large transactions of the writer's own, and verify it as the command does."""
    ledger = Ledger.open(url, signer=SIGNER, origin=SIGNER.name)
    writer = connect(url)
    for start in range(0, ENTRIES, 20_000):
        writer.execute("BEGIN IMMEDIATE")
        ledger.append_within(writer, [_record(n) for n in range(start, min(start + 20_000, ENTRIES))])
        writer.execute("COMMIT")
    writer.close()
    anchor = ledger.checkpoint()
    ledger.close()
    connection = connect(url, read_only=True)
    started = time.perf_counter()
    with snapshot(connection):
        report = verify(copy_of(connection), [anchor])
    seconds = time.perf_counter() - started
    connection.close()
    if not report.fits or report.records != ENTRIES:
        raise SystemExit(f"the log does not verify: {report.problem}")
    figures["entries_verified"] = ENTRIES
    figures["verify_seconds"] = round(seconds, 1)
    figures["verify_entries_per_second"] = round(ENTRIES / seconds)
    figures["bytes_per_entry_in_sqlite"] = round(Path(url.split("///", 1)[1]).stat().st_size / ENTRIES)


def _proofs(figures: dict[str, Any]) -> None:
    """Proofs out of a list of leaf hashes, and checking them, which is what a receipt's holder does."""
    leaves = [leaf_hash(number.to_bytes(8, "big")) for number in range(LEAVES)]
    root, chance = root_of(leaves), random.Random(7)
    indexes = [chance.randrange(LEAVES) for _ in range(PROOFS)]
    started = time.perf_counter()
    inclusion = [inclusion_proof(leaves, index) for index in indexes]
    figures[f"inclusion_proofs_made_per_second_{LEAVES}_leaves"] = round(PROOFS / (time.perf_counter() - started), 1)
    sizes = [chance.randint(1, LEAVES) for _ in range(PROOFS)]
    roots = [root_of(leaves[:size]) for size in sizes]
    started = time.perf_counter()
    consistency = [consistency_proof(leaves, size) for size in sizes]
    figures[f"consistency_proofs_made_per_second_{LEAVES}_leaves"] = round(PROOFS / (time.perf_counter() - started), 1)
    rounds = 100
    started = time.perf_counter()
    for _ in range(rounds):
        for index, proof in zip(indexes, inclusion, strict=True):
            assert verify_inclusion(leaves[index], index, LEAVES, proof, root)
    figures["inclusion_proofs_checked_per_second"] = round(rounds * PROOFS / (time.perf_counter() - started))
    started = time.perf_counter()
    for _ in range(rounds):
        for size, old_root, proof in zip(sizes, roots, consistency, strict=True):
            assert verify_consistency(size, LEAVES, proof, old_root, root)
    figures["consistency_proofs_checked_per_second"] = round(rounds * PROOFS / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
