"""The ways out, and the table that they enter themselves into."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Place = Literal["store", "log", "nowhere"]
End = Literal["failed", "completed", "either"]


@dataclass(frozen=True)
class Way:
    """One way out.

    Attributes:
        number: from 1; the canary has it.
        name: in words.
        channel: what it goes through.
        function: takes the value and the Secret; its result is the activity's.
        place: where an unguarded worker writes the value.
        end: of the instance where a guard watches.
        attempts: of the activity.
        timeout: seconds of an attempt.
        flow: what the orchestration does with the value after the activity: ``status``, ``activity``, ``child``,
            ``event``, ``return``, ``raise`` or ``exit``; empty: it only awaits the activity.
        kinds: kinds of values that it is for; empty: all.
    """

    number: int
    name: str
    channel: str
    function: Callable[..., Any]
    place: Place
    end: End
    attempts: int = 1
    timeout: float | None = None
    flow: str = ""
    kinds: tuple[str, ...] = ()


WAYS: list[Way] = []


def way(
    channel: str, name: str, *, place: Place = "store", end: End = "failed", **more: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function into the table."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        WAYS.append(Way(len(WAYS) + 1, name, channel, function, place, end, **more))
        return function

    return enter


class Stash:
    """What an earlier activity leaves in this process for whoever comes later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[str, str] = {}

    def leave(self, name: str, value: str) -> None:
        """Leave a value."""
        with self._lock:
            self._left[name] = value

    def find(self, name: str) -> str:
        """What was left."""
        return self._left[name]


STASH = Stash()


def in_base64(value: str, shift: int = 0, *, url_safe: bool = False) -> str:
    """Base64 of the value with ``shift`` bytes before it."""
    data = b"x" * shift + value.encode() + b"yz"
    return (base64.urlsafe_b64encode if url_safe else base64.b64encode)(data).decode()


def in_two(value: str) -> tuple[str, str]:
    """Two parts, of which the first has enough to tell what it is."""
    cut = len(value) * 2 // 3 + 4
    return value[:cut], value[cut:]
