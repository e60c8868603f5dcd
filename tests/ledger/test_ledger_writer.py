"""Writing the log, on SQLite and on Postgres: together or within a change, in order, and never after a failure."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledger_logs import ORIGIN, SIGNER, START, VKEY, append, check, opened, record, writing

from keyleaf.core.errors import LedgerError
from keyleaf.ledger import Ed25519Signer, Ledger, StaleGeneration, connect, last, open_note, query
from keyleaf.ledger.reader import Filter, notes, reads_of
from keyleaf.ledger.tables import run
from keyleaf.ledger.writer import CHECKPOINT_EVERY

_TABLES = ("ledger_head", "ledger_entry", "ledger_checkpoint")


def saved(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that the log holds, as a backup does."""
    with writing(url) as connection:
        return {table: run(connection, f"SELECT * FROM {table}").fetchall() for table in _TABLES}


def restored(url: str, backup: dict[str, list[tuple[Any, ...]]]) -> None:
    """Put a backup back in place."""
    with writing(url) as connection:
        for table, rows in backup.items():
            run(connection, f"DELETE FROM {table}")
            for row in rows:
                run(connection, f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()


def generation(url: str) -> int:
    with writing(url) as connection:
        return Ledger.current_generation(connection)


def breaks(ledger: Ledger, url: str) -> None:
    """Make the next commit of this log fail, as a full disk or a lost server does."""
    if url.startswith("sqlite"):
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
        return
    backend = ledger._connection.info.backend_pid
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (backend,))


def mends(ledger: Ledger, url: str) -> None:
    if url.startswith("sqlite"):
        ledger._connection.execute("PRAGMA max_page_count = 1000000")


def test_records_get_their_places_in_order(database_url: str) -> None:
    with opened(database_url) as ledger:
        assert append(ledger, 300) == list(range(300))
        assert append(ledger, 3, 300) == [300, 301, 302]
    report = check(database_url)
    assert (report.fits, report.records, report.problem) == (True, 303, "")
    connection = connect(database_url, read_only=True)
    found = list(query(connection, Filter()))
    assert [r.request_id for r in found] == [f"request-{n}" for n in range(303)]
    assert [r.seq for r in found] == list(range(303))
    connection.close()


def test_waiters_share_commits(database_url: str) -> None:
    with opened(database_url) as ledger:
        statements: list[str] = []
        if database_url.startswith("sqlite"):
            ledger._connection.set_trace_callback(statements.append)
        append(ledger, 512)
    commits = statements.count("COMMIT")
    if database_url.startswith("postgresql"):
        with psycopg.connect(database_url) as connection:
            row = connection.execute("SELECT count(DISTINCT xmin::text) FROM ledger_entry").fetchone()
            assert row is not None
            commits = row[0]
    assert 1 <= commits < 100


def test_a_checkpoint_is_signed_now_and_then(database_url: str) -> None:
    kept: list[str] = []
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        append(ledger, CHECKPOINT_EVERY + 10)
        sizes = [open_note(note, VKEY).size for note in kept]
        assert len(sizes) == 1
        assert CHECKPOINT_EVERY <= sizes[0] <= CHECKPOINT_EVERY + 10
    report = check(database_url, *kept)
    assert (report.fits, report.anchors) == (True, len(kept))


def test_the_generation_decides_who_may_append(database_url: str) -> None:
    with opened(database_url) as ledger:
        now = ledger.generation

        async def scenario() -> None:
            await ledger.append(record(0), generation=now)
            with pytest.raises(StaleGeneration) as stale:
                await ledger.append(record(1), generation=now + 1)
            assert stale.value.current == now
            outcomes = await asyncio.gather(
                ledger.append(record(2), generation=now),
                ledger.append(record(3), generation=now - 1),
                ledger.append(record(4)),
                return_exceptions=True,
            )
            assert outcomes[0] == 1
            assert isinstance(outcomes[1], StaleGeneration)
            assert outcomes[2] == 2

        asyncio.run(scenario())
        with writing(database_url) as connection:
            appended = ledger.append_within(connection, [record(5)])
            connection.commit()
        assert appended == (3, now + 1)
        with pytest.raises(StaleGeneration):
            asyncio.run(ledger.append(record(6), generation=now))
        asyncio.run(ledger.append(record(7), generation=now + 1))
    assert check(database_url).records == 5


def test_a_change_and_its_record_commit_together_or_not_at_all(database_url: str) -> None:
    with writing(database_url) as connection:
        run(connection, "CREATE TABLE thing (name TEXT)")
        connection.commit()
    with opened(database_url) as ledger:
        append(ledger, 5)
        before = generation(database_url)
        with writing(database_url) as connection:
            run(connection, "INSERT INTO thing VALUES ('undone')")
            ledger.append_within(connection, [record(5), record(6)])
            connection.rollback()
        assert generation(database_url) == before
        with writing(database_url) as connection:
            run(connection, "INSERT INTO thing VALUES ('done')")
            assert ledger.append_within(connection, [record(5)], bump=False).first == 5
            connection.commit()
        assert generation(database_url) == before
        assert append(ledger, 1, 6) == [6]
    with writing(database_url) as connection:
        assert run(connection, "SELECT name FROM thing").fetchall() == [("done",)]
    report = check(database_url)
    assert (report.fits, report.records) == (True, 7)


def test_two_writers_on_one_database_interleave(database_url: str) -> None:
    """As two server processes do: each has its own loop and its own lock."""
    places: list[list[int]] = [[], []]

    def work(number: int, ledger: Ledger) -> None:
        async def run_it() -> None:
            for turn in range(10):
                batch = [ledger.append(record(1000 * number + 10 * turn + n)) for n in range(10)]
                places[number] += await asyncio.gather(*batch)

        asyncio.run(run_it())

    with opened(database_url) as one, opened(database_url) as two:
        threads = [threading.Thread(target=work, args=(n, ledger)) for n, ledger in enumerate((one, two))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(places[0] + places[1]) == list(range(200))
        assert places[0] == sorted(places[0])
    report = check(database_url)
    assert (report.fits, report.records) == (True, 200)


def test_nothing_is_acknowledged_after_a_failed_commit(database_url: str) -> None:
    ledger = Ledger.open(database_url, signer=SIGNER, origin=ORIGIN)
    append(ledger, 10)
    breaks(ledger, database_url)
    with pytest.raises(LedgerError):
        asyncio.run(ledger.append(record(10, user_agent="x" * 400, path="y" * 900, reason="z" * 900)))
        append(ledger, 200, 11)  # a full disk may still have room for one
    assert not ledger.healthy
    mends(ledger, database_url)
    with pytest.raises(LedgerError):
        asyncio.run(ledger.append(record(300)))
    with pytest.raises(LedgerError):
        ledger.checkpoint()
    with writing(database_url) as connection:
        with pytest.raises(LedgerError):
            ledger.append_within(connection, [record(301)])
        connection.rollback()
    ledger.close()
    report = check(database_url)
    assert report.fits
    assert 10 <= report.records <= 11
    with opened(database_url) as again:
        assert append(again, 1, 400) == [report.records]


def test_a_locked_file_refuses_only_those_who_wait(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    with opened(url) as ledger:
        append(ledger, 3)
        ledger._connection.execute("PRAGMA busy_timeout = 50")
        with writing(url) as other:
            with pytest.raises(LedgerError, match="another process"):
                asyncio.run(ledger.append(record(3)))
            other.rollback()
        assert ledger.healthy
        assert append(ledger, 1, 4) == [3]
    report = check(url)
    assert (report.problem, report.records) == ("", 4)


def test_a_closed_log_refuses_at_once(database_url: str) -> None:
    with opened(database_url) as ledger:
        append(ledger, 1)
    with pytest.raises(LedgerError, match="closed"):
        asyncio.run(asyncio.wait_for(ledger.append(record(1)), 5))
    report = check(database_url)
    assert (report.records, report.checkpoints) == (1, 1)


def test_a_rolled_back_database_is_refused(database_url: str) -> None:
    kept: list[str] = []
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        append(ledger, 20)
    older = saved(database_url)
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        append(ledger, 20, 20)
    known = open_note(kept[-1], VKEY)
    with opened(database_url, known=known) as ledger:
        assert ledger.healthy
    restored(database_url, older)
    with pytest.raises(LedgerError, match="rolled back"), opened(database_url, known=known):
        pass
    # Without the checkpoint that was kept, the older copy looks whole: it grows past it, and is still refused.
    with opened(database_url) as ledger:
        append(ledger, 40, 500)
    with pytest.raises(LedgerError, match="rolled back"), opened(database_url, known=known):
        pass


def test_a_log_that_does_not_fit_is_refused(database_url: str) -> None:
    with opened(database_url) as ledger:
        append(ledger, 20)
        ledger.checkpoint()
        append(ledger, 20, 20)
    good = saved(database_url)
    for statement in (
        "DELETE FROM ledger_entry WHERE seq = 39",
        "UPDATE ledger_head SET size = 32",
        "UPDATE ledger_head SET epoch = 0",
        "UPDATE ledger_head SET format = 9",
        "DELETE FROM ledger_head",
        "UPDATE ledger_checkpoint SET size = 41 WHERE size = 40",
        "UPDATE ledger_checkpoint SET epoch = 2",
        "UPDATE ledger_checkpoint SET note = 'x'",
        "UPDATE ledger_checkpoint SET frontier = leaf FROM ledger_entry WHERE seq = 0",
        "UPDATE ledger_head SET vkey = 'somebody+00000000+AAAA'",
    ):
        with writing(database_url) as connection:
            run(connection, statement)
            connection.commit()
        with pytest.raises(LedgerError), opened(database_url):
            pass
        restored(database_url, good)
    # What follows the last checkpoint is read again, leaf by leaf.
    with writing(database_url) as connection:
        run(connection, "DELETE FROM ledger_checkpoint WHERE size = 40")
        run(connection, "UPDATE ledger_entry SET leaf = (SELECT leaf FROM ledger_entry WHERE seq = 1) WHERE seq = 30")
        connection.commit()
    with pytest.raises(LedgerError, match="do not fit"), opened(database_url):
        pass


def test_another_signing_key_is_refused(database_url: str) -> None:
    with opened(database_url) as ledger:
        append(ledger, 1)
    with pytest.raises(LedgerError, match="another key"):
        Ledger.open(database_url, signer=Ed25519Signer(ORIGIN, bytes(32)), origin=ORIGIN)
    with opened(database_url):
        pass


def test_an_honest_restore_begins_an_epoch(database_url: str) -> None:
    kept: list[str] = []
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        append(ledger, 20)
    older = saved(database_url)
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        append(ledger, 20, 20)
    lost = kept[-1]
    restored(database_url, older)
    with opened(database_url) as ledger:
        before = generation(database_url)
        first = ledger.begin_epoch(START, "disk\nfailed, restored from Sunday's backup", (open_note(lost, VKEY), lost))
        assert open_note(first, VKEY).origin == f"{ORIGIN}/epoch-2"
        assert generation(database_url) == before + 1
        assert append(ledger, 5, 100) == [1, 2, 3, 4, 5]
        final = ledger.checkpoint()
    report = check(database_url, kept[0], lost, first, final)
    assert (report.fits, report.problem, report.sizes) == (True, "", {1: 20, 2: 6})
    assert len(report.lost) == 1
    with opened(database_url, known=open_note(final, VKEY)) as ledger:
        assert append(ledger, 1) == [6]
    connection = connect(database_url, read_only=True)
    declared = next(query(connection, Filter(operation="LedgerEpoch")))
    assert lost in declared.reason
    assert declared.reason.startswith("disk failed, restored from Sunday's backup\n")
    assert [r.seq for r in last(connection, Filter(), 3)] == [4, 5, 6]
    connection.close()
    # Nobody may shorten the old epoch further by that declaration, nor go back before it.
    with writing(database_url) as connection:
        run(connection, "DELETE FROM ledger_entry WHERE epoch = 1 AND seq >= 15")
        run(connection, "DELETE FROM ledger_checkpoint WHERE epoch = 1")
        connection.commit()
    report = check(database_url)
    assert report.first == (1, 15)
    restored(database_url, older)
    with pytest.raises(LedgerError, match="rolled back"), opened(database_url, known=open_note(final, VKEY)):
        pass
    assert not check(database_url, final).fits


def test_a_restore_to_before_an_epoch_skips_its_number(database_url: str) -> None:
    kept: list[str] = []
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        append(ledger, 3)
    older = saved(database_url)
    with opened(database_url, on_checkpoint=kept.append) as ledger:
        ledger.begin_epoch(START, "first")
        append(ledger, 7)
    restored(database_url, older)
    lost = kept[-1]
    with opened(database_url) as ledger:
        note = ledger.begin_epoch(START, "second", (open_note(lost, VKEY), lost))
        assert open_note(note, VKEY).origin == f"{ORIGIN}/epoch-3"
    report = check(database_url, *kept, note)
    assert (report.problem, report.sizes) == ("", {1: 3, 3: 1})


def test_odd_texts_do_not_turn_the_log_off(database_url: str) -> None:
    odd = "a\x00b\ud800\udfff\u2028é"
    with opened(database_url) as ledger:
        asyncio.run(ledger.append(record(0, identity=odd, resource=odd, user_agent=odd, path=odd, request_id=odd)))
        append(ledger, 5, 1)
        with writing(database_url) as connection:
            ledger.append_within(connection, [record(6, identity=odd, resource=odd)])
            connection.commit()
        assert ledger.healthy
    report = check(database_url)
    assert (report.fits, report.problem, report.records) == (True, "", 7)


def test_queries_filter(database_url: str) -> None:
    with opened(database_url) as ledger:
        append(ledger, 40)
        asyncio.run(ledger.append(record(40, decision="denied", status=403, application="shop", client_id="C")))
    connection = connect(database_url, read_only=True)

    def places(limit: int | None = None, **wanted: Any) -> list[int]:
        return [r.seq for r in query(connection, Filter(**wanted), limit=limit)]

    assert places(since=START + 38) == [38, 39, 40]
    assert places(until=START + 2) == [0, 1]
    assert places(secret="S3", limit=3) == [3, 8, 13]
    assert places(decision="denied") == places(status=403) == places(identity="SHOP") == places(identity="c") == [40]
    assert places(request_id="request-7") == [7]
    assert places(operation="secretget", until=START + 1) == [0]
    assert places(resource="vaults/kv/", until=START + 1) == [0]
    assert places(resource="vaults/other/") == []
    assert [r.seq for r in last(connection, Filter(secret="s3"), 2)] == [33, 38]
    assert [r.seq for r in last(connection, Filter(since=START + 2, until=START + 4), 9)] == [2, 3]
    newest = reads_of(connection, record(3).resource)
    assert len({r.identity for r in newest}) == len(newest) == 7
    assert newest[0].seq == 38
    connection.close()


def test_a_path_may_have_any_letters(tmp_path: Path) -> None:
    folder = tmp_path / "a%20b#c?d é"
    folder.mkdir()
    url = f"sqlite:///{folder / 'state.db'}"
    with opened(url) as ledger:
        append(ledger, 2)
    assert (folder / "state.db").exists()
    assert check(url).records == 2


def test_stored_checkpoints_carry_their_trees(database_url: str) -> None:
    with opened(database_url) as ledger:
        for count in (1, 2, 4):
            append(ledger, count)
            ledger.checkpoint()
    connection = connect(database_url, read_only=True)
    assert [note.row[:2] for note in notes(connection) if note.row] == [(1, 1), (1, 3), (1, 7)]
    connection.close()
