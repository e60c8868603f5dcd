"""Finds the secrets that a process holds in what is about to leave it.

What is found, of a value of at least six characters:

* as is; with the white space around it or without; of several lines, with a margin before them too;
* base64 (standard and URL-safe alphabet, padded or not, broken into lines or not) and hexadecimal (either case; bytes
  apart by ``:``, ``-`` or spaces), of the value's UTF-8 and UTF-16-LE bytes, at any offset in what was encoded;
* URL-escaped (RFC 3986; either case of the digits, any of the characters, ``+`` for a space), JSON-escaped (RFC 8259;
  any of the characters, ``\\/``; and the ``\\x``, ``\\U``, ``\\'`` of Python's ``repr``), HTML-escaped (named, decimal
  and hexadecimal references);
* two layers of escapes, such as JSON in a URL; base64 or hexadecimal under up to two layers of escapes; two layers of
  any kind inside base64 that stands on its own, in one line of at least 16 characters, and is UTF-8;
* whole or inside a longer text; in keys and in values; in bytes; as a number of its own (a code of digits that became
  an int, leading zeros lost); cut into pieces that are neighbouring texts among the values, or among the keys.

What is not found: a part of the value; the value reversed, compressed, encrypted, hashed, in another case or Unicode
normal form, or in an encoding other than UTF-8 and UTF-16-LE; deeper layers; escapes inside hexadecimal; pieces with
something between them; numbers cut into pieces, because a list of numbers holds any short code sooner or later; base64
or hexadecimal of a value of less than four characters.

**Short values.** A value of less than six characters matches only a whole text, number, key or decoded text: ``1234``
or ``test`` inside a longer text says nothing about where it came from, and would stop activities that do no harm.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from keyleaf.client import forms, tracebacks
from keyleaf.client.forms import HeldValue
from keyleaf.client.leaves import Leaves

_SHORTEST_PART = 6
_SHORTEST_ENCODED = 4
_LAYERS = 2
_SEAM = "\0"
_LONGEST_TEXT = 8192
_ROOM = 64


@dataclass(frozen=True)
class Escape:
    """A held value that was found.

    Attributes:
        label: of the secret.
        form: ``as is``, ``base64``, ``URL-escaped``, ``JSON-escaped``, ``HTML-escaped`` or ``hexadecimal``; of several
            layers the outermost.
    """

    label: str
    form: str


class SecretGuard:
    """Remembers secret values while this process lives, and finds and removes them. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        self._numbers: dict[str, str] = {}
        self._short_base64: dict[bytes, str] = {}
        self._short_hexadecimal: dict[bytes, str] = {}
        self._held: tuple[HeldValue, ...] = ()
        self._as_is: tuple[tuple[str, str], ...] = ()
        self._ragged: tuple[tuple[re.Pattern[str], str], ...] = ()
        self._written: dict[str, tuple[tuple[str, str], ...]] = dict.fromkeys(forms.TRIGGERS, ())
        self._base64: tuple[tuple[bytes, str], ...] = ()
        self._hexadecimal: tuple[tuple[bytes, str], ...] = ()
        self._utf16: tuple[tuple[bytes, str], ...] = ()
        self._spaces = False

    @property
    def holds_any(self) -> bool:
        """Whether there is a value that could be found."""
        return bool(self._values)

    def hold(self, label: str, value: str) -> None:
        """Remember a value while this process lives.

        A value that is held already keeps its first label; an empty value is ignored. Of a value with white space
        around it the rest is held too: whoever uses it takes the end of the line off.
        """
        for each in dict.fromkeys((value, value.strip())):
            self._hold(label, each)

    def _hold(self, label: str, value: str) -> None:
        with self._lock:
            if not value or value in self._values:
                return
            if len(value) < _SHORTEST_PART:
                if len(value) >= _SHORTEST_ENCODED:
                    for data in forms.encodings(value):
                        self._short_base64[base64.b64encode(data).rstrip(b"=")] = label
                        self._short_hexadecimal[data.hex().encode()] = label
            else:
                self._add(HeldValue(label, value))
            if value.isdecimal():
                self._numbers[value.lstrip("0") or "0"] = label
            self._numbers[value] = label
            # Last: what sees the value here sees all that it is recognised by.
            self._values[value] = label

    def _add(self, held: HeldValue) -> None:
        label = held.label
        self._held += (held,)
        self._as_is += ((held.value, label),)
        if held.ragged is not None:
            self._ragged += ((held.ragged, label),)
        for form in self._written:
            self._written[form] += tuple((text, label) for kind, text in held.written if kind == form)
        self._base64 += tuple((core, label) for core in held.base64)
        self._hexadecimal += tuple((digits, label) for digits in held.hexadecimal)
        self._utf16 += ((forms.encodings(held.value)[1], label),)
        self._spaces = self._spaces or " " in held.value

    def find(self, value: object) -> Escape | None:
        """The first held value in ``value``, which is text, bytes, an exception, or anything that msgspec encodes.

        Of exceptions the whole chain is searched: messages, arguments, notes and attributes. A Secret counts as found
        whether its value is held or not. What no encoder takes is searched in the form that ``repr`` shows.

        Raises:
            RecursionError: the tree is deeper than Python can follow.
        """
        if isinstance(value, str | bytes):
            return self.find_text(value)
        leaves = Leaves(value)
        if leaves.secret is not None:
            return Escape(leaves.secret.label or "***", forms.AS_IS)
        if not self._values:
            return None
        for number in leaves.numbers:
            if number in self._numbers:
                return Escape(self._numbers[number], forms.AS_IS)
        for data in leaves.data:
            found = self._find_utf16(data)
            if found:
                return found
        return self._find_in(leaves.texts, tuple(dict.fromkeys(leaves.keys)))

    def find_text(self, text: str | bytes) -> Escape | None:
        """The first held value in ``text``; bytes are read as UTF-8, and searched for UTF-16-LE as well."""
        if not self._values:
            return None
        if isinstance(text, str):
            return self._find_in((text,))
        return self._find_utf16(text) or self._find_in((text.decode("utf-8", "surrogateescape"),))

    def scrub(self, text: str) -> str:
        """``text`` with ``[secret <label>]`` in the place of every held value.

        Where a value is in a form that cannot be cut out exactly, the whole text becomes
        ``[withheld: it held secret <label>, <form>]``. :meth:`find_text` finds nothing in what is returned.
        """
        found = self.find_text(text)
        if found is None:
            return text
        cut = self._cut(text)
        left = self.find_text(cut)
        if left is None:
            return cut
        withheld = f"[withheld: it held secret {left.label}, {left.form}]"
        # Where a label or these words hold a value themselves, less is said.
        return next((said for said in (withheld, "[withheld]", "***") if self.find_text(said) is None), "")

    def scrub_lines(self, text: str) -> str:
        """As :meth:`scrub`; but where only some lines would have to be withheld, the others stay."""
        if self.find_text(text) is None:
            return text
        lines = "\n".join(self.scrub(line) for line in self._cut(text).split("\n"))
        return lines if self.find_text(lines) is None else self.scrub(text)

    def beginning_of_lines(self, text: str) -> int:
        """Where ``text`` ends with whole lines that a held value of several lines begins with; else its length."""
        begins = [len(text)]
        for held in self._held:
            if held.ragged is not None:
                lines = held.value.splitlines(keepends=True)
                for count in range(1, len(lines)):
                    beginning = "".join(lines[:count])
                    if text.endswith(beginning):
                        begins.append(len(text) - len(beginning))
        return min(begins)

    def scrub_exception(self, error: BaseException) -> tuple[str, str, str]:
        """Type name, message and formatted traceback of an error, scrubbed.

        The traceback has causes, contexts and groups but no local variables. Message and traceback have at most 8 KB
        of UTF-8 each; of a longer message the beginning is kept, of a longer traceback the end.
        """
        return (
            self.scrub(tracebacks.type_name(error)),
            _beginning(self.scrub_lines(tracebacks.message(error))),
            _end(self.scrub_lines(tracebacks.formatted(error))),
        )

    def _cut(self, text: str) -> str:
        label = self._values.get(text.strip())
        if label is not None:
            return f"[secret {label}]"
        spans = sorted((start, end, held.label) for held in self._held for start, end in held.spans(text))
        parts: list[str] = []
        done = 0
        for start, end, label in spans:
            # What overlaps goes with the span before it: half a value may not stay.
            if start >= done:
                parts += text[done:start], f"[secret {label}]"
            done = max(done, end)
        return "".join((*parts, text[done:]))

    def _find_utf16(self, data: bytes) -> Escape | None:
        for needle, label in self._utf16:
            if needle in data:
                return Escape(label, forms.AS_IS)
        return None

    def _find_in(self, texts: Sequence[str], keys: Sequence[str] = ()) -> Escape | None:
        """In texts of which each may be one leaf, and in all of them put together; the same for keys."""
        whole = self._find_whole(texts) or self._find_whole(keys)
        if whole:
            return whole
        joined = "".join(texts) if not keys else "".join((*texts, _SEAM, *keys))
        found = self._find_part(joined) or self._find_unescaped(joined, _LAYERS)
        if found:
            return found
        if len(texts) + len(keys) == 1:
            return self._find_decoded(joined)
        # An escape may begin by accident where two texts meet; base64 that stands on its own no longer does so there.
        alone = _SEAM.join((*texts, *keys))
        return self._find_unescaped(alone, _LAYERS) or self._find_decoded(alone)

    def _find_whole(self, texts: Sequence[str]) -> Escape | None:
        if len(self._values) == len(self._held):
            return None
        for text in texts:
            text = text.strip()
            if text in self._values:
                return Escape(self._values[text], forms.AS_IS)
            data = forms.utf8(text)
            encoded = forms.normalised_base64(data).rstrip(b"=")
            if encoded in self._short_base64:
                return Escape(self._short_base64[encoded], forms.BASE64)
            digits = forms.normalised_hexadecimal(data)
            if digits in self._short_hexadecimal:
                return Escape(self._short_hexadecimal[digits], forms.HEXADECIMAL)
            for form, undone in forms.unescaped(text, spaces=True):
                if undone in self._values:
                    return Escape(self._values[undone], form)
        return None

    def _find_part(self, text: str) -> Escape | None:
        """Without undoing anything."""
        for value, label in self._as_is:
            if value in text:
                return Escape(label, forms.AS_IS)
        if self._ragged and "\n" in text:
            for pattern, label in self._ragged:
                if pattern.search(text):
                    return Escape(label, forms.AS_IS)
        for form, triggers in forms.TRIGGERS.items():
            if any(trigger in text for trigger in triggers):
                for escaped, label in self._written[form]:
                    if escaped in text:
                        return Escape(label, form)
        data = forms.utf8(text)
        encoded = forms.normalised_base64(data)
        for core, label in self._base64:
            if core in encoded:
                return Escape(label, forms.BASE64)
        digits = forms.normalised_hexadecimal(data)
        for needle, label in self._hexadecimal:
            if needle in digits:
                return Escape(label, forms.HEXADECIMAL)
        return None

    def _find_unescaped(self, text: str, layers: int) -> Escape | None:
        """After undoing an escape and, if there are more ``layers``, whatever is below it."""
        for form, undone in forms.unescaped(text, spaces=self._spaces):
            found = None if undone == text else self._find_below(undone, layers - 1)
            if found:
                return Escape(found.label, form)
        return None

    def _find_decoded(self, text: str, layers: int = _LAYERS) -> Escape | None:
        """After decoding the base64 in it and undoing up to ``layers`` layers below that."""
        decoded = forms.decoded_runs(text)
        found = self._find_below(decoded, layers) if decoded else None
        return Escape(found.label, forms.BASE64) if found else None

    def _find_below(self, text: str, layers: int) -> Escape | None:
        found = self._find_part(text)
        if found or not layers:
            return found
        return self._find_unescaped(text, layers) or self._find_decoded(text, layers - 1)


def _beginning(text: str) -> str:
    data = forms.utf8(text)
    if len(data) <= _LONGEST_TEXT:
        return text
    return data[: _LONGEST_TEXT - _ROOM].decode("utf-8", "ignore") + f"… ({len(data):,} bytes)"


def _end(text: str) -> str:
    data = forms.utf8(text)
    if len(data) <= _LONGEST_TEXT:
        return text
    return f"({len(data):,} bytes) …" + data[_ROOM - _LONGEST_TEXT :].decode("utf-8", "ignore")
