"""The header that names who a request is for."""

from __future__ import annotations

from collections import Counter
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.client import Caller
from keyleaf.client.callers import LONGEST_HEADER, activity_header

TEXT = st.text(max_size=40)
CALLERS = st.lists(st.builds(Caller, TEXT, st.sampled_from(["charge", "mail, then wait", "é/;n=3"])), max_size=200)


def test_the_form() -> None:
    callers = [Caller("order-17", "charge"), *[Caller("order-18", "charge")] * 3, Caller("a/b,c", "pay;n=2")]
    assert activity_header(callers) == "order-17/charge,order-18/charge;n=3,a%2Fb%2Cc/pay%3Bn%3D2"
    assert activity_header([]) == ""
    assert activity_header([Caller("half a pair: \ud83d", "x")]) == "half%20a%20pair%3A%20%3F/x"


def test_what_has_no_room_is_counted() -> None:
    header = activity_header(Caller(f"order-{number}", "charge") for number in range(1000))
    entries = header.split(",")
    assert entries[0] == "order-0/charge"
    assert len(header) <= LONGEST_HEADER
    assert int(entries[-1].removeprefix("+")) == 1000 - (len(entries) - 1)


@settings(deadline=None)
@given(CALLERS)
def test_it_can_be_read_back(callers: list[Caller]) -> None:
    header = activity_header(callers)
    assert len(header.encode("ascii")) <= LONGEST_HEADER
    entries = header.split(",") if header else []
    left_out = int(entries.pop()[1:]) if entries and entries[-1].startswith("+") else 0
    read: Counter[Caller] = Counter()
    for entry in entries:
        pair, _, count = entry.partition(";n=")
        instance, activity = (unquote(part) for part in pair.split("/"))
        read[Caller(instance, activity)] = int(count or 1)
    counted = Counter(callers)
    assert len(read) + left_out == len(counted)
    assert all(counted[caller] == count for caller, count in read.items())
    assert left_out == 0 or len(header) > LONGEST_HEADER - 800
