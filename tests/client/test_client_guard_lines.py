"""Values of several lines, and values with an end of line: what programs do to them before they let them go."""

from __future__ import annotations

import io
import logging
import sys
import textwrap
import traceback
from typing import cast

import pytest

from keyleaf.client.guard import SecretGuard
from keyleaf.client.output import ScrubbedStream, guard_output

LINES = "-----BEGIN KEY-----\nq7Xv-first-line\nm2Kd-second-line\n-----END KEY-----\n"


@pytest.fixture
def guard() -> SecretGuard:
    guard = SecretGuard()
    guard.hold("payments/key", LINES)
    guard.hold("payments/token", "tok-9f1c27aa\n")
    return guard


@pytest.mark.parametrize(
    "text",
    [
        LINES.strip(),
        textwrap.indent(LINES, "    "),
        textwrap.indent(LINES, "> "),
        LINES.replace("\n", "\r\n"),
        "key: |\n" + textwrap.indent(LINES, "  ") + "other: 1\n",
        "bearer tok-9f1c27aa",
    ],
)
def test_margins_and_ends_of_lines_hide_nothing(guard: SecretGuard, text: str) -> None:
    assert guard.find_text(text) is not None
    scrubbed = guard.scrub(text)
    assert guard.find_text(scrubbed) is None
    assert "first-line" not in scrubbed and "second-line" not in scrubbed and "9f1c27aa" not in scrubbed


def test_other_text_with_margins_is_left_alone(guard: SecretGuard) -> None:
    text = "| q7Xv-first-line\n| something else\n-----BEGIN KEY-----\n  q7Xv\n"
    assert guard.find_text(text) is None
    assert guard.scrub(text) == text


def test_a_group_of_exceptions_puts_a_margin_before_each_line(guard: SecretGuard) -> None:
    error = ExceptionGroup("two", [ExceptionGroup("one", [ValueError(LINES)]), KeyError("harmless")])
    assert "second-line" in "".join(traceback.format_exception(error))
    told = "".join(guard.scrub_exception(error))
    assert "second-line" not in told and "first-line" not in told
    assert "harmless" in told and "[secret payments/key]" in told


@pytest.mark.parametrize("pieces", [list(LINES), LINES.splitlines(keepends=True), [LINES[:30], LINES[30:]]])
def test_a_value_of_several_lines_is_found_however_it_is_written(guard: SecretGuard, pieces: list[str]) -> None:
    below = io.StringIO()
    stream = ScrubbedStream(below, guard)
    for piece in ["before\n", *pieces, "after\n"]:
        stream.write(piece)
    assert below.getvalue() == "before\n[secret payments/key]\nafter\n"


def test_lines_that_turn_out_to_be_something_else_are_handed_on(guard: SecretGuard) -> None:
    below = io.StringIO()
    stream = ScrubbedStream(below, guard)
    stream.write("-----BEGIN KEY-----\n")
    assert below.getvalue() == ""
    stream.write("another key\n")
    assert below.getvalue() == "-----BEGIN KEY-----\nanother key\n"
    stream.write("-----BEGIN KEY-----\n")
    stream.close()
    assert below.getvalue().endswith("another key\n-----BEGIN KEY-----\n")


def test_handlers_made_before_write_to_the_scrubbed_stream(guard: SecretGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    below = io.StringIO()
    monkeypatch.setattr(sys, "stderr", below)
    logger = logging.getLogger("keyleaf.tests.handed.over")
    handler = logging.StreamHandler()
    logger.addHandler(handler)
    undo = guard_output(guard)
    try:
        logger.handle(logging.makeLogRecord({"msg": "with tok-9f1c27aa", "levelno": logging.ERROR}))
        assert "9f1c27aa" not in below.getvalue() and "[secret payments/token]" in below.getvalue()
    finally:
        undo()
        logger.removeHandler(handler)
    assert handler.stream is cast(object, below)


class Exits(Exception):
    """Ends the program of whoever looks at it."""

    def __str__(self) -> str:
        raise SystemExit("tok-9f1c27aa")

    __repr__ = __str__


def test_an_error_that_exits_when_it_is_looked_at_is_shown_by_its_type(guard: SecretGuard) -> None:
    name, message, details = guard.scrub_exception(Exits("tok-9f1c27aa"))
    assert name.endswith("Exits")
    assert "9f1c27aa" not in message + details


def test_what_python_shows_of_bytes_is_read_as_utf8(guard: SecretGuard) -> None:
    value = "uVM '\"<€ü%41+YUE"
    guard.hold("payments/unruly", value)
    for text in (repr(value.encode()), str(ValueError(value.encode())), repr([repr(value.encode())])):
        assert guard.find_text(text) is not None
        assert guard.find_text(guard.scrub(text)) is None
