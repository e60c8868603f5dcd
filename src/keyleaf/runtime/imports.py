"""Which files of some folders a Python module is made of, as its import statements tell: nothing is executed."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path


def module_files(module: str, folders: Sequence[Path]) -> tuple[Path, ...]:
    """The files below ``folders`` that ``import module`` reads, sorted.

    What a program imports by a computed name is not seen, and neither is what lies elsewhere, such as installed
    packages.

    Args:
        folders: in the order in which Python looks in them.

    Rules: https://docs.python.org/3/reference/import.html#searching
    """
    found: set[Path] = set()
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for file, package in _located(name, folders):
            if file not in found:
                found.add(file)
                waiting.extend(_imported(file, package))
    return tuple(sorted(found))


def _located(name: str, folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The files that importing ``name`` runs, each with the package that relative imports in it start from."""
    parts = name.split(".")
    top = next((folder for folder in folders if _is_module(folder / parts[0])), None)
    # A folder without __init__.py counts only where nothing else has the name.
    top = top or next((folder for folder in folders if (folder / parts[0]).is_dir()), None)
    if top is None:
        return
    for length in range(1, len(parts) + 1):
        place = top.joinpath(*parts[:length])
        inside = ".".join(parts[:length])
        if (place / "__init__.py").is_file():
            yield place / "__init__.py", inside
        elif length == len(parts) and place.with_name(f"{place.name}.py").is_file():
            yield place.with_name(f"{place.name}.py"), inside.rpartition(".")[0]


def _is_module(place: Path) -> bool:
    return (place / "__init__.py").is_file() or place.with_name(f"{place.name}.py").is_file()


def _imported(file: Path, package: str) -> Iterator[str]:
    """The names that ``file`` imports, and those that may be modules of a package; none if it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names if alias.name != "*")


def _absolute(module: str, level: int, package: str) -> str:
    if not level:
        return module
    parents = package.split(".") if package else []
    kept = parents[: len(parents) - level + 1]
    return ".".join((*kept, module) if module else kept) if kept else ""
