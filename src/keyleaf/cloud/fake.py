"""Azure in memory, with the rules that keyleaf depends on: for tests and for trying a plan without a server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence

from keyleaf.access import RoleAssignment, RoleDefinition
from keyleaf.core.errors import RemoteError
from keyleaf.core.scope import Scope
from keyleaf.plan.model import Credential, Identity, SecretState, Vault

CREDENTIALS_PER_IDENTITY = 20


class FakeAzure:
    """One subscription that lives as long as the object."""

    def __init__(self, subscription: str) -> None:
        self._subscription = subscription
        self._lock = threading.RLock()
        self._vaults: dict[str, Vault] = {}
        self._identities: dict[str, Identity] = {}
        self._credentials: dict[tuple[str, str], Credential] = {}
        self._assignments: dict[str, RoleAssignment] = {}
        self._roles: list[RoleDefinition] = []
        self._secrets: dict[tuple[str, str], SecretState] = {}
        self._sealed: set[str] = set()

    @property
    def subscription(self) -> str:
        return self._subscription

    def vaults(self) -> Sequence[Vault]:
        with self._lock:
            return tuple(self._vaults.values())

    def put_vault(self, scope: Scope, location: str, tags: Mapping[str, str]) -> Vault:
        with self._lock:
            name = scope.path.rsplit("/", 1)[1]
            taken = self._vaults.get(name.lower())
            if taken is not None and taken.scope.key != scope.key:
                raise RemoteError(f"VaultAlreadyExists: the name {name} is taken")
            vault = Vault(name, scope, f"https://{name.lower()}.vault.azure.net/", location, True, dict(tags))
            self._vaults[name.lower()] = vault
            return vault

    def identities(self) -> Sequence[Identity]:
        with self._lock:
            return tuple(self._identities.values())

    def put_identity(self, scope: Scope, location: str, tags: Mapping[str, str]) -> Identity:
        with self._lock:
            present = self._identities.get(scope.key)
            if present is not None and present.location != location:
                raise RemoteError("InvalidResourceLocation: the location of an identity cannot be changed")
            identity = Identity(
                present.name if present else scope.path.rsplit("/", 1)[1],
                present.scope if present else scope,
                present.client_id if present else str(uuid.uuid4()),
                present.principal_id if present else str(uuid.uuid4()),
                location,
                dict(tags),
            )
            self._identities[scope.key] = identity
            return identity

    def delete_identity(self, scope: Scope) -> None:
        with self._lock:
            self._identities.pop(scope.key, None)
            for key in [key for key in self._credentials if key[0] == scope.key]:
                del self._credentials[key]

    def credentials(self, identity: Scope) -> Sequence[Credential]:
        with self._lock:
            return tuple(found for (scope, _), found in self._credentials.items() if scope == identity.key)

    def put_credential(self, credential: Credential) -> None:
        with self._lock:
            scope = credential.identity.key
            if scope not in self._identities:
                raise RemoteError("ParentResourceNotFound: the identity does not exist")
            others = [found for found in self.credentials(credential.identity) if found.name != credential.name]
            if any((o.issuer, o.subject) == (credential.issuer, credential.subject) for o in others):
                raise RemoteError("Conflict: issuer and subject must be unique for an identity")
            if len(others) >= CREDENTIALS_PER_IDENTITY:
                raise RemoteError("QuotaExceeded: an identity takes 20 federated credentials")
            self._credentials[scope, credential.name.lower()] = credential

    def delete_credential(self, identity: Scope, name: str) -> None:
        with self._lock:
            self._credentials.pop((identity.key, name.lower()), None)

    def assignments(self) -> Sequence[RoleAssignment]:
        with self._lock:
            return tuple(self._assignments.values())

    def put_assignment(self, assignment: RoleAssignment) -> None:
        with self._lock:
            if not any(i.principal_id == assignment.principal_id for i in self._identities.values()):
                raise RemoteError("PrincipalNotFound: the principal does not exist in the directory")
            for found in self._assignments.values():
                if found.id.lower() != assignment.id.lower() and _triple(found) == _triple(assignment):
                    return
            present = self._assignments.get(assignment.id.lower())
            if present is not None and _triple(present) != _triple(assignment):
                raise RemoteError("RoleAssignmentUpdateNotPermitted: only condition and description may change")
            self._assignments[assignment.id.lower()] = assignment

    def delete_assignment(self, assignment: str) -> None:
        with self._lock:
            self._assignments.pop(assignment.lower(), None)

    def custom_roles(self) -> Sequence[RoleDefinition]:
        with self._lock:
            return tuple(self._roles)

    def secrets(self, vault: Vault) -> Sequence[SecretState]:
        with self._lock:
            if vault.name.lower() in self._sealed:
                raise RemoteError("Forbidden: the caller may not list secrets")
            return tuple(found for (name, _), found in self._secrets.items() if name == vault.name.lower())

    # --- what others do to the subscription ---------------------------------------------------------------------
    def set_secret(self, state: SecretState) -> None:
        """Put a secret's attributes there, as ``SecretClient.set_secret`` would."""
        with self._lock:
            self._secrets[state.vault.lower(), state.name.lower()] = state

    def replace_vault(self, vault: Vault) -> None:
        """Put a vault there as it is given, in any resource group."""
        with self._lock:
            self._vaults[vault.name.lower()] = vault

    def add_role(self, role: RoleDefinition) -> None:
        """Add a custom role."""
        with self._lock:
            self._roles.append(role)

    def refuse_lists(self, vault: str) -> None:
        """Make the vault refuse to list its secrets to the caller."""
        with self._lock:
            self._sealed.add(vault.lower())


def _triple(assignment: RoleAssignment) -> tuple[str, str, str]:
    return assignment.scope.key, assignment.principal_id.lower(), assignment.role_definition_id.lower()
