"""What is kept of an error has its names, its frames and its causes, and no held value."""

from __future__ import annotations

import base64

import pytest

from keyleaf.client.guard import SecretGuard
from keyleaf.core.secret import Secret

VALUE = "sk_live/51Hf=83hK ü"
MARK = "[secret payments/stripe-api-key]"


@pytest.fixture
def guard() -> SecretGuard:
    made = SecretGuard()
    made.hold("payments/stripe-api-key", VALUE)
    return made


class PaymentRefused(Exception):
    def __init__(self, body: str) -> None:
        super().__init__()
        self.body = body

    def __str__(self) -> str:
        return f"refused: {self.body}"


def caught(value: str) -> Exception:
    local = value
    try:
        try:
            raise KeyError(value)
        except KeyError:
            raise PaymentRefused(f"bad key {local}")  # noqa: B904 - the context is what is tested
    except PaymentRefused as refused:
        try:
            raise RuntimeError(f"no: {value}") from refused
        except RuntimeError as error:
            error.add_note(f"tried with {base64.b64encode(value.encode()).decode()}")
            return error


def test_causes_contexts_and_notes_are_kept_scrubbed(guard: SecretGuard) -> None:
    name, message, trace = guard.scrub_exception(caught(VALUE))
    assert (name, message) == ("RuntimeError", f"no: {MARK}")
    assert guard.find_text(trace) is None
    assert VALUE not in trace
    for line in (
        f"KeyError: '{MARK}'",
        "During handling of the above exception, another exception occurred",
        f"PaymentRefused: refused: bad key {MARK}",
        "The above exception was the direct cause of the following exception",
        f"RuntimeError: no: {MARK}",
        f"tried with {MARK}",
        "in caught\n    raise KeyError(value)\n",
    ):
        assert line in trace


def test_only_the_line_that_cannot_be_cut_is_withheld(guard: SecretGuard) -> None:
    _, message, trace = guard.scrub_exception(caught(VALUE.encode().hex(":")))
    assert message == "[withheld: it held secret payments/stripe-api-key, hexadecimal]"
    assert "in caught\n    raise KeyError(value)\n" in trace


def test_a_type_of_a_module_is_named_with_it(guard: SecretGuard) -> None:
    assert guard.scrub_exception(PaymentRefused("x"))[0] == f"{__name__}.PaymentRefused"
    kind = type(VALUE, (Exception,), {"__module__": "builtins"})
    assert guard.scrub_exception(kind())[0] == MARK


def test_groups_are_searched_and_scrubbed(guard: SecretGuard) -> None:
    group = ExceptionGroup("all", [caught("x"), ExceptionGroup("inner", [caught(VALUE)])])
    assert guard.find(group) is not None
    _, _, trace = guard.scrub_exception(group)
    assert MARK in trace
    assert guard.find_text(trace) is None


@pytest.mark.parametrize("where", ["argument", "attribute", "cause", "hidden context", "note"])
def test_an_error_is_searched_wherever_it_carries_something(guard: SecretGuard, where: str) -> None:
    error: Exception = ValueError("no", {"key": VALUE} if where == "argument" else 1)
    if where == "attribute":
        error.response = {"body": [VALUE]}  # type: ignore[attr-defined]
    elif where == "cause":
        error.__cause__ = PaymentRefused(VALUE)
    elif where == "hidden context":
        error.__context__, error.__suppress_context__ = PaymentRefused(VALUE), True
    elif where == "note":
        error.add_note(VALUE)
    assert guard.find(error) is not None
    assert guard.find({"error": error}) is not None
    assert guard.find(ValueError("no", {"key": "another"})) is None


def test_an_error_that_is_its_own_context_ends(guard: SecretGuard) -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__context__, second.__context__ = second, first
    assert guard.find(first) is None
    assert guard.scrub_exception(first)[1] == "a"


def test_an_error_made_with_a_secret_object_has_a_message(guard: SecretGuard) -> None:
    name, message, _ = guard.scrub_exception(ValueError(Secret(VALUE, "payments/key")))
    assert (name, message) == ("ValueError", "(Secret(payments/key),)")


class Silent(Exception):
    def __str__(self) -> str:
        raise OSError("no text")

    __repr__ = __str__


def test_an_error_without_text_is_described_all_the_same(guard: SecretGuard) -> None:
    name, message, trace = guard.scrub_exception(Silent(Silent("x")))
    assert name == f"{__name__}.Silent"
    assert message == "<tuple>"
    assert "Silent" in trace


@pytest.mark.parametrize("filler", ["x" * 79 + "\n", "ü", "🔑"])
def test_what_is_kept_has_a_limit(guard: SecretGuard, filler: str) -> None:
    _, message, trace = guard.scrub_exception(ValueError("first " + VALUE + filler * 20_000 + VALUE + " last"))
    assert len(message.encode()) <= 8192
    assert len(trace.encode()) <= 8192
    assert message.startswith(f"first {MARK}")
    assert trace.endswith(f"{MARK} last\n")
    assert guard.find_text(message + trace) is None
