"""How a read says for which activity it is: what was written is read again, and anything may be sent."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.core.activity_header import LONGEST_HEADER, NamedActivity, decode_activities, encode_activities, kept

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=12))
def test_what_fits_is_read_again(named: list[tuple[str, str]]) -> None:
    header = encode_activities(named)
    found = [(each.instance, each.activity) for each in decode_activities(header)]
    left_out = int(header.rsplit("+", 1)[1]) if header.rpartition(",")[2].startswith("+") else 0
    assert found == list(Counter(named))[: len(found)]
    assert len(found) + left_out == len(set(named))
    assert len(header) <= LONGEST_HEADER
    assert kept(header.encode()) == header, "what a client of ours sends is kept as it is"


@given(st.binary(max_size=3000))
def test_anything_may_be_sent(sent: bytes) -> None:
    text = kept(sent)
    assert len(text) <= LONGEST_HEADER
    assert text.isascii() and (text.isprintable() or not text)
    decode_activities(text)
    decode_activities(sent.decode("latin-1"))


@pytest.mark.parametrize("header", ["", ",", "/", "a/", "/b", "+951", ";n=3", "order"])
def test_entries_that_are_none_name_nothing(header: str) -> None:
    assert decode_activities(header) == []


def test_an_example() -> None:
    header = encode_activities([("order-17", "charge"), *[("order/18", "charge,all")] * 3])
    assert header == "order-17/charge,order%2F18/charge%2Call;n=3"
    assert decode_activities(header + ",+951") == [
        NamedActivity("order-17", "charge"),
        NamedActivity("order/18", "charge,all"),
    ]
