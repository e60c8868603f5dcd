"""What the last round left, so that the next start need not wait for Azure to be asked before the children start.

The identities and addresses that processes were given last time are used again at once if the tree is the same and the
embedded Azure is where it was. What a process may read is decided by the vault for every request, so starting early
gives nobody anything; the round that follows mends whatever has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from keyleaf.runtime import Endpoints
from keyleaf.store.state import write_private
from keyleaf.tree.model import AppTree

_FILE = "last-round.json"


class _LastRound(msgspec.Struct):
    tree: str
    authority: str
    tenant_id: str
    ca_bundle: str
    client_ids: list[tuple[str, str, str]]
    vaults: dict[str, str]


def remember(state: Path, tree: AppTree, endpoints: Endpoints) -> None:
    """Keep what the processes of this round were given."""
    accounts = [(namespace, name, client) for (namespace, name), client in sorted(endpoints.client_ids.items())]
    last = _LastRound(
        _digest(tree), endpoints.authority, endpoints.tenant_id, endpoints.ca_bundle, accounts, dict(endpoints.vaults)
    )
    write_private(state / _FILE, msgspec.json.encode(last))


def recall(state: Path, tree: AppTree, connection: Mapping[str, object]) -> Endpoints | None:
    """What the last round left, if it was for this very tree and this very server; None otherwise."""
    try:
        last = msgspec.json.decode((state / _FILE).read_bytes(), type=_LastRound)
    except (OSError, msgspec.DecodeError):
        return None
    same = (last.authority, last.tenant_id) == (connection.get("authority"), connection.get("tenant_id"))
    if not same or last.tree != _digest(tree) or last.vaults.items() > _vaults(connection).items():
        return None
    client_ids = {(namespace, name): client for namespace, name, client in last.client_ids}
    return Endpoints(last.authority, last.tenant_id, last.ca_bundle, client_ids, last.vaults)


def _vaults(connection: Mapping[str, object]) -> dict[str, str]:
    vaults = connection.get("vaults")
    return {str(name).lower(): str(url) for name, url in vaults.items()} if isinstance(vaults, dict) else {}


def _digest(tree: AppTree) -> str:
    parts = (tree.root, tree.applications, tree.manifests, tree.service_accounts, tree.needs, tree.seeds)
    return sha256(repr(parts).encode()).hexdigest()
