"""A secret value that does not show itself, and says so to whoever tries."""

from __future__ import annotations

import hmac
from contextvars import ContextVar
from typing import Any, NoReturn, SupportsIndex

from keyleaf.core.errors import KeyleafError

CURRENT_ACTIVITY: ContextVar[str] = ContextVar("keyleaf_current_activity", default="")
"""Name of the activity that runs in this context; empty outside of activities."""

_INSTEAD = "call .reveal() where the value is used, and return something that is not the value"


class SecretEscape(KeyleafError, TypeError):
    """A secret was about to leave the place where it is used.

    Names the secret, the activity if one runs, and what to do instead; never the value.
    """


class Secret:
    """Holds a secret string; only :meth:`reveal` gives it back.

    ``repr`` shows the label. Every other way of turning it into something else raises :class:`SecretEscape` at once:
    ``str``, ``format``, f-strings, ``%s``, ``+``, ``*``, ``%``, indexing, ``len``, ``in``, iteration, ``bytes``,
    pickling and copying. Encoders of JSON know only plain types and refuse it with a TypeError of their own; give them
    :func:`refuse_secret` as hook and they raise SecretEscape too.

    Args:
        value: the secret.
        label: what messages call it, ``payments/stripe-api-key``; empty for a secret without a name.
    """

    __slots__ = ("_label", "_value")

    def __init__(self, value: str, label: str = "") -> None:
        self._value = value
        self._label = label

    @property
    def label(self) -> str:
        """What messages call it; empty for a secret without a name."""
        return self._label

    def reveal(self) -> str:
        """The plain value. Keep it no longer than the call that needs it."""
        return self._value

    def refuse(self, attempt: str) -> NoReturn:
        """Raise SecretEscape; ``attempt`` says what cannot be done with it, "logged" for example."""
        name = f"the secret {self._label}" if self._label else "a Secret"
        activity = CURRENT_ACTIVITY.get()
        where = f" in the activity {activity}" if activity else ""
        raise SecretEscape(f"{name} cannot be {attempt}{where}", hint=_INSTEAD)

    def __repr__(self) -> str:
        return f"Secret({self._label or '***'})"

    def __str__(self) -> str:
        self.refuse("turned into text")

    def __format__(self, spec: str) -> str:
        self.refuse("formatted into a text")

    def __bytes__(self) -> bytes:
        self.refuse("turned into bytes")

    def __add__(self, other: object) -> NoReturn:
        self.refuse("joined to anything")

    __radd__ = __add__

    def __mul__(self, other: object) -> NoReturn:
        self.refuse("repeated")

    __rmul__ = __mul__

    def __mod__(self, other: object) -> NoReturn:
        self.refuse("used as a format")

    def __getitem__(self, index: object) -> NoReturn:
        self.refuse("taken apart")

    def __iter__(self) -> NoReturn:
        self.refuse("taken apart")

    def __contains__(self, part: object) -> bool:
        self.refuse("searched")

    def __len__(self) -> int:
        self.refuse("measured")

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self._value), _bytes(other._value))

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        self.refuse("pickled")

    def __reduce__(self) -> NoReturn:
        self.refuse("pickled")

    def __copy__(self) -> NoReturn:
        self.refuse("copied")

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        self.refuse("copied")


def refuse_secret(value: object) -> Any:
    """Hook for encoders, ``json.dumps(default=…)`` and msgspec's ``enc_hook=…``: a Secret raises SecretEscape.

    Raises:
        SecretEscape: ``value`` is a Secret.
        TypeError: it is anything else that the encoder does not know.
    """
    if isinstance(value, Secret):
        value.refuse("encoded")
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} cannot be encoded")


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")
