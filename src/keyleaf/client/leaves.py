"""Takes an object tree apart into the texts and numbers that an encoder would write."""

from __future__ import annotations

from typing import Any

import msgspec

from keyleaf.client import tracebacks
from keyleaf.core.secret import Secret

_SEQUENCES = (list, tuple, set, frozenset)
_DATA = (bytes, bytearray, memoryview)
_LONGEST_INTEGER = 2000


class Leaves:
    """The leaves of an object tree, in the order in which they stand in it.

    Attributes:
        texts: strings among the values; bytes as UTF-8, where other bytes become lone surrogates.
        keys: strings among the keys.
        numbers: numbers among keys and values, as JSON writes them.
        data: bytes as they are.
        secret: a Secret that is somewhere in the tree.

    Raises:
        RecursionError: the tree is deeper than Python can follow.
    """

    def __init__(self, value: object) -> None:
        self.texts: list[str] = []
        self.keys: list[str] = []
        self.numbers: list[str] = []
        self.data: list[bytes] = []
        self.secret: Secret | None = None
        self._add(value, self.texts)

    def _add(self, value: object, texts: list[str]) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            for key in value:
                if isinstance(key, str):
                    self.keys.append(key)
                else:
                    self._add(key, self.keys)
            for inner in value.values():
                if isinstance(inner, str):
                    texts.append(inner)
                else:
                    self._add(inner, texts)
        elif isinstance(value, _SEQUENCES):
            for inner in value:
                self._add(inner, texts)
        elif value is None or isinstance(value, bool):
            pass
        elif isinstance(value, int):
            self._add_integer(value)
        elif isinstance(value, float):
            self.numbers.append(float.__repr__(value))
            if value.is_integer():
                self._add_integer(int(value))
        elif isinstance(value, _DATA):
            data = bytes(value)
            self.data.append(data)
            texts.append(data.decode("utf-8", "surrogateescape"))
        else:
            self._add_object(value, texts)

    def _add_integer(self, value: int) -> None:
        # Python refuses to write very long ones, and no secret has as many digits.
        if value.bit_length() < _LONGEST_INTEGER:
            self.numbers.append(int.__repr__(value))

    def _add_object(self, value: object, texts: list[str]) -> None:
        def other(found: object) -> Any:
            if isinstance(found, Secret):
                self.secret = found
            elif isinstance(found, BaseException):
                for error in tracebacks.chain(found):
                    for carried in tracebacks.carried(error):
                        self._add(carried, texts)
            else:
                texts.append(tracebacks.shown(found))

        try:
            plain = msgspec.to_builtins(value, builtin_types=_DATA, enc_hook=other)
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
            # No encoder writes it; a log still could.
            texts.append(tracebacks.shown(value))
            return
        self._add(plain, texts)
