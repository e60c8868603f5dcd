"""Who was observed reading a secret, as the audit log of the embedded server tells."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from keyleaf.ledger import Filter, Record, connect, query
from keyleaf.plan import Observation, Vault
from keyleaf.store import sqlite_url

WINDOW = 30.0
"""Days that count as "in the window", unless asked for others."""
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What the log says of one identity and one secret; ``last_read`` in seconds since 1970 UTC, 0 for never.

    Attributes:
        name: what the identity was called at its last request, for one that is gone.
    """

    counts: Observation = field(default_factory=Observation)
    last_read: float = 0.0
    name: str = ""


def seen_by(state: Path | None, vault: Vault, secret: str, since: float) -> dict[str, Seen] | None:
    """Every identity that asked for the secret, by object id; None where there is no log to read.

    Args:
        state: state directory of the embedded server; None for any other Azure.
        since: start of the window, seconds since 1970 UTC.

    Raises:
        StateError: the log is there and cannot be read.
    """
    if state is None:
        return None
    url = os.environ.get("KEYLEAF_DATABASE_URL", "")
    if not url:
        file = (state / "state.db").resolve()
        if not file.exists():
            return None
        url = sqlite_url(file)
    connection = connect(url, read_only=True)
    try:
        return summarize(query(connection, Filter(operation="SecretGet", secret=secret)), vault, secret, since)
    finally:
        connection.close()


def summarize(entries: Iterable[Record], vault: Vault, secret: str, since: float) -> dict[str, Seen]:
    """Count ``entries`` about the secret by identity: reads by the HTTP status, never by the decision alone."""
    about = {f"{vault.scope.key}/secrets/{secret.lower()}", f"{vault.uri.rstrip('/').lower()}/secrets/{secret.lower()}"}
    found: dict[str, Seen] = {}
    for entry in entries:
        if entry.resource.lower() not in about or not entry.identity:
            continue
        seen = found.get(entry.identity, Seen())
        moment = entry.time / _MICROSECONDS
        reads, before, denied, last = seen.counts.reads, seen.counts.reads_before, seen.counts.denied, seen.last_read
        if entry.status == 200:
            reads, before = (reads + 1, before) if moment >= since else (reads, before + 1)
            last = max(last, moment)
        elif entry.status in (401, 403):
            denied += 1
        name = entry.identity_resource.rsplit("/", 1)[-1] or entry.application or seen.name
        found[entry.identity] = Seen(Observation(reads, before, denied), last, name)
    return found
