"""Fills the volumes of a pod: a whole set of files appears at once, as kubelet's atomic writer does it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

DATA = "..data"


def write_volume(directory: Path, files: Mapping[str, tuple[bytes, int]]) -> bool:
    """Make ``directory`` hold exactly ``files``: content and mode by relative path. Whether anything changed.

    The files lie in a directory of their own; ``..data`` points to it and is swapped by one rename, and each name in
    the volume points through ``..data``: a reader sees the old set or the new, never a mixture.
    Source: https://pkg.go.dev/k8s.io/kubernetes/pkg/volume/util#AtomicWriter
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    current = directory / DATA
    if current.is_symlink() and _same(current, files):
        return False
    old = current.resolve() if current.is_symlink() else None
    fresh = Path(tempfile.mkdtemp(prefix="..", dir=directory))
    for name, (content, mode) in files.items():
        file = fresh / name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(content)
        file.chmod(mode)
    swap = directory / "..data_new"
    swap.unlink(missing_ok=True)
    swap.symlink_to(fresh.name)
    swap.replace(current)
    tops = {name.split("/", 1)[0] for name in files}
    for top in tops:
        if not (directory / top).is_symlink():
            (directory / top).symlink_to(f"{DATA}/{top}")
    for entry in directory.iterdir():
        if entry.is_symlink() and entry.name != DATA and entry.name not in tops:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def mount(root: Path, path: str, target: Path) -> Path:
    """Let ``path`` of the container be ``target``: a symbolic link below ``root``. Gives the link."""
    link = root / path.lstrip("/")
    link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(target)
    return link


def _same(current: Path, files: Mapping[str, tuple[bytes, int]]) -> bool:
    present = {str(file.relative_to(current)) for file in current.rglob("*") if file.is_file()}
    if present != set(files):
        return False
    return all(
        (current / name).read_bytes() == content and (current / name).stat().st_mode & 0o777 == mode
        for name, (content, mode) in files.items()
    )
