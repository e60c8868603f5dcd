"""Secret values that cannot be mistaken for anything else, one for each way out and each kind of value.

A value is ``mark + number of the way + filler``. The mark is the same for all values of a kind, so that a search for
the marks finds every value, also where only its first half is; the number tells which way it took. The kind of several
lines has two marks, because each of its lines is a secret of its own.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

KINDS = ("plain", "unruly", "digits", "base64", "lines")
_LETTERS = string.ascii_letters
_ALPHABET = _LETTERS + string.digits


@dataclass(frozen=True)
class Canaries:
    """The values of one run of the harness.

    Attributes:
        marks: what all values of a kind begin with; of a value of several lines what the second line begins with too.
    """

    marks: dict[str, tuple[str, ...]]
    fillers: dict[str, str]

    @staticmethod
    def from_seed(seed: int) -> Canaries:
        """The same seed gives the same values."""
        chance = random.Random(f"hostile {seed}")

        def some(letters: str, count: int) -> str:
            return "".join(chance.choice(letters) for _ in range(count))

        marks = {
            "plain": (f"canary-{some(_ALPHABET, 8)}-",),
            "unruly": (f"{some(_LETTERS, 3)} '\"&<€ü%41+\\{some(_LETTERS, 3)}>",),
            "digits": (some("123456789", 10),),
            "base64": (some(_ALPHABET, 7) + "+" + some(_ALPHABET, 7) + "/",),
            "lines": (f"first-{some(_ALPHABET, 8)}-", f"second-{some(_ALPHABET, 8)}-"),
        }
        fillers = {
            "plain": some(_ALPHABET, 12),
            "unruly": "é" + some(_LETTERS, 12),
            "digits": some("0123456789", 4),
            "base64": some(_ALPHABET, 21) + "=",
            "lines": some(_ALPHABET, 12),
        }
        return Canaries(marks, fillers)

    def value(self, kind: str, way: int) -> str:
        """The value that way number ``way`` tries to carry out."""
        number, filler = f"{way:03d}", self.fillers[kind]
        if kind == "lines":
            first, second = self.marks[kind]
            return f"{first}{number}{filler}\n{second}{number}{filler}\n"
        return f"{self.marks[kind][0]}{number}{filler}"


def secret_name(kind: str, way: int) -> str:
    """Its name in the vault."""
    return f"{kind}-{way:03d}"
