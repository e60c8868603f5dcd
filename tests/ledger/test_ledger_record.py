"""Entries are canonical JSON, whatever a request carries."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.core.errors import LedgerError
from keyleaf.ledger.record import MAX_ENTRY_BYTES, Record, decode, encode

# Every code point, lone surrogates too: a header is whatever somebody sent.
texts = st.text(st.characters(exclude_categories=()), max_size=60)
texts |= st.sampled_from(
    ["\ud800", "\udfff x", "\u2028\u2029", "\x00\x1f\x7f\b\f", '"\\/', "é" * 900, "\U0001f511" * 1200]
)
records = st.builds(
    Record,
    time=st.integers(0, 2**52),
    request_id=texts,
    operation=texts,
    decision=st.sampled_from(["allowed", "denied", "unauthenticated", "none"]),
    status=st.integers(0, 599),
    tenant=texts,
    identity=texts,
    client_id=texts,
    identity_resource=texts,
    application=texts,
    resource=texts,
    version=texts,
    reason=texts,
    assignment=texts,
    error=texts,
    latency_us=st.integers(0, 10**9),
    caller=texts,
    user_agent=texts,
    method=texts,
    path=texts,
)


@given(records, st.integers(1, 9), st.integers(0, 2**40))
def test_entries_are_what_the_reference_encoder_writes(record: Record, epoch: int, seq: int) -> None:
    entry = encode(record, epoch, seq)
    assert len(entry) <= MAX_ENTRY_BYTES
    assert entry == rfc8785.dumps(json.loads(entry))
    read = decode(entry)
    assert (read.epoch, read.seq, read.time, read.status) == (epoch, seq, record.time, record.status)
    assert encode(read, epoch, seq) == entry


@given(records)
def test_short_and_plain_texts_are_kept_as_they_are(record: Record) -> None:
    read = decode(encode(record, 1, 0))
    for name in ("identity", "resource", "user_agent", "path"):
        text: str = getattr(record, name)
        if len(text) <= 60 and text.isascii():
            assert getattr(read, name) == text


def test_the_longest_record_has_a_limit() -> None:
    endless = dict.fromkeys(("user_agent", "path", "reason", "resource", "identity", "error"), "🔑" * 100000)
    entry = encode(Record(time=0, request_id="r" * 9999, operation="o", decision="none", status=0, **endless), 1, 0)
    assert len(entry) <= MAX_ENTRY_BYTES
    assert decode(entry).user_agent == "\U0001f511" * 512


@pytest.mark.parametrize("entry", [b"", b"{}", b"[]", b"\xff", b'{"time":"x"}', b"null", b'{"time":1e999}'])
def test_what_is_no_record_is_said_to_be_none(entry: bytes) -> None:
    with pytest.raises(LedgerError):
        decode(entry)
