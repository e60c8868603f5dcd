"""What keyleaf asks of Azure's management plane and of the vaults' metadata, and nothing more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from keyleaf.access import RoleAssignment, RoleDefinition
from keyleaf.core.scope import Scope
from keyleaf.plan.model import Credential, Identity, SecretState, Vault


class Azure(Protocol):
    """One subscription.

    Every ``put`` and ``delete`` may be repeated: making what exists and removing what is gone are both done at once.
    Every method raises RemoteError where Azure refuses or does not answer. Implementations are safe to call from
    several threads.
    """

    @property
    def subscription(self) -> str:
        """Its id."""
        ...

    def vaults(self) -> Sequence[Vault]:
        """Every vault of the subscription."""
        ...

    def put_vault(self, scope: Scope, location: str, tags: Mapping[str, str]) -> Vault:
        """Create a vault that decides by RBAC."""
        ...

    def identities(self) -> Sequence[Identity]:
        """Every user-assigned managed identity of the subscription."""
        ...

    def put_identity(self, scope: Scope, location: str, tags: Mapping[str, str]) -> Identity:
        """Create a managed identity, or replace its tags."""
        ...

    def delete_identity(self, scope: Scope) -> None:
        """Remove a managed identity and its federated credentials; its role assignments stay behind."""
        ...

    def credentials(self, identity: Scope) -> Sequence[Credential]:
        """The federated credentials of an identity; none where it does not exist."""
        ...

    def put_credential(self, credential: Credential) -> None:
        """Create or replace a federated credential. Azure takes these one at a time for an identity."""
        ...

    def delete_credential(self, identity: Scope, name: str) -> None:
        """Remove a federated credential."""
        ...

    def assignments(self) -> Sequence[RoleAssignment]:
        """Every role assignment in the subscription, below it, and those that it inherits."""
        ...

    def put_assignment(self, assignment: RoleAssignment) -> None:
        """Create a role assignment, or replace its condition and description. ``id`` is the full ARM id."""
        ...

    def delete_assignment(self, assignment: str) -> None:
        """Remove the role assignment with that ARM id."""
        ...

    def custom_roles(self) -> Sequence[RoleDefinition]:
        """The role definitions that are not built in."""
        ...

    def secrets(self, vault: Vault) -> Sequence[SecretState]:
        """The secrets of a vault and those deleted and not purged: attributes of the latest versions, no values."""
        ...
