"""The tree that ``keyleaf up`` runs: read, laid out as files for the programs, and watched."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

from keyleaf.core.errors import KeyleafError
from keyleaf.tree import read_tree
from keyleaf.tree.files import normal
from keyleaf.tree.git import is_remote
from keyleaf.tree.model import AppTree
from keyleaf.tree.opening import open_repository

_LOCAL_LOOK = 0.5
_REMOTE_LOOK = 30.0
_DEBOUNCE_MILLISECONDS = 200
_LEVEL = ".in"


class SourceTree:
    """A tree by its address: a directory is followed as it is saved, anything else by its commits."""

    def __init__(self, path: str, revision: str, state: Path) -> None:
        self.path = path
        self.revision = revision
        self._checkouts = state / "run" / "source"
        self._plain = not revision and not path.startswith("file://") and _has_files(path)
        self._outside: frozenset[Path] = frozenset()

    def read(self) -> tuple[AppTree, Path]:
        """The tree, and the directory that holds its files. Blocking.

        Raises:
            InputError: there is no such place or revision. RemoteError: a remote repository did not answer.
        """
        tree = read_tree(self.path, self.revision)
        outside = _outside(tree)
        if self._plain:
            root = Path(self.path).resolve()
            self._outside = frozenset((root / folder).resolve() for folder in outside)
            return tree, root
        return tree, self._checkout(tree.revision, outside)

    async def changes(self) -> AsyncIterator[None]:
        """One item for each moment after which the tree may differ."""
        if self._plain:
            while True:
                async for _ in self._saved():
                    yield
        known = await asyncio.to_thread(self._commit)
        while True:
            await asyncio.sleep(_REMOTE_LOOK if is_remote(self.path) else _LOCAL_LOOK)
            try:
                now = await asyncio.to_thread(self._commit)
            except KeyleafError:
                # A repository that is not to be had for a moment stops nothing that runs.
                continue
            if now != known:
                known = now
                yield

    async def _saved(self) -> AsyncIterator[None]:
        """One item for each save, until programs outside the tree's folder come into it or leave it."""
        watched = self._outside
        folders = [folder for folder in sorted(watched) if folder.is_dir()]
        saves = awatch(self.path, *folders, watch_filter=_Filter(), debounce=_DEBOUNCE_MILLISECONDS, step=50)
        async with contextlib.aclosing(saves):
            async for _ in saves:
                yield
                if self._outside != watched:
                    return

    def _commit(self) -> str:
        return open_repository(self.path, self.revision).revision

    def _checkout(self, commit: str, outside: frozenset[str]) -> Path:
        """The tree's files at the commit, and the folders ``outside`` of it, in a directory of their own."""
        place = self._checkouts / (commit or "tree")
        # As deep below it as the folders outside lead up.
        root = place.joinpath(*[_LEVEL] * max((folder.split("/").count("..") for folder in outside), default=0))
        if root.is_dir():
            return root
        repository = open_repository(self.path, commit if not is_remote(self.path) else self.revision)
        shutil.rmtree(self._checkouts, ignore_errors=True)
        fresh = self._checkouts / "new"
        inside = root.relative_to(place).as_posix()
        folders = [repository.base, *(normal(posixpath.join(repository.base, folder)) for folder in sorted(outside))]
        for name in dict.fromkeys(name for folder in folders for name in repository.files.list(folder)):
            file = fresh / normal(posixpath.join(inside, posixpath.relpath(name, repository.base or ".")))
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = repository.files.read(name)
            file.write_bytes(content)
            file.chmod(0o700 if content.startswith(b"#!") else 0o600)
        (fresh / inside).mkdir(parents=True, exist_ok=True)
        fresh.replace(place)
        return root


def _outside(tree: AppTree) -> frozenset[str]:
    """Folders of programs that lie in the repository and not below the tree's root, relative to it."""
    paths = (one.path for one in tree.orchestrations)
    return frozenset(path for path in paths if isinstance(path, str) and path.split("/")[0] == "..")


class _Filter(DefaultFilter):
    """Leaves out what no manifest and no program lives in, and our own state."""

    def __call__(self, change: Change, path: str) -> bool:
        return "/.keyleaf/" not in path and super().__call__(change, path)


def _has_files(path: str) -> bool:
    """Whether ``path`` is a directory with files of its own, not a bare repository."""
    folder = Path(path)
    return folder.is_dir() and not ((folder / "HEAD").is_file() and (folder / "objects").is_dir())
