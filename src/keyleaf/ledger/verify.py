"""Verification of a copy, offline: every record at its place, every checkpoint reached, every anchor contained.

What is checked, in order of the log:
- the records of an epoch are numbered 0, 1, 2 … without a gap, and each names its own place;
- each record's bytes hash to the leaf that is stored for it;
- at every checkpoint's size the root is the one that was signed;
- the head says as many records as there are;
- an anchor (a checkpoint kept elsewhere) is signed by the log's key, and the log leads to it: this is what a roll-back,
  or a forger who recomputed everything but lacks the signing key, cannot pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from keyleaf.core.errors import InputError, LedgerError
from keyleaf.ledger.checkpoint import Checkpoint, open_note
from keyleaf.ledger.merkle import Frontier, leaf_hash
from keyleaf.ledger.reader import Stored
from keyleaf.ledger.record import decode


@dataclass
class Report:
    """What verification found.

    Attributes:
        records / checkpoints / anchors: how many were checked and fit.
        sizes: number of records by epoch.
        first: epoch and number of the first record that does not fit; None if all do, or if none can be named.
        problem: what does not fit; empty if all does.
    """

    records: int = 0
    checkpoints: int = 0
    anchors: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
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
        head: (origin, epoch, size, root) as the copy's head claims; None for a copy without head (an export).
    """

    entries: Iterable[Stored]
    notes: Sequence[str]
    vkey: str
    head: tuple[str, int, int, bytes] | None = None


def verify(copy: Copy, anchors: Sequence[str] = ()) -> Report:
    """Verify ``copy``; ``anchors`` are signed checkpoints that were kept elsewhere.

    Raises:
        InputError: an anchor is not a checkpoint of this log's key.
    """
    report = Report()
    wanted: dict[int, dict[int, list[tuple[Checkpoint, bool]]]] = {}
    for kind, texts in ((False, copy.notes), (True, anchors)):
        for note in texts:
            try:
                checkpoint = open_note(note, copy.vkey)
            except InputError as error:
                if kind:
                    raise
                report.problem = f"a stored checkpoint is not valid: {error.message}"
                return report
            wanted.setdefault(_epoch(checkpoint.origin), {}).setdefault(checkpoint.size, []).append((checkpoint, kind))
    epoch, frontier, good = 1, Frontier(), 0
    reached: set[tuple[int, int]] = set()

    def arrive() -> bool:
        nonlocal good
        for checkpoint, anchor in wanted.get(epoch, {}).get(frontier.size, []):
            if checkpoint.root != frontier.root():
                kept = "a checkpoint kept elsewhere" if anchor else "a signed checkpoint"
                report.problem = f"{kept} at size {checkpoint.size} has another root"
                report.problem += f": the change is in records {good} to {checkpoint.size - 1}"
                report.first = (epoch, good)
                return False
            report.anchors += anchor
            report.checkpoints += not anchor
            good = checkpoint.size
        reached.add((epoch, frontier.size))
        return True

    if not arrive():
        return report
    for stored in copy.entries:
        if stored.epoch != epoch:
            report.sizes[epoch] = frontier.size
            if stored.epoch != epoch + 1:
                report.problem, report.first = f"epoch {epoch + 1} is missing", (epoch + 1, 0)
                return report
            epoch, frontier, good = stored.epoch, Frontier(), 0
            if not arrive():
                return report
        problem = _misfit(stored, frontier.size)
        if problem:
            report.problem, report.first = problem, (epoch, frontier.size)
            return report
        frontier.append(stored.leaf)
        report.records += 1
        if not arrive():
            return report
    report.sizes[epoch] = frontier.size
    _check_end(copy, report, wanted, reached, epoch, frontier)
    return report


def _check_end(
    copy: Copy,
    report: Report,
    wanted: dict[int, dict[int, list[tuple[Checkpoint, bool]]]],
    reached: set[tuple[int, int]],
    epoch: int,
    frontier: Frontier,
) -> None:
    for number, sizes in sorted(wanted.items()):
        for size in sorted(sizes):
            if (number, size) not in reached:
                have = report.sizes.get(number, 0)
                report.problem = f"{size} records were signed, but epoch {number} has only {have}: the end is missing"
                report.first = (number, have)
                return
    if copy.head is not None and copy.head[1:] != (epoch, frontier.size, frontier.root()):
        report.problem = f"the head claims {copy.head[2]} records in epoch {copy.head[1]}; there are {frontier.size}"
        report.first = (epoch, min(frontier.size, copy.head[2]))


def _misfit(stored: Stored, expected: int) -> str:
    if stored.seq != expected:
        return f"record {expected} is missing: record {stored.seq} follows"
    if leaf_hash(stored.entry) != stored.leaf:
        return f"record {expected} was altered: its bytes do not have its hash"
    try:
        entry = decode(stored.entry)
    except LedgerError:
        return f"record {expected} is not a record"
    if (entry.epoch, entry.seq) != (stored.epoch, stored.seq):
        return f"record {expected} belongs elsewhere: it says that it is record {entry.seq} of epoch {entry.epoch}"
    return ""


def _epoch(origin: str) -> int:
    _, separator, number = origin.rpartition("/epoch-")
    return int(number) if separator and number.isdigit() else 1
