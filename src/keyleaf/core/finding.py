"""What keyleaf found wrong, in the one shape that every room, the CLI and alerts use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from keyleaf.core.location import Location


class Severity(IntEnum):
    """How bad: an error fails ``keyleaf up --once`` and ``plan``; a warning and a note do not."""

    NOTE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or cannot be known.

    Attributes:
        code: stable kebab-case name, listed in docs/findings.md.
        severity: see Severity.
        message: what is wrong, one sentence, no secret value.
        owner: the Application (its key) that has to mend it; empty where none owns it.
        where: place in Git.
        cause: why it is so.
        fix: the command or edit that mends it.
    """

    code: str
    severity: Severity
    message: str
    owner: str = ""
    where: Location | None = None
    cause: str = ""
    fix: str = ""
