"""The guard finds what it holds, whatever it is wrapped in, and nothing else."""

from __future__ import annotations

import base64
import dataclasses
import enum
import html
import json
import random
import uuid
from urllib.parse import quote, quote_plus

import msgspec
import pytest

from keyleaf.client.guard import Escape, SecretGuard
from keyleaf.core.secret import Secret

VALUE = 'p@ss "w/ö+rd" <%>&\\ 🔑'
LABEL = "payments/stripe-api-key"


@pytest.fixture
def guard() -> SecretGuard:
    made = SecretGuard()
    made.hold(LABEL, VALUE)
    return made


def escape(form: str) -> Escape:
    return Escape(LABEL, form)


def wrapped(data: bytes, width: int = 12) -> str:
    text = base64.b64encode(data).decode()
    return "\r\n".join(text[start : start + width] for start in range(0, len(text), width))


FORMS = {
    "as is": VALUE,
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "base64, URL-safe, no padding": base64.urlsafe_b64encode(VALUE.encode()).decode().rstrip("="),
    "base64, second alignment": base64.b64encode(f"x{VALUE}tail".encode()).decode(),
    "base64, third alignment": base64.b64encode(f"xy{VALUE}tail".encode()).decode(),
    "base64, in lines": wrapped(VALUE.encode()),
    "base64, of UTF-16": base64.b64encode(f"x{VALUE}".encode("utf-16-le")).decode(),
    "base64, of JSON": base64.b64encode(json.dumps({"key": VALUE}).encode()).decode(),
    "base64, of base64": base64.b64encode(base64.b64encode(VALUE.encode())).decode(),
    "base64, of a URL": base64.b64encode(f"https://host/?key={quote(VALUE)}".encode()).decode(),
    "URL-escaped": quote(VALUE, safe=""),
    "URL-escaped, small digits": quote(VALUE, safe="").lower(),
    "URL-escaped, as a form": quote_plus(VALUE),
    "URL-escaped, every byte": "".join(f"%{byte:02x}" for byte in VALUE.encode()),
    "URL-escaped, base64": quote(base64.b64encode(VALUE.encode()), safe="").replace("w", "%77"),
    "URL-escaped, JSON": quote(json.dumps({"key": VALUE})),
    "JSON-escaped": json.dumps(VALUE),
    "JSON-escaped, characters kept": json.dumps(VALUE, ensure_ascii=False),
    "JSON-escaped, every character": "".join(
        f"\\u{unit:04X}" for unit in memoryview(VALUE.encode("utf-16-le")).cast("H")
    ),
    "JSON-escaped, slash too": json.dumps(VALUE).replace("/", "\\/"),
    "JSON-escaped, twice": json.dumps(json.dumps({"key": VALUE})),
    "JSON-escaped, as Python": repr(VALUE),
    "JSON-escaped, base64 in lines": json.dumps(wrapped(VALUE.encode())),
    "HTML-escaped": html.escape(VALUE),
    "HTML-escaped, decimal": "".join(f"&#{ord(character)};" for character in VALUE),
    "HTML-escaped, hexadecimal": "".join(f"&#x{ord(character):X};" for character in VALUE),
    "HTML-escaped, JSON": html.escape(json.dumps({"key": VALUE})),
    "hexadecimal": VALUE.encode().hex(),
    "hexadecimal, capitals": VALUE.encode().hex().upper(),
    "hexadecimal, colons": VALUE.encode().hex(":"),
    "hexadecimal, spaces": VALUE.encode().hex(" ").upper(),
    "hexadecimal, hyphens": VALUE.encode().hex("-"),
    "hexadecimal, of UTF-16": VALUE.encode("utf-16-le").hex(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_found_alone_in_a_text_in_a_tree_and_named(guard: SecretGuard, name: str) -> None:
    form, _, _ = name.partition(",")
    text = FORMS[name]
    assert guard.find(text) == escape(form)
    assert guard.find_text(f"Grüße: {text} … and more") == escape(form)
    assert guard.find_text(f"Grüße: {text} …".encode()) == escape(form)
    assert guard.find({"order": [1, {"note": f"see {text} there"}]}) == escape(form)
    assert guard.find({"order": 1, text: None}) == escape(form)
    assert guard.find({text.encode(): 1}) == escape(form)
    # The message has repr(text), which adds a layer of its own: which one is found first says nothing.
    found = guard.find(ValueError("no", [text]))
    assert found is not None
    assert found.label == LABEL


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_scrubbed_and_nothing_of_it_stays(guard: SecretGuard, name: str) -> None:
    scrubbed = guard.scrub(f"Grüße: {FORMS[name]} … and more")
    assert guard.find_text(scrubbed) is None
    assert LABEL in scrubbed
    assert FORMS[name] not in scrubbed


@pytest.mark.parametrize(
    "name",
    [
        "as is",
        "base64",
        "base64, URL-safe, no padding",
        "base64, second alignment",
        "base64, of UTF-16",
        "URL-escaped",
        "URL-escaped, as a form",
        "JSON-escaped, characters kept",
        "HTML-escaped",
        "hexadecimal, capitals",
    ],
)
def test_what_can_be_cut_out_exactly_leaves_the_rest(guard: SecretGuard, name: str) -> None:
    text = FORMS[name].strip('"')
    assert guard.scrub(f"a: {text}, b: {text}.").replace("=", "") == f"a: [secret {LABEL}], b: [secret {LABEL}]."


def test_what_cannot_be_cut_out_withholds_the_text(guard: SecretGuard) -> None:
    assert guard.scrub(f"a: {FORMS['hexadecimal, colons']}") == f"[withheld: it held secret {LABEL}, hexadecimal]"


class Colour(enum.Enum):
    RED = VALUE


class Card(msgspec.Struct):
    number: str
    limit: int = 0


@dataclasses.dataclass
class Order:
    card: Card


class Odd:
    def __repr__(self) -> str:
        return f"<Odd {VALUE}>"


@pytest.mark.parametrize(
    "tree",
    [
        Order(Card(VALUE)),
        [Colour.RED],
        {("a", VALUE): 1},
        {Card: Odd()},
        frozenset([VALUE]),
        bytearray(b"\xff\xc3" + VALUE.encode() + b"\xff"),
        pytest.param(memoryview(VALUE.encode()), id="memoryview"),
        VALUE.encode("utf-16-le"),
        {"raw": b"\0\xff" + VALUE.encode("utf-16-le")},
        [VALUE[:5], VALUE[5:]],
        {"first": VALUE[:5], "then": {"second": VALUE[5:9], "third": [VALUE[9:]]}},
        {VALUE[:5]: 1, VALUE[5:]: 2},
        [quote(VALUE)[:9], quote(VALUE)[9:]],
        list(VALUE),
        list(base64.b64encode(VALUE.encode()).decode()),
        (FORMS["base64"][:7], FORMS["base64"][7:]),
    ],
    ids=repr,
)
def test_a_tree_of_any_type_is_searched(guard: SecretGuard, tree: object) -> None:
    assert guard.find(tree) is not None


def test_an_escape_that_begins_by_accident_hides_nothing(guard: SecretGuard) -> None:
    for before in ("%", "100%c", "C:\\", "\\u0", "&", "&#", "&#x4"):
        for name in ("URL-escaped", "JSON-escaped, characters kept", "HTML-escaped"):
            assert guard.find([before, FORMS[name]]) is not None
            assert guard.find_text(before + FORMS[name].strip('"')) is not None


def test_a_number_is_found_as_a_number_of_its_own() -> None:
    guard = SecretGuard()
    guard.hold("bank/pin", "00123456")
    found = Escape("bank/pin", "as is")
    assert guard.find({"pin": 123456}) == found
    assert guard.find([123456.0]) == found
    assert guard.find({123456: 1}) == found
    assert guard.find(Card("", 123456)) == found
    assert guard.find({"pin": 91234567}) is None
    assert guard.find([123, 456]) is None
    assert guard.find(10**5000) is None


@pytest.mark.parametrize("value", ["a", "1234", "ab/=+", "grün!"])
def test_a_short_value_is_found_only_on_its_own(value: str) -> None:
    guard = SecretGuard()
    guard.hold("bank/pin", value)
    encoded = [html.escape(value), json.dumps(value)[1:-1], quote(value, safe="")]
    if len(value) >= 4:
        encoded += [base64.b64encode(value.encode()).decode(), value.encode().hex(":")]
    for text in (value, f" {value}\n", *encoded):
        assert guard.find(text) is not None
        assert guard.find({"pin": [text]}) is not None
        assert guard.find({text: 1}) is not None
        assert guard.find_text(guard.scrub(text)) is None
        assert guard.find_text(f"the {text} of the card") is None
    assert guard.scrub(value) == "[secret bank/pin]"


def test_a_secret_object_is_found_held_or_not() -> None:
    guard = SecretGuard()
    assert guard.find(Secret("x", "a/b")) == Escape("a/b", "as is")
    assert guard.find({"deep": [Order(Card(Secret("x")))]}) == Escape("***", "as is")  # type: ignore[arg-type]
    assert guard.find(ValueError(Secret("x", "a/b"))) == Escape("a/b", "as is")


def test_holding_again_changes_nothing_and_empty_values_are_not_held() -> None:
    guard = SecretGuard()
    guard.hold("a/b", "")
    assert not guard.holds_any
    assert guard.find("") is None
    guard.hold("a/b", "first-value")
    guard.hold("c/d", "first-value")
    guard.hold("a/b", "second-value")
    assert guard.find("first-value") == guard.find("second-value") == Escape("a/b", "as is")


def test_overlapping_values_leave_no_piece() -> None:
    guard = SecretGuard()
    guard.hold("a/one", "abcdefgh")
    guard.hold("a/two", "efghijkl")
    assert guard.scrub("<abcdefghijkl>") == "<[secret a/one]>"
    guard.hold("a/three", "zzzzzz")
    assert guard.scrub("zzzzzzzzz!") == "[secret a/three]!"


@pytest.mark.parametrize("value", ["secret", "[secret", "withheld", "held secret", "it-is-its-own-label"])
def test_a_value_that_the_marks_would_hold_is_not_told(value: str) -> None:
    guard = SecretGuard()
    guard.hold("it-is-its-own-label", value)
    for text in (value, f"a {value} b", f"a {value.encode().hex(':')}"):
        assert guard.find_text(text) is not None
        assert guard.find_text(guard.scrub(text)) is None


def test_random_ids_numbers_and_prose_are_not_taken_for_a_value() -> None:
    guard = SecretGuard()
    chance = random.Random(17)
    for number in range(50):
        guard.hold(f"v/{number}", "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=8)))
    prose = "The order was charged; mail went out to 17 % of <them> & the stock is at C:\\stock\\new. " * 20
    tree = {
        "ids": [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(200)],
        "numbers": [chance.getrandbits(60) for _ in range(200)],
        "picture": chance.randbytes(4000),
        "encoded": base64.b64encode(chance.randbytes(4000)).decode(),
        "prose": prose,
    }
    assert guard.find(tree) is None
    assert guard.scrub(prose) == prose


def test_the_guard_does_not_show_what_it_holds(guard: SecretGuard) -> None:
    shown = repr(guard) + "".join(repr(part) for part in guard._held) + repr(guard.find(VALUE))
    assert VALUE not in shown
    assert LABEL in shown
