"""What an exception says: its name, its message, its traceback, and every text that it carries."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

from keyleaf.core.secret import Secret


def type_name(error: BaseException) -> str:
    """The type as a traceback names it: with its module, unless that is ``builtins``."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def message(error: BaseException) -> str:
    """``str(error)``; for an error that cannot be turned into text, the ``repr`` of what it was made with."""
    try:
        return str(error)
    except BaseException:  # SystemExit too: an error that is shown must not end the process
        return shown(error.args)


def shown(value: object) -> str:
    """``repr(value)``; for a value whose ``repr`` fails, its type."""
    try:
        return repr(value)
    except BaseException:
        return f"<{type(value).__qualname__}>"


def formatted(error: BaseException) -> str:
    """The traceback as Python prints it, with causes, contexts and groups, without local variables."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=False).format())


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts (hidden ones too) and the members of groups, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__context__, one.__cause__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def carried(error: BaseException) -> Iterator[object]:
    """All that one error (not its chain) carries: message, arguments, notes and attributes.

    Of plain types and Secret the objects themselves, of anything else what ``repr`` shows.
    """
    yield message(error)
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    for value in (*error.args, *getattr(error, "__notes__", ()), *attributes.values()):
        plain = isinstance(value, str | bytes | bytearray | int | float | list | tuple | dict | set | Secret)
        yield value if plain else shown(value)
