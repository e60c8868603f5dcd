"""What decisions are made from, held in memory for one generation of the installation.

Every change, by whichever process, raises the generation; then a new, empty :class:`Caches` takes the place of the old
one. A request works with one object from beginning to end, so what it reads cannot outlive the generation that its
audit record names.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import Connection

from keyleaf.access import (
    Ancestry,
    Decision,
    PolicyDecision,
    RoleAssignment,
    RoleDefinition,
    decide,
    decide_by_policy,
    read_policies,
)
from keyleaf.core.operation import Call, Demand, Principal
from keyleaf.identity import PrincipalRow, find_by_object_id
from keyleaf.resources import load_assignments, load_roles, management_groups
from keyleaf.store import Keyring, SealedValue
from keyleaf.vault import StoredSecret, VaultRow, attributes, bundle, find_vault, load_secret

HELD_SECRETS = 20_000
HELD_TOKENS = 20_000

_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class HeldSecret:
    """One version of a secret, ready to be opened; ``allowed`` holds who may: oid → decision."""

    vault: VaultRow
    stored: StoredSecret
    opener: SealedValue
    scope: str
    allowed: dict[str, Decision | PolicyDecision] = field(default_factory=dict)
    rendered: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    def frame(self, base: str) -> tuple[bytes, bytes]:
        """What stands before and after the value in the answer's JSON, for one base of ids."""
        found = self.rendered.get(base)
        if found is None:
            level = attributes(self.stored, self.vault.retention_days, self.vault.purge_protection)
            before, empty, after = _encode(bundle(self.stored, base, level, "")).partition(b'"value":""')
            found = self.rendered[base] = (before + empty[:-2], after)
        return found


class Caches:
    """Rows and decisions of one generation; filled by worker threads, read by the event loop."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.principals: dict[str, PrincipalRow | None] = {}
        self.tokens: dict[tuple[bytes, str], tuple[Principal, float]] = {}
        self.secrets: OrderedDict[tuple[str, str, str], HeldSecret] = OrderedDict()
        self._assignments: dict[str, tuple[RoleAssignment, ...]] = {}
        self._roles: Mapping[str, RoleDefinition] | None = None
        self._ancestry: Ancestry | None = None
        self._vaults: dict[str, VaultRow | None] = {}

    def principal(self, connection: Connection, object_id: str) -> PrincipalRow | None:
        """The directory's row of an object id."""
        if object_id not in self.principals:
            self.principals[object_id] = find_by_object_id(connection, object_id)
        return self.principals[object_id]

    def vault(self, connection: Connection, name: str) -> VaultRow | None:
        """The vault of that name."""
        key = name.lower()
        if key not in self._vaults:
            self._vaults[key] = find_vault(connection, key)
        return self._vaults[key]

    def decide(
        self, connection: Connection, demand: Demand, principal: Principal, vault: VaultRow | None
    ) -> Decision | PolicyDecision:
        """The decision on one demand: by the vault's access policies where it has that mode, else by RBAC."""
        if vault is not None and not vault.rbac and demand.data:
            policies = read_policies(vault.access_policies)
            return decide_by_policy(demand, principal.tenant_id, principal.object_id, principal.client_id, policies)
        if self._roles is None or self._ancestry is None:
            self._roles, self._ancestry = load_roles(connection), management_groups(connection)
        assignments = self._assignments.get(principal.object_id)
        if assignments is None:
            assignments = self._assignments[principal.object_id] = load_assignments(connection, principal.object_id)
        return decide(demand, principal.object_id, assignments, self._roles, self._ancestry)

    def hold(self, key: tuple[str, str, str], held: HeldSecret) -> HeldSecret:
        """Keep a secret's version for the next read."""
        kept = self.secrets.setdefault(key, held)
        if len(self.secrets) > HELD_SECRETS:
            self.secrets.popitem(last=False)
        return kept


def remember_read(
    connection: Connection,
    keyring: Keyring,
    caches: Caches,
    call: Call,
    vault: VaultRow,
    principal: Principal,
    decision: Decision | PolicyDecision,
    demand: Demand,
) -> None:
    """Hold what the next read of the same secret by the same identity needs."""
    version = call.path.get("version", "")
    key = (vault.key, call.path["name"].lower(), version)
    held = caches.secrets.get(key)
    if held is None:
        found = load_secret(connection, vault.key, call.path["name"], version or None)
        if found is None:
            return
        opener = keyring.unwrap_version(
            vault.tenant_id, vault.name, vault.wrapped_key, found.name, found.version, found.wrapped_key
        )
        held = caches.hold(key, HeldSecret(vault, found, opener, demand.scope.path))
    held.allowed[principal.object_id] = decision
