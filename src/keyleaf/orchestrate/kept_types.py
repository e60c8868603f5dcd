"""Which declared types can be kept as JSON."""

from __future__ import annotations

from typing import Any

import msgspec


def unusable_type(wanted: Any) -> Any:
    """The first part of a type that no JSON can be read as, or None.

    A type that msgspec does not know is decoded only as an instance of itself, which JSON never gives
    (https://jcristharif.com/msgspec/supported-types.html). Where several types do not go together, the text says why.
    """
    try:
        found = msgspec.inspect.type_info(wanted)
    except TypeError as error:
        return str(error)
    return _unusable(found, set())


def _unusable(part: Any, seen: set[int]) -> Any:
    if isinstance(part, tuple):
        for each in part:
            found = _unusable(each, seen)
            if found is not None:
                return found
        return None
    if not isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field) or id(part) in seen:
        return None
    seen.add(id(part))
    if isinstance(part, msgspec.inspect.CustomType):
        return None if part.cls is object else part.cls
    return _unusable(tuple(getattr(part, name) for name in part.__struct_fields__), seen)
