"""What happens to the text of a manifest on its way to a local process. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_PATH_CHARACTER = r"[\w.~@%+-]"


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by the variable's value, as Kubernetes does for ``command``, ``args`` and ``env``.

    ``$$`` stands for one ``$``, so ``$$(NAME)`` stays ``$(NAME)``; what names no variable stays as it is written.
    Rule: https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    result: list[str] = []
    place = 0
    while place < len(text):
        if text[place] != "$" or place + 1 == len(text):
            result.append(text[place])
            place += 1
            continue
        following = text[place + 1]
        end = text.find(")", place + 2) if following == "(" else -1
        if end >= 0:
            name = text[place + 2 : end]
            result.append(variables.get(name, f"$({name})"))
            place = end + 1
        else:
            result.append("$" if following == "$" else f"${following}")
            place += 2
    return "".join(result)


def references(text: str) -> frozenset[str]:
    """Names of the variables that :func:`expand` would look for in ``text``."""
    asked: set[str] = set()

    class Listener(dict[str, str]):
        def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
            asked.add(name)
            return default

    expand(text, Listener())
    return frozenset(asked)


def replace_paths(text: str, places: Mapping[str, str]) -> str:
    """Replace each path of a container by where it lies here, wherever it stands as a whole path or a path's beginning.

    Args:
        places: absolute path in the container to absolute path here; the longest match counts.
    """
    known = {path.rstrip("/"): place for path, place in places.items() if path.rstrip("/")}
    if not known:
        return text
    pattern = "|".join(re.escape(path) for path in sorted(known, key=len, reverse=True))
    # A path begins where nothing before it belongs to a path, and ends at a slash or at something that cannot go on it.
    whole = re.compile(rf"(?<!{_PATH_CHARACTER})(?<!/)({pattern})(?!{_PATH_CHARACTER})")
    return whole.sub(lambda match: known[match[1]], text)


def replace_addresses(text: str, addresses: Iterable[tuple[str, str]]) -> str:
    """Replace each cluster address by the local one, where it stands as a whole authority.

    Args:
        addresses: pairs such as ``("provider.shop.svc:80", "127.0.0.1:40123")``, without regard to case.
    """
    local = {name.lower(): here for name, here in addresses}
    if not local:
        return text
    pattern = "|".join(re.escape(name) for name in sorted(local, key=len, reverse=True))
    whole = re.compile(rf"(?<![\w.-])({pattern})(?![\w-]|\.\w|:\d)", re.IGNORECASE)
    return whole.sub(lambda match: local[match[1].lower()], text)
