"""The forms that a value takes on its way out: how each is recognised, undone and cut out of a text."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterator
from html.entities import html5
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

AS_IS: Final = "as is"
BASE64: Final = "base64"
HEXADECIMAL: Final = "hexadecimal"
URL: Final = "URL-escaped"
JSON: Final = "JSON-escaped"
HTML: Final = "HTML-escaped"

TRIGGERS: Final = {URL: "%+", JSON: "\\", HTML: "&"}
"""A text in this form holds at least one of these characters."""

_BASE64_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BASE64_RUN = re.compile(r"[A-Za-z0-9+/]*")
_SPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_URL_SAFE_TEXT = str.maketrans("-_", "+/")
_LOWER_DIGITS = str.maketrans("ABCDEF", "abcdef")
_LOWER_DIGITS_BYTES = bytes.maketrans(b"ABCDEF", b"abcdef")
_MASK = bytes(ord("a") if byte in _BASE64_ALPHABET + b"-_" else ord(" ") for byte in range(256))
_RUN = b"a" * 16

_BACKSLASH = re.compile(
    r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2}))|([\"'\\/bfnrt]))"
)
_SINGLE = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_BYTES = re.compile(r"(?:\\x[89a-fA-F][0-9a-fA-F])+")
_MARGIN = r"[ \t]*\r?\n[ \t|>#*+-]*"
_ENTITY = re.compile(r"&(?:#([0-9]{1,9})|#[xX]([0-9a-fA-F]{1,8})|([A-Za-z][A-Za-z0-9]{1,31}));?")


def utf8(text: str) -> bytes:
    """UTF-8 that never fails: half a surrogate pair is written like any other code point."""
    return text.encode("utf-8", "surrogatepass")


def encodings(value: str) -> tuple[bytes, bytes]:
    """The bytes that base64 and hexadecimal are made of: UTF-8, and the UTF-16 that Windows tools use."""
    return utf8(value), value.encode("utf-16-le", "surrogatepass")


def normalised_base64(text: bytes) -> bytes:
    """Standard alphabet, without line breaks."""
    return text.translate(_URL_SAFE, _SPACE)


def normalised_hexadecimal(text: bytes) -> bytes:
    """Small digits, without separators."""
    return text.translate(_LOWER_DIGITS_BYTES, _SPACE + b":-")


def base64_cores(data: bytes) -> list[bytes]:
    """What the base64 of any longer text around ``data`` holds: one core for each of the three alignments.

    Six bits make a character (RFC 4648, section 4); those at the edges depend on the neighbours and are left out.
    """
    cores = []
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + data)
        cores.append(encoded[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6])
    return cores


def written(value: str) -> list[tuple[str, str]]:
    """The escaped forms that common encoders write, as ``(form, text)``; without those that equal the value."""
    made: dict[str, str] = {}
    for escaped in (
        quote(value, safe="", errors="surrogatepass"),
        quote(value, errors="surrogatepass"),
        quote(value, safe="!~*'()", errors="surrogatepass"),
        quote_plus(value, errors="surrogatepass"),
    ):
        made[escaped] = URL
        made[re.sub("%..", lambda found: found[0].lower(), escaped)] = URL
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]):
        made.setdefault(escaped, JSON)
        made.setdefault(escaped.replace("/", "\\/"), JSON)
    for escaped in (html.escape(value), html.escape(value, quote=False)):
        made.setdefault(escaped, HTML)
    made.pop(value, None)
    return [(form, escaped) for escaped, form in made.items()]


def unescaped(text: str, *, spaces: bool) -> Iterator[tuple[str, str]]:
    """``text`` with one kind of escape undone, for each kind that it may hold.

    Args:
        spaces: whether ``+`` may stand for a space although nothing else is escaped.
    """
    if "%" in text:
        yield URL, unquote(text)
        if "+" in text:
            yield URL, unquote_plus(text)
    elif spaces and "+" in text:
        yield URL, text.replace("+", " ")
    if "\\" in text:
        yield JSON, _BACKSLASH.sub(_backslash, text)
        if "\\x" in text:  # of bytes Python shows UTF-8 byte by byte
            yield JSON, _BACKSLASH.sub(_backslash, _BYTES.sub(_utf8_bytes, text))
    if "&" in text:
        yield HTML, _ENTITY.sub(_entity, text)


def decoded_runs(text: str) -> str:
    """What base64 in ``text`` says, where it stands on its own, is at least 16 characters long and decodes to UTF-8."""
    data = utf8(text)
    mask = data.translate(_MASK)
    start = mask.find(_RUN)
    if start < 0:
        return ""
    standard = data.translate(_URL_SAFE)
    parts = []
    while start >= 0:
        end = mask.find(b" ", start)
        end = len(mask) if end < 0 else end
        whole = standard[start : end - (1 if (end - start) % 4 == 1 else 0)]
        said = binascii.a2b_base64(whole + b"==").decode("utf-8", "replace")
        if "\ufffd" not in said:
            parts.append(said)
        start = mask.find(_RUN, end)
    return "\0".join(parts)


class HeldValue:
    """A value with all that it is recognised by. ``repr`` does not show it."""

    __slots__ = ("base64", "hexadecimal", "label", "ragged", "value", "written")

    def __init__(self, label: str, value: str) -> None:
        self.label = label
        self.value = value
        self.written = written(value)
        self.base64 = [core for data in encodings(value) for core in base64_cores(data)]
        self.hexadecimal = [data.hex().encode() for data in encodings(value)]
        self.ragged = _ragged(value)

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where ``text`` holds the value in a form that can be cut out exactly, as ``(start, end)``.

        Of base64 the whole run is cut: the characters at the value's edges tell some of its bits.
        """
        yield from _occurrences(text, self.value)
        if self.ragged is not None:
            yield from (found.span() for found in self.ragged.finditer(text))
        for _, escaped in self.written:
            yield from _occurrences(text, escaped)
        digits = text.translate(_LOWER_DIGITS)
        for needle in self.hexadecimal:
            yield from _occurrences(digits, needle.decode())
        standard = text.translate(_URL_SAFE_TEXT)
        for core in self.base64:
            for start, end in _occurrences(standard, core.decode()):
                run = _BASE64_RUN.match(standard, end)
                yield _run_start(standard, start), run.end() if run else end


def _ragged(value: str) -> re.Pattern[str] | None:
    """A value of several lines, where something put a margin before them or ended them otherwise."""
    lines = [line.strip(" \t") for line in value.splitlines()]
    return re.compile(_MARGIN.join(map(re.escape, lines))) if len(lines) > 1 else None


def _occurrences(text: str, part: str) -> Iterator[tuple[int, int]]:
    start = text.find(part)
    while start >= 0:
        yield start, start + len(part)
        start = text.find(part, start + 1)


def _run_start(text: str, start: int) -> int:
    while start and text[start - 1].isascii() and (text[start - 1].isalnum() or text[start - 1] in "+/"):
        start -= 1
    return start


def _backslash(found: re.Match[str]) -> str:
    high, low, short, long, byte, single = found.groups()
    if single:
        return _SINGLE.get(single, single)
    if high:
        return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + int(low, 16) - 0xDC00)
    return _character(int(short or long or byte, 16), found[0])


def _utf8_bytes(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("\\x", "")).decode("utf-8", "replace")


def _entity(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return html5.get(f"{name};", html5.get(name, found[0]))
    return _character(int(decimal) if decimal else int(hexadecimal, 16), found[0])


def _character(number: int, otherwise: str) -> str:
    return chr(number) if number <= 0x10FFFF else otherwise
