"""The error for what does not repeat itself, and how it names a place in the author's code."""

from __future__ import annotations

from pathlib import Path

from keyleaf.core.errors import InputError
from keyleaf.core.location import Location

ENGINE_ROOMS = ("keyleaf.core", "keyleaf.client", "keyleaf.orchestrate")
"""Packages that carry orchestrations out: their code is never an author's."""


class NondeterminismError(InputError):
    """An orchestration does what only an activity may do, or took another way than the one recorded.

    The message says what it does and in which function, ``where`` is the line, ``hint`` what to use instead.
    """


def place_in_code(file: str, line: int, column: int = 0) -> Location:
    """A place in a source file: relative to the working directory if it is below it.

    Args:
        file: as a code object names it.
        line: from 1.
        column: from 1; 0 for the whole line.
    """
    path = Path(file)
    try:
        here = Path.cwd()
    except OSError:  # the working directory was removed
        return Location(path.as_posix(), line, column)
    return Location((path.relative_to(here) if path.is_relative_to(here) else path).as_posix(), line, column)


def is_engine(module: str) -> bool:
    """Whether a module belongs to keyleaf's own machinery."""
    return any(module == room or module.startswith(f"{room}.") for room in ENGINE_ROOMS)
