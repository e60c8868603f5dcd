"""Time and randomness, always handed in."""

from __future__ import annotations

import os
import random
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back: for durations."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told: for tests and simulations."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both times forward by ``seconds``."""
        self._now += seconds
        self._monotonic += seconds


class Randomness(Protocol):
    """A source of random bytes."""

    def token(self, size: int) -> bytes:
        """``size`` random bytes."""
        ...


class SystemRandomness:
    """The operating system's generator."""

    def token(self, size: int) -> bytes:
        return os.urandom(size)


class SeededRandomness:
    """A repeatable generator, for tests only: it is not secret."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 (repeatable on purpose)

    def token(self, size: int) -> bytes:
        return self._random.randbytes(size)


# RFC 9562: the two highest bits of the ninth byte are 10.
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def random_guid(randomness: Randomness) -> str:
    """A version 4 GUID in lower case, as Azure writes its ids."""
    digits = randomness.token(16).hex()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def random_hex(randomness: Randomness) -> str:
    """32 lower-case hex digits: the form of a Key Vault version."""
    return randomness.token(16).hex()
