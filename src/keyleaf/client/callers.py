"""Who wants a secret, and how a request says so: the header ``x-keyleaf-activity``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

REQUEST_ID_HEADER = "x-ms-client-request-id"
ACTIVITY_HEADER = "x-keyleaf-activity"
LONGEST_HEADER = 1500


@dataclass(frozen=True)
class Caller:
    """One activity of one orchestration instance."""

    instance: str
    activity: str


def activity_header(callers: Iterable[Caller]) -> str:
    """The callers of one request: ``order-17/charge,order-18/charge;n=3,+951``, at most 1,500 bytes.

    An entry is ``instance/activity``, both percent-encoded; ``;n=`` counts a pair that asked more than once; the last
    one tells how many entries had no room.

    Encoding: RFC 3986, section 2.1.
    """
    counted = Counter(callers)
    entries = [
        f"{_encoded(caller.instance)}/{_encoded(caller.activity)}{f';n={count}' if count > 1 else ''}"
        for caller, count in counted.items()
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


def _encoded(text: str) -> str:
    return quote(text, safe="", errors="replace")
