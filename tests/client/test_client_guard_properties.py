"""For any value and any text around it: found when it is there, gone when it is scrubbed, not found when it is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from html.entities import codepoint2name
from itertools import pairwise
from urllib.parse import quote

from hypothesis import example, given, settings
from hypothesis import strategies as st

from keyleaf.client.guard import SecretGuard

# Only what can be written as UTF-8 reaches a wire; half of a surrogate pair cannot.
values = st.text(min_size=6, max_size=60) | st.text(st.characters(codec="ascii"), min_size=6, max_size=40)
texts = st.text(max_size=80) | st.text(st.sampled_from("aA1 %&\\+/=-_:;\"'<>#xu\n"), max_size=40)
chosen = st.integers(0, 2**64 - 1)


def each(value: str, bits: int, must: str, one: Callable[[str, int], str]) -> str:
    """Escape the characters that ``bits`` choose, and those that have to be."""
    return "".join(
        one(character, bits >> index % 61 & 7) if character in must or bits >> (index % 64) & 1 else character
        for index, character in enumerate(value)
    )


def url(value: str, bits: int) -> str:
    def one(character: str, how: int) -> str:
        if character == " " and how & 2:
            return "+"
        escaped = "".join(f"%{byte:02X}" for byte in character.encode())
        return escaped.lower() if how & 4 else escaped

    return each(value, bits, "%+", one)


def json_escaped(value: str, bits: int) -> str:
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\b": "\\b", "\f": "\\f", "/": "\\/", '"': '\\"', "\\": "\\\\"}

    def one(character: str, how: int) -> str:
        if how & 2 and character in short:
            return short[character]
        units = character.encode("utf-16-be").hex()
        units = units.upper() if how & 4 else units
        return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))

    return each(value, bits, '\\"\n', one)


def html_escaped(value: str, bits: int) -> str:
    def one(character: str, how: int) -> str:
        number = ord(character)
        if how & 4 and number in codepoint2name:
            return f"&{codepoint2name[number]};"
        return f"&#{number};" if how & 2 else f"&#x{number:X};"

    return each(value, bits, "&<>", one)


def base64_of(value: str, bits: int) -> str:
    data = value.encode("utf-16-le" if bits & 1 else "utf-8")
    data = b"\xfa" * (bits >> 1 & 3) + data + b"\xfb" * (bits >> 3 & 3)
    encoded = (base64.urlsafe_b64encode if bits & 32 else base64.b64encode)(data).decode()
    encoded = encoded.rstrip("=") if bits & 64 else encoded
    width = 4 + (bits >> 8) % 72
    return "\n".join(encoded[at : at + width] for at in range(0, len(encoded), width)) if bits & 128 else encoded


def hexadecimal_of(value: str, bits: int) -> str:
    data = value.encode("utf-16-le" if bits & 1 else "utf-8")
    digits = (data.hex(), data.hex(":"), data.hex(" "), data.hex("-"))[bits >> 1 & 3]
    return digits.upper() if bits & 8 else digits


def plain(value: str, bits: int) -> str:
    return value


SINGLE = [plain, url, json_escaped, html_escaped, base64_of, hexadecimal_of]
ESCAPERS = [plain, url, json_escaped, html_escaped]


def guarding(value: str) -> SecretGuard:
    guard = SecretGuard()
    guard.hold("shop/key", value)
    return guard


def apart(before: str, after: str) -> tuple[str, str]:
    """Text around a value that does not run into it: an escape or a character of base64 would change what it says."""
    return before + "\x1f", "\x1f" + after


@settings(max_examples=400, deadline=None)
@given(values, st.sampled_from(SINGLE), chosen, texts, texts)
@example("a%41bcd ", url, 0, "", "")
@example("\x80\x81\x82\x83\x84\x85", html_escaped, 2**64 - 1, "", "")
def test_every_form_is_found_in_any_text_and_scrubbed(
    value: str, encode: Callable[[str, int], str], bits: int, before: str, after: str
) -> None:
    guard = guarding(value)
    before, after = apart(before, after)
    text = before + encode(value, bits) + after
    assert guard.find_text(text) is not None
    assert guard.find_text(text.encode()) is not None
    assert guard.find({"a": [before, {"b": text}]}) is not None
    scrubbed = guard.scrub(text)
    assert guard.find_text(scrubbed) is None
    for form in SINGLE:
        assert form(value, bits) not in scrubbed


@settings(max_examples=300, deadline=None)
@given(values, st.sampled_from(ESCAPERS), st.sampled_from(SINGLE), chosen, texts, texts)
def test_two_layers_are_found(
    value: str,
    outer: Callable[[str, int], str],
    inner: Callable[[str, int], str],
    bits: int,
    before: str,
    after: str,
) -> None:
    guard = guarding(value)
    before, after = apart(before, after)
    assert guard.find_text(before + outer(inner(value, bits), bits >> 3) + after) is not None


@settings(max_examples=200, deadline=None)
@given(values, st.sampled_from(ESCAPERS), chosen)
def test_what_is_escaped_and_then_made_base64_is_found(value: str, inner: Callable[[str, int], str], bits: int) -> None:
    document = json.dumps({"about": "an order", "note": inner(value, bits)})
    assert guarding(value).find({"body": base64.b64encode(document.encode()).decode()}) is not None


@settings(max_examples=200, deadline=None)
@given(values, st.lists(st.integers(0, 60), max_size=5), texts)
def test_pieces_are_found(value: str, cuts: list[int], other: str) -> None:
    edges = [0, *sorted(min(cut, len(value)) for cut in cuts), len(value)]
    pieces = [value[start:end] for start, end in pairwise(edges)]
    assert guarding(value).find([other, *pieces, other]) is not None
    assert guarding(value).find({"a": other, "b": {str(at): piece for at, piece in enumerate(pieces)}}) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("abcdefghijklmn"), min_size=1, max_size=30), min_size=1, max_size=5),
    st.lists(st.text(st.characters(min_codepoint=0x370, max_codepoint=0x5FF) | st.sampled_from("%&\\+ .,;"))),
)
def test_nothing_is_found_in_a_text_of_other_letters(held: list[str], leaves: list[str]) -> None:
    guard = SecretGuard()
    for number, value in enumerate(held):
        guard.hold(f"v/{number}", value)
    assert guard.find(leaves) is None
    for leaf in leaves:
        assert guard.scrub(leaf) == leaf
        assert guard.find_text(quote(leaf) + json.dumps(leaf) + base64.b64encode(leaf.encode()).decode()) is None


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), values)
def test_what_is_found_is_there(text: str, value: str) -> None:
    """Of an unescaped text: whatever is found as it is, is in it."""
    found = guarding(value).find_text(text)
    assert (found is not None and found.form == "as is") == (value in text)
