"""Power cuts: the ledger's and the vault's own code on a simulated disk, cut at random moments.

A run writes secrets and audit records through the real code and notes each acknowledgement. The same run is then cut
many times, at random moments, each time keeping a random part of what was not synced; the files that are left are
opened as at a start. Nothing acknowledged may be missing, SQLite must find no corruption, and the log must verify
against every checkpoint that was handed out.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from crash.disk import Disk, Platter
from crash.driver import Connection
from keyleaf.core.clock import SeededRandomness
from keyleaf.core.errors import KeyleafError
from keyleaf.identity import create_tenant
from keyleaf.ledger import (
    Ed25519Signer,
    Ledger,
    Record,
    connect,
    copy_of,
    open_note,
    query,
    snapshot,
    verifier_key,
    verify,
)
from keyleaf.ledger.reader import Filter
from keyleaf.store import Database, Keyring, raw_connection, sqlite_url
from keyleaf.vault import VaultRow, create_vault, load_secret
from keyleaf.vault.bundles import SetRequest
from keyleaf.vault.secrets import set_secret

ORIGIN = "keyleaf.dev/audit"
SIGNER = Ed25519Signer(ORIGIN, bytes(range(32)))
_VKEY = verifier_key(SIGNER.name, SIGNER.public_key)
ROUNDS = 60
CUTS_OF_A_RUN = 100
NAME = "state.db"


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told: the record of its request, the version that it made, or a checkpoint to keep."""

    request_id: str = ""
    secret: str = ""
    version: str = ""
    value: str = ""
    note: str = ""


@dataclass
class Figures:
    """What the cuts did.

    Attributes:
        lost: cuts after which something acknowledged was missing.
        corrupt: cuts after which the database or the log did not fit itself.
        problems: what was found, and how often.
    """

    cuts: int = 0
    acknowledged: int = 0
    lost: int = 0
    corrupt: int = 0
    problems: Counter[str] = field(default_factory=Counter)


@dataclass
class _Run:
    """One recorded run: the disk with everything that happened, from ``ready`` on with a vault in it."""

    disk: Disk
    ready: int
    keyring: Keyring
    vault: VaultRow


def power_cuts(cuts: int, *, seed: int = 0, synchronous: str = "FULL", ignores_syncs: bool = False) -> Figures:
    """Cut ``cuts`` times and look at what is left.

    Args:
        synchronous / ignores_syncs: other than the defaults for the negative controls, which must fail.
    """
    figures = Figures()
    number = seed
    with tempfile.TemporaryDirectory(prefix="keyleaf-cut-", dir=_fast_folder()) as folder:
        while figures.cuts < cuts:
            run = _record(number, synchronous, ignores_syncs)
            chance = random.Random(number)
            moments = sorted(
                chance.randint(run.ready, len(run.disk.events)) for _ in range(min(CUTS_OF_A_RUN, cuts - figures.cuts))
            )
            platter = Platter()
            for moment in moments:
                platter.replay(run.disk.events, moment)
                told = [e.what for e in run.disk.events[:moment] if isinstance(e.what, Told)]
                lost, corrupt = _look(run, platter.cut(chance), told, Path(folder))
                figures.cuts += 1
                figures.acknowledged += len(told)
                figures.lost += bool(lost)
                figures.corrupt += bool(corrupt)
                figures.problems.update(text for text in (lost, corrupt) if text)
            number += 1
    return figures


def _record(seed: int, synchronous: str, ignores_syncs: bool) -> _Run:
    """Run the workload once."""
    chance, randomness = random.Random(seed), SeededRandomness(seed)
    disk = Disk(f"keyleaf-disk-{seed}-{synchronous}-{ignores_syncs}", ignores_syncs=ignores_syncs)
    driver = Connection(NAME, disk.vfs_name, synchronous=synchronous)
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool)
    database = Database(engine, f"sqlite:////{NAME}")
    database.migrate()
    keyring = Keyring(bytes(32), randomness)
    ledger = Ledger.open(
        database.url,
        signer=SIGNER,
        origin=ORIGIN,
        writer_lock=database.writer_lock,
        on_checkpoint=lambda note: disk.tell(Told(note=note)),
        connecting=lambda _: driver,
    )
    with database.write() as connection:
        create_tenant(connection, "t", "keyleaf.local")
        vault = create_vault(
            connection,
            keyring,
            name="kv-cut",
            resource_id="/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv-cut",
            tenant_id="t",
            location="local",
            now=0,
        )
    driver.inner.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    ready = len(disk.events)
    asyncio.run(_work(chance, disk, database, keyring, ledger, vault))
    end = len(disk.events)
    ledger.close()
    driver.inner.close()
    disk.unregister()
    del disk.events[end:]
    return _Run(disk, ready, keyring, vault)


async def _work(
    chance: random.Random, disk: Disk, database: Database, keyring: Keyring, ledger: Ledger, vault: VaultRow
) -> None:
    """Changes and reads, as the server's pipeline makes them."""
    randomness = SeededRandomness(chance.randrange(1 << 30))
    for number in range(ROUNDS):
        if chance.random() < 0.4:
            name, value = f"s{chance.randrange(6)}", chance.randbytes(chance.choice((8, 200, 3000))).hex()
            record = _made_record(f"set-{number}", "SecretSet")
            with database.write() as connection:
                made = set_secret(connection, keyring, randomness, vault, name, SetRequest(value=value), number)
                ledger.append_within(raw_connection(connection), [record])
            disk.tell(Told(record.request_id, name, made.version, value))
        else:
            records = [_made_record(f"get-{number}-{n}", "SecretGet") for n in range(chance.choice((1, 1, 3, 12)))]

            async def one(record: Record) -> None:
                await ledger.append(record)
                disk.tell(Told(record.request_id))

            await asyncio.gather(*(one(record) for record in records))
        if chance.random() < 0.1:
            ledger.checkpoint()


def _made_record(request_id: str, operation: str) -> Record:
    return Record(time=1, request_id=request_id, operation=operation, decision="allowed", status=200, path="/" * 100)


def _look(run: _Run, files: dict[str, bytes], told: list[Told], folder: Path) -> tuple[str, str]:
    """Open what is left as a start does; returns what was lost, and what does not fit."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in files.items():
        (folder / Path(name).name).write_bytes(content)
    path = folder / NAME
    url = sqlite_url(path)
    notes = [each.note for each in told if each.note]
    try:
        _check_integrity(path)
        known = open_note(notes[-1], _VKEY) if notes else None
        ledger = Ledger.open(url, signer=SIGNER, origin=ORIGIN, known=known)
        ledger.close()
        connection = connect(url, read_only=True)
        try:
            with snapshot(connection):
                report = verify(copy_of(connection, _VKEY), notes)
                there = {record.request_id for record in query(connection, Filter())}
        finally:
            connection.close()
        if not report.fits:
            return "", f"the log does not verify: {report.problem.split(':')[0]}"
        missing = [each for each in told if each.request_id and each.request_id not in there]
        if missing:
            return "an acknowledged record is missing", ""
        return _missing_secret(run, url, [each for each in told if each.secret]), ""
    except sqlite3.Error as error:
        return "", str(error)
    except KeyleafError as error:
        if "rolled back" in error.message:
            return "an acknowledged checkpoint is missing", ""
        return "", error.message


def _check_integrity(path: Path) -> None:
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("PRAGMA integrity_check").fetchall()
    finally:
        connection.close()
    if rows != [("ok",)]:
        raise sqlite3.DatabaseError("integrity_check")


def _missing_secret(run: _Run, url: str, told: list[Told]) -> str:
    vault = run.vault
    database = Database.open(url)
    try:
        with database.read() as connection:
            for each in told:
                found = load_secret(connection, vault.key, each.secret, each.version)
                if found is None:
                    return "an acknowledged secret is missing"
                value = run.keyring.unwrap_version(
                    vault.tenant_id, vault.name, vault.wrapped_key, found.name, found.version, found.wrapped_key
                ).open(found.sealed)
                if value.decode() != each.value:
                    return "an acknowledged secret has another value"
    finally:
        database.close()
    return ""


def _fast_folder() -> str | None:
    """Memory, where there is some: what is cut is simulated already."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None
