"""A byte search for marks in every form that a text takes on its way into a file. It knows nothing of the guard.

The forms are written out here once more, on purpose: a search that used the guard's own list would miss what the guard
misses.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hostile.canaries import Canaries

_STANDARD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL_SAFE = _STANDARD[:62] + "-_"
_UNRESERVED = set(_STANDARD[:62] + "-_.~")
_SHORT_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NEAR = 9
"""Bytes between where a mark and the same value with its number are found: base64 shifts by some."""

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}


def forms_of(text: str) -> dict[bytes, str]:
    """The bytes that tell of ``text``, and what each form is called."""
    found: dict[bytes, str] = {}

    def add(name: str, written: str) -> None:
        found.setdefault(written.encode(), name)

    add("as is", text)
    found.setdefault(text.encode("utf-16-le"), "UTF-16-LE")
    for encoding in ("utf-8", "utf-16-le"):
        data = text.encode(encoding)
        for shift in range(3):
            add("base64", _base64(data, shift, _STANDARD))
            add("base64", _base64(data, shift, _URL_SAFE))
        lower = "".join(f"{byte:02x}" for byte in data)
        add("hexadecimal", lower)
        add("hexadecimal", lower.upper())
        for between in (":", " ", "-"):
            apart = between.join(lower[at : at + 2] for at in range(0, len(lower), 2))
            add("hexadecimal", apart)
            add("hexadecimal", apart.upper())
    utf8 = text.encode()
    for keep, space in ((_UNRESERVED, "%20"), (_UNRESERVED | {"/"}, "%20"), (_UNRESERVED, "+"), (set[str](), "%20")):
        written = "".join(chr(b) if chr(b) in keep else space if b == 32 else f"%{b:02X}" for b in utf8)
        add("URL-escaped", written)
        add("URL-escaped", re.sub("%..", lambda each: each[0].lower(), written))
    add("JSON-escaped", _json(text, ascii_only=True))
    add("JSON-escaped", _json(text, ascii_only=True).replace("/", "\\/"))
    add("as Python shows it", repr(text)[1:-1])
    add("as Python shows it", repr(text.encode())[2:-1])
    add("every character as \\u", "".join(f"\\u{ord(character):04x}" for character in text))
    html = "".join(_ENTITIES.get(character, character) for character in text)
    add("HTML-escaped", html)
    add("HTML-escaped", html.replace("&#x27;", "&#39;"))
    add("HTML-escaped", html.replace("&#x27;", "'").replace("&quot;", '"'))
    add("HTML-escaped", "".join(f"&#{ord(character)};" for character in text))
    add("HTML-escaped", "".join(f"&#x{ord(character):x};" for character in text))
    add("one character after the other", '","'.join(_json(character, ascii_only=False) for character in text))
    # A store wraps a payload in JSON, which may be wrapped in JSON, and the author may have done so before.
    layer = [(name, written.decode()) for written, name in found.items() if name != "UTF-16-LE"]
    for depth in ("JSON", "JSON in JSON", "JSON in JSON in JSON"):
        layer = list(
            {
                _json(written, ascii_only=ascii_only): name for name, written in layer for ascii_only in (True, False)
            }.items()
        )
        layer = [(name, written) for written, name in layer]
        for name, written in layer:
            add(f"{name} in {depth}", written)
    return found


def _base64(data: bytes, shift: int, alphabet: str) -> str:
    """What the base64 of ``data`` has in common whatever stands around it, ``shift`` bytes into a group of three."""
    bits = "".join(f"{byte:08b}" for byte in data)
    skip = (6 - shift * 8 % 6) % 6
    usable = bits[skip : skip + (len(bits) - skip) // 6 * 6]
    return "".join(alphabet[int(usable[at : at + 6], 2)] for at in range(0, len(usable), 6))


def _json(text: str, *, ascii_only: bool) -> str:
    return "".join(
        _SHORT_ESCAPES.get(each) or (f"\\u{ord(each):04x}" if ascii_only and ord(each) > 126 else each) for each in text
    )


@dataclass
class Findings:
    """What a search found.

    Attributes:
        searched: bytes, all files together.
        hits: by number of the way, place and form; 0 is a way that cannot be told.
    """

    searched: int = 0
    places: int = 0
    hits: Counter[tuple[int, str, str]] = field(default_factory=Counter)

    def ways(self, place: str = "") -> set[int]:
        """The ways that were found, in one place or in any."""
        return {way for way, where, _ in self.hits if not place or where == place}


class Search:
    """Looks for the marks of a run's canaries."""

    def __init__(self, canaries: Canaries, ways: int) -> None:
        self._canaries = canaries
        self._ways = ways
        self._needles: dict[bytes, tuple[str, str]] = {}
        for kind, marks in canaries.marks.items():
            for mark in marks:
                for needle, form in forms_of(mark).items():
                    self._needles.setdefault(needle, (kind, form))

    @functools.cached_property
    def _stems(self) -> dict[str, list[tuple[bytes, int]]]:
        """Marks with the number of a way, by form. Made when something is found."""
        stems: dict[str, list[tuple[bytes, int]]] = {}
        for kind, marks in self._canaries.marks.items():
            for mark in marks:
                for way in range(1, self._ways + 1):
                    # A filler of two characters: in base64 the last digit of the number shares a group with them.
                    stem = f"{mark}{way:03d}{self._canaries.fillers[kind][:2]}"
                    for needle, form in forms_of(stem).items():
                        stems.setdefault(form, []).append((needle, way))
        return stems

    def bytes(self, place: str, data: bytes, into: Findings) -> None:
        """Search ``data``; ``place`` is what the table calls it."""
        into.searched += len(data)
        into.places += 1
        for needle, (kind, form) in self._needles.items():
            at = data.find(needle)
            while at >= 0:
                begin = max(0, at - 64)
                window = data[begin : at + len(needle) * 2 + 512]
                into.hits[self._way(form, window, at - begin), place, f"{kind}, {form}"] += 1
                at = data.find(needle, at + len(needle))

    def files(self, place: str, files: Iterable[Path], into: Findings) -> None:
        """Search files; one that has gone meanwhile is passed over."""
        for file in files:
            try:
                data = file.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            self.bytes(place, data, into)

    def _way(self, form: str, window: bytes, at: int) -> int:
        """The way whose value begins nearest to ``at``."""
        found = (
            (abs(window.find(stem, max(0, at - 8)) - at), way) for stem, way in self._stems[form] if stem in window
        )
        distance, way = min(found, default=(len(window), 0))
        return way if distance < _NEAR else 0
