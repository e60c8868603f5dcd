"""The first record of an epoch: an honest restore says what it went on from, and what was lost.

It carries the signed checkpoint of the restored log, and, where one that was kept elsewhere tells of more, that one
too. Whoever shortens the old epoch later contradicts the first; whoever denies the loss contradicts the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from keyleaf.core.errors import InputError
from keyleaf.ledger.checkpoint import Checkpoint, epoch_of, open_note
from keyleaf.ledger.record import Record

OPERATION = "LedgerEpoch"
_LONGEST_REASON = 300
_NOTE = re.compile(r"[^\n]+\n[0-9]+\n[^\n]+\n\n— [^\n]+\n")


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the first record of an epoch declares.

    Attributes:
        continued: the log that was restored, as it was when the epoch began.
        lost: the last checkpoint known of what was before; the same one if nothing was lost.
    """

    continued: Checkpoint
    lost: Checkpoint


def epoch_record(time: int, origin: str, reason: str, continued: str, lost: str) -> Record:
    """The record that begins an epoch.

    Args:
        origin: of the new epoch.
        continued: note of the restored log.
        lost: note kept elsewhere that tells of more records; empty for none.
    """
    said = " ".join(reason.split())[:_LONGEST_REASON]
    text = f"{said}\n\n{continued}" + (f"\n{lost}" if lost else "")
    return Record(
        time=time, request_id="", operation=OPERATION, decision="none", status=0, resource=origin, reason=text
    )


def beginning(entry: Record, vkey: str) -> Beginning | None:
    """What ``entry`` declares; None if it does not begin an epoch, or its checkpoints are not this log's."""
    if entry.operation != OPERATION:
        return None
    try:
        found = [open_note(note, vkey) for note in _NOTE.findall(entry.reason.partition("\n\n")[2])]
    except InputError:
        return None
    if not 1 <= len(found) <= 2:
        return None
    return Beginning(found[0], found[-1])


def is_ahead(kept: Checkpoint, epoch: int, size: int) -> bool:
    """Whether a checkpoint tells of more than a log at ``size`` in ``epoch`` has."""
    return (epoch_of(kept.origin)[1], kept.size) > (epoch, size)
