"""Where the tree's files come from: a directory, a Git commit, or memory."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, MutableSequence, Sequence
from pathlib import Path
from typing import Protocol

from keyleaf.core.errors import InputError

# What no manifest lives in; walking them would only cost time.
SKIPPED = frozenset({".git", ".hg", ".svn", ".keyleaf", ".venv", "node_modules", "__pycache__", ".terraform", ".tox"})


class FileSet(Protocol):
    """Files by path: relative to the set's root, forward slashes, no ``.`` or ``..``."""

    def list(self, prefix: str = "") -> Sequence[str]:
        """Every file below the folder ``prefix``, sorted; empty if there is none."""

    def size(self, path: str) -> int:
        """Bytes of one file. Raises InputError if it is not there or leaves the set."""

    def read(self, path: str) -> bytes:
        """Content of one file. Raises InputError if it is not there or leaves the set."""

    def escaping(self) -> Sequence[str]:
        """Symbolic links that lead out of the set: refused, and told as findings."""


def normal(path: str) -> str:
    """``path`` without ``.``, doubled or trailing slashes; ``""`` is the root; ``..`` stays where it leads out."""
    cleaned = posixpath.normpath(path.replace("\\", "/").lstrip("/") or ".")
    return "" if cleaned == "." else cleaned


def below(path: str, folder: str) -> bool:
    """Whether ``path`` is ``folder`` or in it."""
    return not folder or path == folder or path.startswith(folder + "/")


class FolderIndex:
    """Sorted paths, and which folders they make: the part that every FileSet shares."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = tuple(sorted(paths))
        self._by_folder: dict[str, list[str]] = {}
        for path in self.paths:
            folder = posixpath.dirname(path)
            while True:
                self._by_folder.setdefault(folder, []).append(path)
                if not folder:
                    break
                folder = posixpath.dirname(folder)

    def under(self, folder: str) -> Sequence[str]:
        """Every path below ``folder``, sorted."""
        return self._by_folder.get(normal(folder), ())


class MemoryFiles:
    """Files held in memory: for tests, and for trees that a program made up."""

    def __init__(self, files: Mapping[str, bytes | str]) -> None:
        self._files = {normal(path): text.encode() if isinstance(text, str) else text for path, text in files.items()}
        self._index = FolderIndex(tuple(self._files))

    def list(self, prefix: str = "") -> Sequence[str]:
        """See FileSet."""
        return self._index.under(prefix)

    def size(self, path: str) -> int:
        """See FileSet."""
        return len(self.read(path))

    def read(self, path: str) -> bytes:
        """See FileSet."""
        try:
            return self._files[path]
        except KeyError:
            raise InputError(f"{path} does not exist") from None

    def escaping(self) -> Sequence[str]:
        """See FileSet."""
        return ()


class DirectoryFiles:
    """A folder on disk as it stands now, saved but uncommitted changes included.

    Links to files inside the folder are followed; links to folders are not walked, as Argo CD does not walk them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._escaping: list[str] = []
        self._plain: set[str] = set()
        self._index: FolderIndex | None = None

    def list(self, prefix: str = "") -> Sequence[str]:
        """See FileSet."""
        return self._walked().under(prefix)

    def size(self, path: str) -> int:
        """See FileSet."""
        try:
            return self._inside(path).stat().st_size
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or 'not a file'}") from None

    def read(self, path: str) -> bytes:
        """See FileSet."""
        try:
            return self._inside(path).read_bytes()
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or 'not a file'}") from None

    def escaping(self) -> Sequence[str]:
        """See FileSet."""
        self._walked()
        return tuple(self._escaping)

    def _inside(self, path: str) -> Path:
        if path in self._plain:
            return self.root / path
        try:
            target = (self.root / path).resolve()
        except (OSError, RuntimeError, ValueError):
            raise InputError(f"{path} cannot be read: its links lead nowhere") from None
        if not target.is_relative_to(self.root):
            raise InputError(f"{path} leads out of {self.root.name}")
        if not target.is_file():
            raise InputError(f"{path} does not exist")
        return target

    def _walked(self) -> FolderIndex:
        if self._index is None:
            found: list[str] = []
            self._walk("", found)
            self._index = FolderIndex(found)
        return self._index

    def _walk(self, folder: str, found: MutableSequence[str]) -> None:
        try:
            entries = list(os.scandir(self.root / folder))
        except OSError:
            return
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_symlink():
                try:
                    self._inside(path)
                    found.append(path)
                except InputError:
                    if self._leaves(path):
                        self._escaping.append(path)
            elif entry.is_dir():
                if entry.name not in SKIPPED:
                    self._walk(path, found)
            elif entry.is_file():
                found.append(path)
                self._plain.add(path)

    def _leaves(self, path: str) -> bool:
        try:
            return not (self.root / path).resolve().is_relative_to(self.root)
        except (OSError, RuntimeError):
            return False
