"""The header by which a read of a secret says for which activity of which instance it is: ``x-keyleaf-activity``.

``order-17/charge,order-18/charge;n=3,+951``: an entry is ``instance/activity``, both percent-encoded (RFC 3986,
section 2.1); ``;n=`` counts a pair that asked more than once; the last one tells how many entries had no room. It is
what the client says: the identity of a read is proven by its token, its activity is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

REQUEST_ID_HEADER = "x-ms-client-request-id"
ACTIVITY_HEADER = "x-keyleaf-activity"
LONGEST_HEADER = 1500
LONGEST_REQUEST_ID = 64


@dataclass(frozen=True)
class NamedActivity:
    """One activity of one orchestration instance."""

    instance: str
    activity: str


def encode_activities(named: Iterable[tuple[str, str]]) -> str:
    """Pairs of instance and activity as the header has them: at most 1,500 bytes."""
    counted = Counter(named)
    entries = [
        f"{_encoded(instance)}/{_encoded(activity)}{f';n={count}' if count > 1 else ''}"
        for (instance, activity), count in counted.items()
    ]
    whole = ",".join(entries)
    if len(whole) <= LONGEST_HEADER:
        return whole
    room = LONGEST_HEADER - len(f",+{len(entries)}")
    kept: list[str] = []
    for entry in entries:
        room -= len(entry) + bool(kept)
        if room < 0:
            break
        kept.append(entry)
    return ",".join([*kept, f"+{len(entries) - len(kept)}"])


def decode_activities(header: str) -> list[NamedActivity]:
    """What a header names. Entries that are none are left out; nothing is an error."""
    found: list[NamedActivity] = []
    for entry in header.split(","):
        instance, slash, activity = entry.partition(";")[0].partition("/")
        if slash and instance and activity:
            found.append(NamedActivity(unquote(instance), unquote(activity)))
    return found


def kept(value: bytes, longest: int = LONGEST_HEADER) -> str:
    """A header as the audit log keeps it: printable ASCII of bounded length, whatever was sent."""
    return quote(value[:longest].decode("latin-1"), safe="/,;=+%")[:longest]


def _encoded(text: str) -> str:
    return quote(text, safe="", errors="replace")
