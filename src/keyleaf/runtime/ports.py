"""Which port each process listens on: what its manifest says where that is free, otherwise another one."""

from __future__ import annotations

import json
import socket
from pathlib import Path

_FIRST_UNPRIVILEGED = 1024


class PortBook:
    """Remembers the port of each (process, container port) over restarts, so that addresses stay."""

    def __init__(self, file: Path | None = None) -> None:
        """``file``: where it is kept; None keeps it in memory."""
        self._file = file
        self._ports: dict[str, int] = {}
        if file is not None:
            try:
                read = json.loads(file.read_bytes())
                self._ports = {str(key): int(port) for key, port in read.items()}
            except (OSError, ValueError, AttributeError, TypeError):
                self._ports = {}

    def assign(self, owner: str, wanted: int, *, in_use: bool = False) -> int:
        """The port of ``owner``, for example ``shop-web/Deployment/shop-web/web#0:8080``.

        Args:
            in_use: its process runs, so that the port is taken by the right one.
        """
        key = f"{owner}:{wanted}"
        known = self._ports.get(key)
        if known is not None and (in_use or is_free(known)):
            return known
        taken = {port for other, port in self._ports.items() if other != key}
        usable = wanted >= _FIRST_UNPRIVILEGED and wanted not in taken and is_free(wanted)
        port = wanted if usable else _any_free(taken)
        self._ports[key] = port
        self._save()
        return port

    def forget_all_but(self, owners: set[str]) -> None:
        """Give back the ports of whoever is gone. ``owners`` are keys as in :meth:`assign`, without the port."""
        kept = {key: port for key, port in self._ports.items() if key.rsplit(":", 1)[0] in owners}
        if kept != self._ports:
            self._ports = kept
            self._save()

    def _save(self) -> None:
        if self._file is not None:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._file.with_name(f"{self._file.name}.new")
            fresh.write_text(json.dumps(self._ports, indent=1, sort_keys=True), "utf-8")
            fresh.replace(self._file)


def is_free(port: int) -> bool:
    """Whether a program could listen on ``port`` now, on loopback and on all addresses."""
    for address in ("127.0.0.1", ""):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((address, port))
            except OSError:
                return False
    return True


def _any_free(taken: set[int]) -> int:
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
            tried.bind(("127.0.0.1", 0))
            port = int(tried.getsockname()[1])
        if port not in taken:
            return port
