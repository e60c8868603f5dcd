"""Argo CD's globs: ``*`` crosses ``/`` unless separators are given, ``{a,b}``, ``[a-z]``, ``?``.

Source: https://argo-cd.readthedocs.io/en/stable/user-guide/directory/ and https://github.com/gobwas/glob
"""

from __future__ import annotations

import re
from functools import lru_cache


def matches(pattern: str, text: str, *, separator: str = "") -> bool:
    """Whether all of ``text`` fits ``pattern``; a pattern that is malformed fits only itself.

    Args:
        separator: a character that ``*`` and ``?`` do not cross; ``**`` does.
    """
    return _compiled(pattern, separator).fullmatch(text) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str, separator: str) -> re.Pattern[str]:
    try:
        return re.compile(_translated(pattern, separator), re.DOTALL)
    except (re.error, ValueError, RecursionError, OverflowError):
        return re.compile(re.escape(pattern))


def _translated(pattern: str, separator: str) -> str:
    one = f"[^{re.escape(separator)}]" if separator else "."
    out: list[str] = []
    depth = at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            out.append(re.escape(pattern[at]))
        elif char == "*":
            end = at
            while end < len(pattern) and pattern[end] == "*":
                end += 1
            # A possessive run would be wrong here: what follows must still be able to take characters back.
            out.append(".*" if end - at > 1 else f"{one}*")
            at = end - 1
        elif char == "?":
            out.append(one)
        elif char == "[":
            end = pattern.index("]", at + 2)
            body = pattern[at + 1 : end]
            negated = body.startswith("!")
            inner = body[negated:].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^").replace("&&", "&\\&")
            out.append(f"[{'^' if negated else ''}{inner}]")
            at = end
        elif char == "{":
            depth += 1
            out.append("(?:")
        elif char == "}" and depth:
            depth -= 1
            out.append(")")
        elif char == "," and depth:
            out.append("|")
        else:
            out.append(re.escape(char))
        at += 1
    if depth:
        raise ValueError("an alternative is not closed")
    return "".join(out)
