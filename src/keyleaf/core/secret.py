"""A secret value that does not show itself."""

from __future__ import annotations

import hmac
from typing import NoReturn


class Secret:
    """Holds a secret string; only :meth:`reveal` gives it back.

    It cannot be printed, formatted, logged, iterated or pickled: each of those shows ``Secret(***)`` or raises.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The plain value. Keep it no longer than the call that needs it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied; fetch it where it is needed")
