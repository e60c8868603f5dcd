"""The log as the server writes it: group commit, checkpoints, fail closed.

- ``append`` queues a record; whatever is queued, up to 256 records, is committed together, and only then are the
  waiters told. Under load many records share one fsync; alone, a record waits for no other.
- On SQLite with a fast disk the event loop commits by itself, at the end of its turn: handing a batch to a thread costs
  more in turns of the interpreter lock than the fsync takes. Where a commit is slow, or somebody else is writing, and
  on Postgres, a thread does it.
- ``append_within`` adds the record of a change to the change's own transaction.
- Where another process holds SQLite's file for too long, the records that wait are refused, and later ones may pass.
- After a failed commit nobody is told that a record is durable ever again: whether the disk kept it is not knowable
  from here. The log is off until the process restarts and checks it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from keyleaf.core.errors import LedgerError
from keyleaf.ledger.checkpoint import Checkpoint, Signer, epoch_of, sign_note, verifier_key
from keyleaf.ledger.connecting import connect
from keyleaf.ledger.continuing import check_against_checkpoint
from keyleaf.ledger.epoch import epoch_record, is_ahead
from keyleaf.ledger.merkle import Frontier
from keyleaf.ledger.record import Record
from keyleaf.ledger.tables import (
    Head,
    append_entries,
    create,
    insert_head,
    is_postgres,
    read_head,
    run,
    write_head,
)

LARGEST_BATCH = 256
SLOW_COMMIT_SECONDS = 0.010
TURNS_FOR_THE_THREAD = 20
CHECKPOINT_EVERY = 4096


class StaleGeneration(Exception):
    """The record was decided under a generation that has passed: decide again."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the generation is now {current}")
        self.current = current


class _NotBegunError(LedgerError):
    """The transaction could not even begin: nothing was written, and the next one may."""


class Appended(NamedTuple):
    """Where the first record went, and the generation that holds once the transaction is committed."""

    first: int
    generation: int


@dataclass(slots=True)
class _Waiting:
    record: Record
    generation: int | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[int]


class Ledger:
    """One append-only log. See the module's docstring for its rules."""

    def __init__(
        self, connection: Any, signer: Signer, writer_lock: Any, on_checkpoint: Callable[[str], None] | None
    ) -> None:
        self._connection = connection
        self._signer = signer
        self._lock = writer_lock
        self._on_checkpoint = on_checkpoint
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._pending: list[_Waiting] = []
        self._threaded = is_postgres(self._connection)
        self._turns_for_the_thread = 0
        self._gate = threading.Lock()
        self._failure: LedgerError | None = None
        self._broken = False  # a commit failed, as opposed to: the log was closed
        self._since_checkpoint = 0
        self.generation = 0  # as last seen
        self._thread = threading.Thread(target=self._write, name="ledger-writer", daemon=True)

    @staticmethod
    def open(
        url: str,
        *,
        signer: Signer,
        origin: str,
        writer_lock: Any = None,
        known: Checkpoint | None = None,
        on_checkpoint: Callable[[str], None] | None = None,
        connecting: Callable[[str], Any] = connect,
    ) -> Ledger:
        """Open the log, or begin it, and check that it fits its last checkpoint.

        Args:
            writer_lock: held around every transaction; shared with whoever else writes to the same SQLite file.
            known: the last checkpoint as kept outside the database; a log shorter than it has been rolled back.
            connecting: opens the driver's connection; another one lets a simulation stand for the disk.
            on_checkpoint: called with each new signed note, to keep it outside the database.

        Raises:
            LedgerError: the log does not fit; nothing has been written.
        """
        ledger = Ledger(connecting(url), signer, writer_lock or threading.Lock(), on_checkpoint)
        try:
            with ledger._transaction():
                create(ledger._connection)
                vkey = verifier_key(signer.name, signer.public_key)
                head = read_head(ledger._connection, lock=True)
                if head is None:
                    insert_head(ledger._connection, Head(origin, 1, Frontier(), 1, vkey))
                    head = read_head(ledger._connection, lock=True)
                    assert head is not None
                if head.vkey != vkey:
                    raise LedgerError("the log was signed with another key than this installation's")
                check_against_checkpoint(ledger._connection, head, known)
                ledger.generation = head.generation
        except BaseException:
            ledger._connection.close()
            raise
        ledger._thread.start()
        return ledger

    def append_within(self, connection: Any, records: Sequence[Record], *, bump: bool = True) -> Appended:
        """Append in the caller's writing transaction; call it last before commit.

        Args:
            connection: the driver's own connection (sqlite3 or psycopg).
            bump: raise the generation, so that every cached decision is made again.
        """
        self._check()
        head = self._locked_head(connection)
        first = append_entries(connection, head, records)
        if bump:
            head.generation += 1
        write_head(connection, head)
        return Appended(first, head.generation)

    async def append(self, record: Record, *, generation: int | None = None) -> int:
        """Append a record and wait until it is durable; returns its index.

        Raises:
            StaleGeneration: ``generation`` is given and no longer the current one; nothing was written.
            LedgerError: the log is off.
        """
        self._check()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(record, generation, loop, loop.create_future())
        if self._threaded:
            self._hand_over([waiting])
        else:
            self._pending.append(waiting)
            if len(self._pending) == 1:
                loop.call_soon(self._flush)
        return await waiting.future

    def checkpoint(self) -> str:
        """Sign the log as it is now, store the note and return it."""
        self._check()
        return self._store_checkpoint()

    def begin_epoch(self, moment: int, reason: str, kept: tuple[Checkpoint, str] | None = None) -> str:
        """Begin a new epoch after an honest restore; returns its first checkpoint.

        Its first record carries the restored log's checkpoint and, where it tells of more, the one kept elsewhere.

        Args:
            moment: microseconds since 1970 UTC.
            kept: the last checkpoint that is known of the time before the restore, and its note.
        """
        self._check()
        with self._transaction():
            head = self._locked_head(self._connection)
            continued = self._sign(head)
            lost = ""
            if kept is not None and is_ahead(kept[0], head.epoch, head.frontier.size):
                lost = kept[1]
                head.epoch = epoch_of(kept[0].origin)[1]
            head.epoch += 1
            head.frontier = Frontier()
            append_entries(self._connection, head, [epoch_record(moment, head.log_origin, reason, continued, lost)])
            head.generation += 1
            write_head(self._connection, head)
            note = self._sign(head)
        self._publish(note)
        return note

    @staticmethod
    def hold(connection: Any) -> None:
        """Lock the head before a change begins, so that changes of all processes follow one another.

        On SQLite ``BEGIN IMMEDIATE`` has done so already.
        """
        if is_postgres(connection):
            read_head(connection, lock=True)

    @staticmethod
    def current_generation(connection: Any) -> int:
        """The generation as the driver's ``connection`` sees it: other processes may have raised it."""
        head = read_head(connection)
        return 0 if head is None else head.generation

    @property
    def healthy(self) -> bool:
        """Whether the log still accepts records."""
        return self._failure is None

    @property
    def vkey(self) -> str:
        """The key that verifies this log's checkpoints."""
        return verifier_key(self._signer.name, self._signer.public_key)

    def close(self) -> None:
        """Write what is queued, sign a last checkpoint, and stop."""
        with self._gate:
            self._failure = self._failure or LedgerError("the log is closed")
            self._queue.put(None)
        self._thread.join()
        if not self._broken:
            with contextlib.suppress(Exception):
                self._store_checkpoint()
        self._connection.close()

    def _store_checkpoint(self) -> str:
        with self._transaction():
            head = self._locked_head(self._connection)
            note = self._sign(head)
        self._publish(note)
        return note

    def _hand_over(self, waitings: Sequence[_Waiting]) -> None:
        """Leave them to the thread; never behind its end, where nobody would look at them."""
        with self._gate:
            failure = self._failure
            if failure is None:
                for waiting in waitings:
                    self._queue.put(waiting)
        if failure is not None:
            _tell([(waiting, failure) for waiting in waitings])

    def _write(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            stop = False
            while len(batch) < LARGEST_BATCH:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stop = True
                    break
                batch.append(more)
            self._commit(batch)
            if stop:
                return

    def _flush(self) -> None:
        """Commit what this turn of the event loop has gathered; or leave it to the thread."""
        pending, self._pending = self._pending, []
        if self._failure is not None:
            _tell([(waiting, self._failure) for waiting in pending])
            return
        if self._turns_for_the_thread or not self._lock.acquire(blocking=False):
            self._turns_for_the_thread = max(0, self._turns_for_the_thread - 1)
            self._hand_over(pending)
            return
        started = time.perf_counter()
        try:
            for start in range(0, len(pending), LARGEST_BATCH):
                self._commit(pending[start : start + LARGEST_BATCH], held=True)
        finally:
            self._lock.release()
        if time.perf_counter() - started > SLOW_COMMIT_SECONDS:
            self._turns_for_the_thread = TURNS_FOR_THE_THREAD

    def _commit(self, batch: list[_Waiting], *, held: bool = False) -> None:
        outcomes: list[tuple[_Waiting, int | Exception]] = []
        note: str | None = None
        try:
            if self._broken:
                raise LedgerError("the audit log cannot be written")
            with self._transaction(held=held):
                head = self._locked_head(self._connection)
                fresh = [w for w in batch if w.generation is None or w.generation == head.generation]
                if fresh:
                    index = append_entries(self._connection, head, [w.record for w in fresh])
                    write_head(self._connection, head)
                    self._since_checkpoint += len(fresh)
                    if self._since_checkpoint >= CHECKPOINT_EVERY:
                        note = self._sign(head)
                self.generation = head.generation
            outcomes += [(w, index + offset) for offset, w in enumerate(fresh)] if fresh else []
            if len(fresh) != len(batch):
                kept = set(map(id, fresh))
                outcomes += [(w, StaleGeneration(head.generation)) for w in batch if id(w) not in kept]
        except Exception as error:
            failure = error if isinstance(error, LedgerError) else LedgerError("the audit log cannot be written")
            if not isinstance(error, _NotBegunError):
                self._broken = True
                self._failure = self._failure or failure
            outcomes = [(w, failure) for w in batch]
        _tell(outcomes)
        if note is not None:
            self._publish(note)

    def _sign(self, head: Head) -> str:
        """Sign ``head`` and store the note, in the transaction that holds it."""
        note = sign_note(Checkpoint(head.log_origin, head.frontier.size, head.frontier.root()), self._signer)
        run(
            self._connection,
            "INSERT INTO ledger_checkpoint (epoch, size, note, frontier) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (epoch, size) DO NOTHING",
            (head.epoch, head.frontier.size, note, head.frontier.packed()),
        )
        self._since_checkpoint = 0
        return note

    def _publish(self, note: str) -> None:
        if self._on_checkpoint is not None:
            self._on_checkpoint(note)

    def _locked_head(self, connection: Any) -> Head:
        head = read_head(connection, lock=True)
        if head is None:
            raise LedgerError("the log's head is missing", hint="keyleaf audit verify")
        return head

    @contextlib.contextmanager
    def _transaction(self, *, held: bool = False) -> Iterator[None]:
        with contextlib.nullcontext() if held else self._lock:
            if not is_postgres(self._connection):
                try:
                    self._connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    raise _NotBegunError("another process holds the database") from None
            try:
                yield
                self._connection.execute("COMMIT") if not is_postgres(self._connection) else self._connection.commit()
            except BaseException:
                with contextlib.suppress(Exception):
                    self._connection.rollback()
                raise

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure


def _tell(outcomes: list[tuple[_Waiting, int | Exception]]) -> None:
    """Wake the waiters: one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, int | Exception]]] = {}
    for waiting, outcome in outcomes:
        loops.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, told in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed while its waiters waited
            loop.call_soon_threadsafe(_resolve, told)


def _resolve(told: list[tuple[_Waiting, int | Exception]]) -> None:
    for waiting, outcome in told:
        if waiting.future.done():
            continue
        if isinstance(outcome, int):
            waiting.future.set_result(outcome)
        else:
            waiting.future.set_exception(outcome)
