"""The state directory: what lies where, who may read it, and who holds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from keyleaf.core.errors import StateError


@dataclass(frozen=True)
class StateDirectory:
    """Paths of one installation. The directory has mode 0700; private files have mode 0600."""

    root: Path

    @staticmethod
    def open(root: Path) -> StateDirectory:
        """Create the directory where needed.

        Raises:
            StateError: it cannot be made, or others may write to it.
        """
        root = root.expanduser().absolute()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if root.stat().st_mode & 0o022:
                raise StateError(f"others may write to {root}", hint=f"chmod 700 {root}")
        except OSError as error:
            raise StateError(f"cannot use the state directory {root}", hint=error.strerror or "") from None
        return StateDirectory(root)

    @property
    def database(self) -> Path:
        return self.root / "state.db"

    @property
    def root_key(self) -> Path:
        return self.root / "root.key"

    @property
    def next_root_key(self) -> Path:
        """A new root key from before the database changes over to it until it takes the old one's place."""
        return self.root / "root.key.next"

    @property
    def connection(self) -> Path:
        return self.root / "connection.json"

    @property
    def tls(self) -> Path:
        return self.root / "tls"

    @property
    def ports(self) -> Path:
        return self.root / "ports.json"

    @property
    def oidc(self) -> Path:
        return self.root / "oidc"

    @property
    def lock(self) -> Path:
        return self.root / "server.lock"


def write_private(path: Path, content: bytes) -> None:
    """Write a 0600 file atomically and durably: readers see the old content or the new, never a part."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        replace_durably(Path(name), path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def replace_durably(source: Path, target: Path) -> None:
    """Give ``source`` the name of ``target`` in the same directory, so that a power cut does not undo it."""
    source.replace(target)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class StateLock:
    """Held by whoever serves or rewrites a state directory: one at a time.

    The kernel gives it back when the holder dies, however it dies.
    """

    @staticmethod
    @contextlib.contextmanager
    def hold(path: Path) -> Iterator[None]:
        """Hold the lock.

        Raises:
            StateError: another process holds it; names its pid where known.
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
                who = f" (pid {holder})" if holder.isdigit() else ""
                raise StateError(
                    f"another keyleaf{who} is using {path.parent}", hint="stop it, or give another --state"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)
