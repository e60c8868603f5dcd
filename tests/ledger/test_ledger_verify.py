"""Verification finds what was done to a copy, names the first record, and raises no false alarm."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ledger_logs import ORIGIN, SIGNER, START, VKEY, append, check, opened, record

from keyleaf.core.errors import KeyleafError, StateError
from keyleaf.ledger import Checkpoint, Ed25519Signer, Report, copy_of, open_note, snapshot, verify
from keyleaf.ledger.checkpoint import sign_note, verifier_key
from keyleaf.ledger.merkle import Frontier, leaf_hash
from keyleaf.ledger.record import decode, encode

MUTATIONS = 1000
RECORDS = 90
FORGER = Ed25519Signer(ORIGIN, bytes(32))


@dataclass
class Original:
    """A log, older copies of it, and the one checkpoint that was kept elsewhere."""

    now: sqlite3.Connection
    older: list[sqlite3.Connection]
    anchor: str


def in_memory(path: Path) -> sqlite3.Connection:
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    source = sqlite3.connect(path)
    source.backup(copy)
    source.close()
    return copy


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    path = tmp_path_factory.mktemp("log") / "state.db"
    url, older = f"sqlite:///{path}", []
    with opened(url) as ledger:
        for first, count in ((0, 17), (17, 1), (18, 31)):
            append(ledger, count, first)
            ledger.checkpoint()
            older.append(in_memory(path))
        append(ledger, RECORDS - 50, 49)
        older.append(in_memory(path))
        append(ledger, 1, RECORDS - 1)
        anchor = ledger.checkpoint()
    made = Original(in_memory(path), older, anchor)
    yield made
    for connection in (made.now, *made.older):
        connection.close()


def report_of(connection: sqlite3.Connection, anchor: str, vkey: str = VKEY) -> Report:
    """As the command does: what cannot even be read does not fit."""
    try:
        with snapshot(connection):
            return verify(copy_of(connection, vkey), [anchor])
    except KeyleafError as error:
        return Report(problem=str(error))


def altered_record(chance: random.Random, c: sqlite3.Connection, number: int) -> bytes:
    entry = decode(c.execute("SELECT entry FROM ledger_entry WHERE seq = ?", (number,)).fetchone()[0])
    if chance.random() < 0.5:
        entry.decision = "denied"
    else:
        entry.identity = "11111111-1111-4111-8111-111111111111"
    return encode(entry, 1, number)


def recompute(c: sqlite3.Connection, first: int) -> None:
    """What somebody with the file, the program and time can do: renumber, hash, and write the head anew."""
    rows = [row[0] for row in c.execute("SELECT entry FROM ledger_entry ORDER BY seq")]
    c.execute("DELETE FROM ledger_entry")
    frontier = Frontier()
    for seq, content in enumerate(rows):
        entry = encode(decode(content), 1, seq) if seq >= first else content
        r = decode(entry)
        frontier.append(leaf_hash(entry))
        c.execute(
            "INSERT INTO ledger_entry VALUES (1, ?, ?, ?, ?, ?, ?)",
            (seq, leaf_hash(entry), entry, r.time, r.resource.lower(), r.identity),
        )
    c.execute("UPDATE ledger_head SET size = ?, frontier = ?", (frontier.size, frontier.packed()))


# Each mutation returns the number of the first record that it touched, or None where it touched none;
# "about" tells that only a range can be named: everything was recomputed.
Mutation = Callable[[random.Random, sqlite3.Connection, Original], tuple[int | None, bool]]


def flip_bit(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    number, name = chance.randrange(RECORDS), chance.choice(["entry", "leaf"])
    content = bytearray(c.execute(f"SELECT {name} FROM ledger_entry WHERE seq = ?", (number,)).fetchone()[0])
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    c.execute(f"UPDATE ledger_entry SET {name} = ? WHERE seq = ?", (bytes(content), number))
    return number, False


def flip_column(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    number = chance.randrange(RECORDS)
    change = chance.choice(["time = time + 1", "resource = resource || 'x'", "identity = ''", "epoch = 2"])
    c.execute(f"UPDATE ledger_entry SET {change} WHERE seq = ?", (number,))
    return number, False


def retype(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    """SQLite keeps what it is given: a text where bytes belong, a number, a text where a number belongs."""
    number = chance.randrange(RECORDS)
    change = chance.choice(
        ["entry = CAST(entry AS TEXT)", "leaf = 1000000000000", "entry = 7.5", "time = 'x'", "identity = x'00'"]
    )
    c.execute(f"UPDATE ledger_entry SET {change} WHERE seq = ?", (number,))
    return number, False


def delete(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    first = chance.randrange(RECORDS)
    c.execute("DELETE FROM ledger_entry WHERE seq BETWEEN ? AND ?", (first, first + chance.randrange(3)))
    return first, False


def delete_and_renumber(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    first = chance.randrange(RECORDS)
    c.execute("DELETE FROM ledger_entry WHERE seq = ?", (first,))
    for seq in range(first + 1, RECORDS):
        c.execute("UPDATE ledger_entry SET seq = ? WHERE seq = ?", (seq - 1, seq))
    return first, False


def insert(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    place = chance.randrange(RECORDS + 1)
    source = chance.choice([n for n in range(RECORDS) if n != place])  # the same one twice is one too many after it
    for seq in range(RECORDS - 1, place - 1, -1):
        c.execute("UPDATE ledger_entry SET seq = ? WHERE seq = ?", (seq + 1, seq))
    source += source >= place
    c.execute(
        "INSERT INTO ledger_entry SELECT epoch, ?, leaf, entry, time, resource, identity FROM ledger_entry "
        "WHERE seq = ?",
        (place, source),
    )
    return place, False


def reorder(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    one, two = sorted(chance.sample(range(RECORDS), 2))
    for old, new in ((one, -1), (two, one), (-1, two)):
        c.execute("UPDATE ledger_entry SET seq = ? WHERE seq = ?", (new, old))
    return one, False


def truncate(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    end = chance.randrange(RECORDS)
    c.execute("DELETE FROM ledger_entry WHERE seq >= ?", (end,))
    if chance.random() < 0.7:
        c.execute("DELETE FROM ledger_checkpoint WHERE size > ?", (end,))
        recompute(c, RECORDS)
        return end, True
    return end, False


def roll_back(chance: random.Random, c: sqlite3.Connection, original: Original) -> tuple[int | None, bool]:
    older = chance.choice(original.older)
    older.backup(c)
    end: int = c.execute("SELECT count(*) FROM ledger_entry").fetchone()[0]
    if chance.random() < 0.5:  # and let it grow again
        for seq in range(end, RECORDS + chance.randrange(5)):
            entry = encode(record(5000 + seq), 1, seq)
            c.execute(
                "INSERT INTO ledger_entry VALUES (1, ?, ?, ?, ?, ?, ?)",
                (seq, leaf_hash(entry), entry, START, "", ""),
            )
        recompute(c, end)
    return end, True


def forge(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    """Change, drop or add records, recompute everything; checkpoints stay, are removed, or are signed by a new key."""
    number, kind = chance.randrange(RECORDS), chance.randrange(3)
    if kind == 0:
        c.execute("UPDATE ledger_entry SET entry = ? WHERE seq = ?", (altered_record(chance, c, number), number))
    elif kind == 1:
        c.execute("DELETE FROM ledger_entry WHERE seq = ?", (number,))
    else:
        c.execute(
            "INSERT INTO ledger_entry SELECT epoch, ?, leaf, ?, time, resource, identity FROM ledger_entry LIMIT 1",
            (-1, encode(record(7000), 1, number)),
        )
        for seq in range(RECORDS, number, -1):
            c.execute("UPDATE ledger_entry SET seq = ? WHERE seq = ?", (seq, seq - 1))
        c.execute("UPDATE ledger_entry SET seq = ? WHERE seq = -1", (number,))
    recompute(c, number)
    if chance.random() < 0.7:
        c.execute("DELETE FROM ledger_checkpoint WHERE size > ?", (number,))
    if chance.random() < 0.3:
        leaves = [row[0] for row in c.execute("SELECT leaf FROM ledger_entry ORDER BY seq")]
        frontier = Frontier()
        for leaf in leaves:
            frontier.append(leaf)
        note = sign_note(Checkpoint(ORIGIN, len(leaves), frontier.root()), FORGER)
        c.execute("DELETE FROM ledger_checkpoint")
        c.execute("INSERT INTO ledger_checkpoint VALUES (1, ?, ?, ?)", (len(leaves), note, frontier.packed()))
        c.execute("UPDATE ledger_head SET vkey = ?", (verifier_key(FORGER.name, FORGER.public_key),))
        return None, True
    return number, True


def edit_checkpoint(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    sizes = [row[0] for row in c.execute("SELECT size FROM ledger_checkpoint")]
    size, kind = chance.choice(sizes), chance.randrange(4)
    if kind == 0:
        note = c.execute("SELECT note FROM ledger_checkpoint WHERE size = ?", (size,)).fetchone()[0]
        place = chance.randrange(note.rindex("=")) if chance.random() < 0.5 else note.index("\n") + 1
        letter = chance.choice([x for x in "AZaz09" if x != note[place]])
        c.execute(
            "UPDATE ledger_checkpoint SET note = ? WHERE size = ?", (note[:place] + letter + note[place + 1 :], size)
        )
    elif kind == 1:
        c.execute("UPDATE ledger_checkpoint SET size = size + 1000 WHERE size = ?", (size,))
    elif kind == 2:
        c.execute("UPDATE ledger_checkpoint SET frontier = zeroblob(length(frontier)) WHERE size = ?", (size,))
    else:
        other = chance.choice([s for s in sizes if s != size])
        c.execute(
            "UPDATE ledger_checkpoint SET note = (SELECT note FROM ledger_checkpoint WHERE size = ?) WHERE size = ?",
            (other, size),
        )
    return None, False


def edit_head(chance: random.Random, c: sqlite3.Connection, _: Original) -> tuple[int | None, bool]:
    change = chance.choice(
        [
            "size = size - 1",
            "size = size + 8",
            "frontier = zeroblob(length(frontier))",
            "epoch = 2",
            "origin = origin || '.example'",
            "origin = origin || '/epoch-1'",
            "vkey = replace(vkey, 'A', 'B')",
            "format = 2",
            "size = 'many'",
            "frontier = 'x'",
            "epoch = 'x'",
        ]
    )
    c.execute(f"UPDATE ledger_head SET {change}")
    return None, False


MUTATIONS_OF: list[Mutation] = [
    flip_bit,
    flip_column,
    retype,
    delete,
    delete_and_renumber,
    insert,
    reorder,
    truncate,
    roll_back,
    forge,
    edit_checkpoint,
    edit_head,
]


def test_every_mutation_is_found_and_the_first_record_named(original: Original) -> None:
    missed: list[str] = []
    copy = sqlite3.connect(":memory:", isolation_level=None)
    sizes = [row[0] for row in original.now.execute("SELECT size FROM ledger_checkpoint ORDER BY size")]
    for seed in range(MUTATIONS):
        chance = random.Random(seed)
        original.now.backup(copy)
        mutate = MUTATIONS_OF[seed % len(MUTATIONS_OF)]
        number, about = mutate(chance, copy, original)
        report = report_of(copy, original.anchor)
        what = f"{mutate.__name__}, seed {seed}"
        if report.fits:
            missed.append(what)
        elif number is not None and about:
            # All of it hashes again: the signed checkpoint before the change is the last thing known to be good.
            good = max((size for size in sizes if size <= number), default=0)
            if report.first is None or not good <= report.first[1] <= number or report.first[0] != 1:
                missed.append(f"{what}: first changed is {number}, named was {report.first}: {report.problem}")
        elif number is not None and report.first != (1, number) and "record 0 of epoch 2" not in report.problem:
            missed.append(f"{what}: first changed is {number}, named was {report.first}: {report.problem}")
    copy.close()
    assert missed == []


def test_unmodified_logs_raise_no_alarm(original: Original) -> None:
    assert report_of(original.now, original.anchor).problem == ""
    for older in original.older:
        with snapshot(older):
            assert verify(copy_of(older, VKEY)).problem == ""


def test_a_growing_log_raises_no_alarm(database_url: str) -> None:
    """A copy is of one moment: head, records and checkpoints belong together while a server writes."""
    done = threading.Event()
    failures: list[str] = []
    with opened(database_url) as ledger:
        append(ledger, 5)
        anchor = ledger.checkpoint()

        def watch() -> None:
            while not done.is_set():
                report = check(database_url, anchor)
                failures.extend([report.problem] if report.problem else [])

        watcher = threading.Thread(target=watch)
        watcher.start()

        async def write() -> None:
            for turn in range(150):
                await asyncio.gather(*(ledger.append(record(10 * turn + n)) for n in range(10)))
                if turn % 40 == 0:
                    ledger.checkpoint()

        asyncio.run(write())
        done.set()
        watcher.join()
    assert failures == []
    assert check(database_url, anchor).records == 1505


def test_an_anchor_of_another_log_does_not_fit(original: Original) -> None:
    checkpoint = open_note(original.anchor, VKEY)
    for note in (
        sign_note(checkpoint, FORGER),
        sign_note(Checkpoint("another.example/log", checkpoint.size, checkpoint.root), SIGNER),
        sign_note(Checkpoint(ORIGIN, checkpoint.size, bytes(32)), SIGNER),
        sign_note(Checkpoint(ORIGIN, checkpoint.size + 1, checkpoint.root), SIGNER),
        sign_note(Checkpoint(f"{ORIGIN}/epoch-2", 1, checkpoint.root), SIGNER),
        "junk",
    ):
        assert not report_of(original.now, note).fits, note


def test_a_file_without_a_log_is_said_to_have_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty.db"
    sqlite3.connect(empty).close()
    for content in (b"", b"this is no database at all, but long enough to be looked at" * 40):
        empty.write_bytes(content)
        with pytest.raises(StateError):
            check(f"sqlite:///{empty}")


def test_flipped_bytes_in_the_file_itself_are_found_or_do_no_harm(tmp_path: Path) -> None:
    """Below SQL: a flipped byte may lie where nothing is; wherever it changes what is read, it is found."""
    path = tmp_path / "state.db"
    url = f"sqlite:///{path}"
    with opened(url) as ledger:
        append(ledger, 60)
        anchor = ledger.checkpoint()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole = path.read_bytes()
    truth = everything(path)
    found = 0
    for seed in range(150):
        chance = random.Random(seed)
        content = bytearray(whole)
        content[chance.randrange(100, len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            fits = check(url, anchor).fits
        except KeyleafError:
            fits = False
        found += not fits
        assert not fits or everything(path) == truth
    assert found > 20


def everything(path: Path) -> object:
    """All that the log's readers see; None if it cannot be read."""
    connection = sqlite3.connect(path)
    try:
        return [
            connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("ledger_entry", "ledger_checkpoint")
        ] + connection.execute("SELECT origin, epoch, size, frontier, vkey FROM ledger_head").fetchall()
    except sqlite3.Error:
        return None
    finally:
        connection.close()
