"""Helm's values: how files merge, and what ``--set a.b[0]=c`` means.

Source: https://helm.sh/docs/intro/using_helm/#the-format-and-limitations-of---set
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_STEP = re.compile(r"\[(\d{1,4})\]|((?:\\.|[^.\[\\])+)")
_NAME = re.compile(rf"(?:{_STEP.pattern})(?:\.?(?:{_STEP.pattern}))*")
_MOST = 1000


def merge(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """``second`` over ``first``: mappings merge, everything else is replaced, null removes."""
    made = dict(first)
    for key, value in second.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(made.get(key), Mapping):
            made[key] = merge(made[key], value)
        else:
            made[key] = value
    return made


def set_value(values: Mapping[str, Any], name: str, value: str, *, as_text: bool) -> dict[str, Any]:
    """``values`` with ``name`` (``a.b[0].c``, dots escaped by a backslash) set to ``value``."""
    if not _NAME.fullmatch(name):
        return dict(values)
    steps: list[str | int] = [
        int(index) if index else re.sub(r"\\(.)", r"\1", key) for index, key in _STEP.findall(name)
    ]
    if not steps or isinstance(steps[0], int):
        return dict(values)
    made = _with(values, steps, value if as_text else _typed(value))
    return made if isinstance(made, dict) else dict(values)


def _with(current: Any, steps: list[str | int], value: Any) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        listed = list(current) if isinstance(current, list) else []
        if step >= _MOST:
            return listed
        listed += [None] * (step + 1 - len(listed))
        listed[step] = _with(listed[step], rest, value)
        return listed
    made = dict(current) if isinstance(current, Mapping) else {}
    made[step] = _with(made.get(step), rest, value)
    return made


def _typed(value: str) -> Any:
    if value in ("true", "false"):
        return value == "true"
    if value == "null":
        return None
    return int(value) if re.fullmatch(r"-?(?:0|[1-9]\d{0,17})", value) else value
