"""Careful looks into manifests, which are read as they are written. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def at(value: Any, *keys: str) -> Any:
    """What lies under ``keys``; None where nothing does."""
    for key in keys:
        value = mapping(value).get(key)
    return value


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings in ``value`` if it is a list."""
    if isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Mapping))


def text(value: Any) -> str:
    """A scalar as Kubernetes' YAML reader would write it; empty for none."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None or isinstance(value, Mapping | list | tuple) else str(value)


def integer(value: Any, otherwise: int) -> int:
    """``value`` if it is a whole number that is not negative."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def strings(value: Any) -> tuple[str, ...]:
    """The scalars of a list."""
    return tuple(text(item) for item in value) if isinstance(value, list | tuple) else ()
