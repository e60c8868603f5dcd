"""Verification of a copy, offline: every record at its place, every checkpoint reached, every anchor contained.

What is checked, in order of the log:
- the records of an epoch are numbered 0, 1, 2 … without a gap, and each names its own place;
- each record's bytes hash to the leaf that is stored for it, and the columns that queries look in say the same;
- at every checkpoint's size the root is the one that was signed;
- an epoch goes on from exactly what its first record declares;
- the head says as many records as there are;
- an anchor (a checkpoint kept elsewhere) is signed by the log's key, and the log leads to it: this is what a roll-back,
  or a forger who recomputed everything but lacks the signing key, cannot pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from keyleaf.core.errors import InputError, LedgerError
from keyleaf.ledger.checkpoint import Checkpoint, epoch_of, open_note
from keyleaf.ledger.epoch import Beginning, beginning, is_ahead
from keyleaf.ledger.merkle import Frontier, leaf_hash
from keyleaf.ledger.reader import Stored, StoredNote
from keyleaf.ledger.record import Record, decode
from keyleaf.ledger.tables import column


@dataclass
class Report:
    """What verification found.

    Attributes:
        records / checkpoints / anchors: how many were checked and fit.
        sizes: number of records by epoch.
        unsigned: how many records follow the last checkpoint: no signature vouches for them yet.
        lost: one sentence for each restore that lost records, as the log itself declares.
        first: epoch and number of the first record that does not fit; None if all do, or if none can be named.
        problem: what does not fit; empty if all does.
    """

    records: int = 0
    checkpoints: int = 0
    anchors: int = 0
    unsigned: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    first: tuple[int, int] | None = None
    problem: str = ""

    @property
    def fits(self) -> bool:
        """Whether everything fits."""
        return not self.problem


@dataclass(frozen=True)
class Copy:
    """A copy of a log, from wherever it was read.

    Attributes:
        vkey: what checkpoints are verified with.
        head: (origin, epoch, size, root) as the copy's head claims; None for a copy without head (an export).
        claimed_vkey: the key that the copy itself names.
    """

    entries: Iterable[Stored]
    notes: Sequence[StoredNote]
    vkey: str
    head: tuple[str, int, int, bytes] | None = None
    claimed_vkey: str = ""


def verify(copy: Copy, anchors: Sequence[str] = ()) -> Report:
    """Verify ``copy``; ``anchors`` are signed checkpoints that were kept elsewhere."""
    return _Verification(copy).run(anchors)


class _Misfit(Exception):
    """The first thing that does not fit."""

    def __init__(self, problem: str, first: tuple[int, int] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.first = first


class _Verification:
    """One walk through a copy."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.report = Report()
        self.signed: dict[tuple[int, int], list[tuple[Checkpoint, bool]]] = {}
        self.name = ""
        self.epoch, self.frontier, self.good = 1, Frontier(), 0
        self.reached: set[tuple[int, int]] = set()
        self.beginnings: dict[int, Beginning] = {}
        self.frontiers: dict[tuple[int, int], bytes] = {}

    def run(self, anchors: Sequence[str]) -> Report:
        try:
            self._gather(anchors)
            self._arrive()
            for stored in self.copy.entries:
                self._step(stored)
            self.report.sizes[self.epoch] = self.frontier.size
            self._check_end()
        except _Misfit as misfit:
            self.report.problem, self.report.first = misfit.problem, misfit.first
        return self.report

    def _gather(self, anchors: Sequence[str]) -> None:
        """Open every checkpoint."""
        copy = self.copy
        if copy.claimed_vkey and copy.claimed_vkey != copy.vkey:
            raise _Misfit("the copy names another signing key than the one that was kept")
        if copy.head is not None:
            self.name = epoch_of(copy.head[0])[0]
        for stored in copy.notes:
            place = stored.row[:2] if stored.row else None
            try:
                checkpoint = open_note(stored.note, copy.vkey)
            except InputError as error:
                raise _Misfit(f"a stored checkpoint is not valid: {error.message}", place) from None
            epoch = self._epoch_of(checkpoint)
            if stored.row is not None:
                if place != (epoch, checkpoint.size):
                    raise _Misfit(f"the checkpoint of size {checkpoint.size} is stored in the place of another", place)
                self.frontiers[epoch, checkpoint.size] = stored.row[2]
            self.signed.setdefault((epoch, checkpoint.size), []).append((checkpoint, False))
        for note in anchors:
            try:
                checkpoint = open_note(note, copy.vkey)
            except InputError as error:
                raise _Misfit(f"a checkpoint kept elsewhere is not this log's: {error.message}") from None
            self.signed.setdefault((self._epoch_of(checkpoint), checkpoint.size), []).append((checkpoint, True))

    def _epoch_of(self, checkpoint: Checkpoint) -> int:
        name, epoch = epoch_of(checkpoint.origin)
        self.name = self.name or name
        if name != self.name:
            raise _Misfit(f"a checkpoint is of another log, {name}")
        return epoch

    def _step(self, stored: Stored) -> None:
        """The next row."""
        if stored.epoch != self.epoch:
            self.report.sizes[self.epoch] = self.frontier.size
            if stored.epoch < self.epoch:
                raise _Misfit(f"record {stored.seq} of epoch {stored.epoch} is out of order", (self.epoch, 0))
            if stored.seq != 0:
                raise _Misfit(f"record 0 of epoch {stored.epoch} is missing", (stored.epoch, 0))
        expected = self.frontier.size if stored.epoch == self.epoch else 0
        entry = _checked(stored, expected)
        if stored.epoch != self.epoch:
            self._begin(stored.epoch, entry)
        self.frontier.append(stored.leaf)
        self.report.records += 1
        self._arrive()

    def _begin(self, epoch: int, entry: Record) -> None:
        """A new epoch: its first record declares where the last one ended."""
        declared = beginning(entry, self.copy.vkey)
        if declared is None:
            raise _Misfit(f"epoch {epoch} does not begin with a declaration of the one before", (epoch, 0))
        continued, lost = declared.continued, declared.lost
        have = self.frontier.size
        if epoch != self.epoch + 1 and epoch_of(lost.origin)[1] != epoch - 1:
            raise _Misfit(f"epoch {self.epoch + 1} is missing", (self.epoch + 1, 0))
        if epoch_of(continued.origin)[1] != self.epoch or continued.size > have:
            raise _Misfit(
                f"epoch {epoch} went on from {continued.size} records, but epoch {self.epoch} has only {have}: "
                "the end is missing",
                (self.epoch, have),
            )
        if continued.size < have:
            raise _Misfit(
                f"epoch {self.epoch} ended with {continued.size} records, but there are {have}",
                (self.epoch, continued.size),
            )
        if continued.root != self.frontier.root():
            raise _Misfit(
                f"epoch {epoch} went on from another epoch {self.epoch} than this one", (self.epoch, self.good)
            )
        self.beginnings[self.epoch] = declared
        if is_ahead(lost, self.epoch, have):
            self.report.lost.append(
                f"a restore lost what followed record {have - 1} of epoch {self.epoch}, "
                f"up to {lost.size} records in epoch {epoch_of(lost.origin)[1]}"
            )
        self.epoch, self.frontier, self.good = epoch, Frontier(), 0
        self._arrive()

    def _arrive(self) -> None:
        """Compare with everything that was signed at this place."""
        place = (self.epoch, self.frontier.size)
        self.reached.add(place)
        found = self.signed.get(place)
        if not found:
            return
        root = self.frontier.root()
        for checkpoint, anchor in found:
            if checkpoint.root != root:
                kept = "a checkpoint kept elsewhere" if anchor else "a signed checkpoint"
                raise _Misfit(
                    f"{kept} at size {checkpoint.size} has another root: "
                    f"the change is in records {self.good} to {checkpoint.size - 1}",
                    (self.epoch, self.good),
                )
            self.report.anchors += anchor
            self.report.checkpoints += not anchor
        if self.frontiers.get(place, self.frontier.packed()) != self.frontier.packed():
            raise _Misfit(f"the checkpoint of size {place[1]} is stored with another tree than it signs", place)
        self.good = self.frontier.size

    def _check_end(self) -> None:
        self._check_head()
        latest = max((place for place in self.signed if place in self.reached), default=(0, 0))
        for epoch, size in sorted(self.signed):
            if (epoch, size) in self.reached:
                continue
            for checkpoint, _ in self.signed[epoch, size]:
                if not self._is_declared_lost(epoch, checkpoint, latest[0]):
                    have = self.report.sizes.get(epoch, 0)
                    good = max((s for e, s in self.signed if e == epoch and (e, s) in self.reached), default=0)
                    changed = f", or something was changed from record {good} on" if good < have else ""
                    raise _Misfit(
                        f"{size} records were signed, but epoch {epoch} has only {have}: the end is missing{changed}",
                        (epoch, good),
                    )
        self.report.unsigned = self.frontier.size - self.good

    def _check_head(self) -> None:
        claim = self.copy.head
        if claim is None:
            return
        epoch, size = self.epoch, self.frontier.size
        if claim[0] != (self.name if claim[1] == 1 else f"{self.name}/epoch-{claim[1]}"):
            raise _Misfit(f"the head names another log, {claim[0]}", (epoch, size))
        if claim[1] != epoch:
            raise _Misfit(f"the head is in epoch {claim[1]}; the records end in epoch {epoch}", (epoch, 0))
        if claim[2:] != (size, self.frontier.root()):
            raise _Misfit(f"the head claims {claim[2]} records; there are {size}", (epoch, min(size, claim[2])))

    def _is_declared_lost(self, epoch: int, checkpoint: Checkpoint, signed_epoch: int) -> bool:
        """Whether a restore that was signed for declares that this checkpoint's records are lost."""
        for old, declared in self.beginnings.items():
            last = epoch_of(declared.lost.origin)[1], declared.lost.size
            if old < signed_epoch and old <= epoch and (epoch, checkpoint.size) <= last:
                return (epoch, checkpoint.size) < last or checkpoint.root == declared.lost.root
        return False


def _checked(stored: Stored, expected: int) -> Record:
    """The record of a row, if it fits its place."""
    place = (stored.epoch, expected)
    if stored.seq != expected:
        raise _Misfit(f"record {expected} is missing: record {stored.seq} follows", place)
    if leaf_hash(stored.entry) != stored.leaf:
        raise _Misfit(f"record {expected} was altered: its bytes do not have its hash", place)
    try:
        entry = decode(stored.entry)
    except LedgerError:
        raise _Misfit(f"record {expected} is not a record", place) from None
    if (entry.epoch, entry.seq) != (stored.epoch, stored.seq):
        raise _Misfit(
            f"record {expected} belongs elsewhere: it says that it is record {entry.seq} of epoch {entry.epoch}", place
        )
    columns = (entry.time, column(entry.resource.lower()), column(entry.identity))
    if stored.columns is not None and stored.columns != columns:
        raise _Misfit(f"record {expected} is filed under another time, resource or identity than it says", place)
    return entry
