"""May this log be continued? It must lead on from its last checkpoint, and from the one that was kept elsewhere.

Only the entries after the last stored checkpoint are read again; ``keyleaf audit verify`` reads all.
"""

from __future__ import annotations

from typing import Any

from keyleaf.core.errors import InputError, LedgerError
from keyleaf.ledger.checkpoint import Checkpoint, epoch_of, open_note
from keyleaf.ledger.epoch import is_ahead
from keyleaf.ledger.merkle import Frontier
from keyleaf.ledger.tables import Head, run

_VERIFY = "keyleaf audit verify"


def check_against_checkpoint(connection: Any, head: Head, known: Checkpoint | None) -> None:
    """Refuse a head that its last checkpoint, or the one kept elsewhere, does not lead to.

    Raises:
        LedgerError: it does not fit.
    """
    for table in ("ledger_entry", "ledger_checkpoint"):
        (latest,) = run(connection, f"SELECT max(epoch) FROM {table}").fetchone()
        if latest is not None and latest > head.epoch:
            raise LedgerError(f"the log's head is in epoch {head.epoch}, but there is an epoch {latest}", hint=_VERIFY)
    frontier = _last_signed(connection, head)
    if head.frontier.size < frontier.size:
        raise LedgerError(f"the log has {head.frontier.size} records, but {frontier.size} were signed", hint=_VERIFY)
    (end,) = run(connection, "SELECT max(seq) FROM ledger_entry WHERE epoch = ?", (head.epoch,)).fetchone()
    if head.frontier.size != (0 if end is None else end + 1):
        raise LedgerError("the log does not end where its head says", hint=_VERIFY)
    if known is not None:
        _check_known(connection, head, known)
    for leaf in _leaves(connection, head.epoch, frontier.size):
        frontier.append(leaf)
    if frontier.size != head.frontier.size or frontier.hashes != head.frontier.hashes:
        raise LedgerError("the log's records do not fit its head", hint=_VERIFY)


def _last_signed(connection: Any, head: Head) -> Frontier:
    """The tree at the epoch's last stored checkpoint; an empty one if there is none."""
    row = run(
        connection,
        "SELECT note, frontier, size FROM ledger_checkpoint WHERE epoch = ? ORDER BY size DESC LIMIT 1",
        (head.epoch,),
    ).fetchone()
    if row is None:
        return Frontier()
    try:
        stored = open_note(row[0], head.vkey)
        frontier = Frontier.parse(row[2], bytes(row[1]))
    except (ValueError, InputError):
        raise LedgerError("the last checkpoint does not fit itself", hint=_VERIFY) from None
    if (stored.origin, stored.size, stored.root) != (head.log_origin, frontier.size, frontier.root()):
        raise LedgerError("the last checkpoint does not fit itself", hint=_VERIFY)
    return frontier


def _check_known(connection: Any, head: Head, known: Checkpoint) -> None:
    name, epoch = epoch_of(known.origin)
    if name != head.origin:
        raise LedgerError(f"the checkpoint kept elsewhere is of another log, {name}")
    restored = "if you restored it on purpose: keyleaf audit epoch"
    if is_ahead(known, head.epoch, head.frontier.size):
        raise LedgerError(
            f"the log has {head.frontier.size} records in epoch {head.epoch}, but a checkpoint kept elsewhere has "
            f"{known.size} in epoch {epoch}: the database was rolled back",
            hint=restored,
        )
    if epoch == head.epoch and _root_at(connection, head, known.size) != known.root:
        raise LedgerError(
            f"the log's first {known.size} records are not those that a checkpoint kept elsewhere was signed for: "
            "the database was rolled back and has grown again",
            hint=restored,
        )


def _root_at(connection: Any, head: Head, size: int) -> bytes:
    """The root that was signed at ``size``; where that checkpoint is gone, the one that the records have."""
    row = run(
        connection, "SELECT note FROM ledger_checkpoint WHERE epoch = ? AND size = ?", (head.epoch, size)
    ).fetchone()
    if row is not None:
        try:
            return open_note(row[0], head.vkey).root
        except InputError:
            raise LedgerError("a stored checkpoint is not valid", hint=_VERIFY) from None
    frontier = Frontier()
    for leaf in _leaves(connection, head.epoch, 0, size):
        frontier.append(leaf)
    return frontier.root()


def _leaves(connection: Any, epoch: int, start: int, end: int | None = None) -> Any:
    rows = run(
        connection,
        "SELECT leaf FROM ledger_entry WHERE epoch = ? AND seq >= ? AND seq < ? ORDER BY seq",
        (epoch, start, (1 << 62) if end is None else end),
    )
    return (bytes(row[0]) for row in rows)
