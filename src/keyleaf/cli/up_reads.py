"""Which secrets the applications were seen to read, for the live view and the proof."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from keyleaf.core.errors import StateError
from keyleaf.ledger import Filter, connect, query
from keyleaf.store import sqlite_url


@dataclass(frozen=True, slots=True)
class LastRead:
    """The last request for one secret: HTTP status and seconds since 1970 UTC."""

    status: int
    time: float


class Reads:
    """Follows the audit log of the embedded server from ``since`` on (seconds since 1970 UTC)."""

    def __init__(self, state: Path, since: float) -> None:
        self._url = os.environ.get("KEYLEAF_DATABASE_URL", "") or sqlite_url((state / "state.db").resolve())
        self._since = int(since * 1_000_000)
        self.last: dict[tuple[str, str, str], LastRead] = {}
        """By (Application, vault, secret), names in lower case."""

    def update(self) -> bool:
        """Read what is new; whether there was anything. Blocking."""
        changed = False
        try:
            connection = connect(self._url, read_only=True)
        except StateError:
            return False
        try:
            for entry in query(connection, Filter(since=self._since, operation="SecretGet")):
                parts = entry.resource.lower().split("/")
                if "vaults" not in parts or "secrets" not in parts or not entry.application:
                    continue
                vault, secret = parts[parts.index("vaults") + 1], parts[parts.index("secrets") + 1]
                read = LastRead(entry.status, entry.time / 1_000_000)
                changed |= self.last.get((entry.application, vault, secret)) != read
                self.last[entry.application, vault, secret] = read
                self._since = max(self._since, entry.time)
        finally:
            connection.close()
        return changed
