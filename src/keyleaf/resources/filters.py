"""The subset of OData's ``$filter`` that role definitions, role assignments and resources take.

Terms joined by ``and``: ``field eq 'value'``, ``function()``, ``function('value')``. Names are compared without
regard to case; a quote inside a value is doubled.
Rule: https://learn.microsoft.com/rest/api/authorization/role-assignments/list-for-scope
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from keyleaf.core.errors import ServiceError

_TERM: Final = re.compile(
    r"\s*(?:(?P<field>[A-Za-z][A-Za-z0-9/]*)\s+eq\s+(?P<value>'(?:''|[^'])*')"
    r"|(?P<function>[A-Za-z]+)\s*\(\s*(?P<argument>'(?:''|[^'])*')?\s*\))\s*",
    re.IGNORECASE,
)
_AND: Final = re.compile(r"and(?=[\s(])", re.IGNORECASE)
_MAXIMUM: Final = 2048


@dataclass(frozen=True, slots=True)
class Filter:
    """The terms, names in lower case. ``equals`` are fields, ``functions`` maps a function to its argument."""

    equals: dict[str, str]
    functions: dict[str, str]


def read_filter(text: str, *, fields: Iterable[str], functions: Iterable[str]) -> Filter:
    """Read a ``$filter``.

    Args:
        fields: the fields that this list can be filtered by.
        functions: the functions that it knows.

    Raises:
        ServiceError: 400, a filter that does not parse or asks for something else.
    """
    found = Filter({}, {})
    known_fields, known_functions = {f.lower() for f in fields}, {f.lower() for f in functions}
    if len(text) > _MAXIMUM:
        raise _bad("it is too long")
    at = 0
    while text.strip():
        match = _TERM.match(text, at)
        if match is None:
            raise _bad(f"position {at + 1} is neither \"field eq 'value'\" nor a function")
        name = (match["field"] or match["function"]).lower()
        if match["field"] and name in known_fields:
            target, value = found.equals, _unquote(match["value"])
        elif match["function"] and name in known_functions:
            target, value = found.functions, _unquote(match["argument"] or "''")
        else:
            raise _bad(f"{name!r} is not supported here")
        if target.setdefault(name, value) != value:
            raise _bad(f"{name!r} is asked for twice")
        at = match.end()
        if at == len(text):
            break
        joined = _AND.match(text, at)
        if joined is None:
            raise _bad(f"position {at + 1}: expected 'and'")
        at = joined.end()
    return found


def _unquote(text: str) -> str:
    return text[1:-1].replace("''", "'")


def _bad(reason: str) -> ServiceError:
    return ServiceError(400, "InvalidFilterInQueryString", f"Invalid $filter in the query string: {reason}.")
