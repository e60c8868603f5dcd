"""Who can really read what, by all role assignments that exist, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator

from keyleaf.access import (
    BUILT_IN_ROLES,
    SECRET_NAME,
    VAULT_NAME,
    Decision,
    RoleAssignment,
    RoleDefinition,
    decide,
)
from keyleaf.core.operation import Demand
from keyleaf.core.scope import Scope
from keyleaf.plan.model import Actual

GET_SECRET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"  # noqa: S105 - the name of an action


class EffectiveAccess:
    """Decisions over the role assignments of ``actual``."""

    def __init__(self, actual: Actual) -> None:
        self._roles: dict[str, RoleDefinition] = {**BUILT_IN_ROLES, **{role.id: role for role in actual.roles}}
        self._by_principal: dict[str, list[RoleAssignment]] = {}
        for found in actual.assignments:
            self._by_principal.setdefault(found.principal_id.lower(), []).append(found)
        # Azure lists for a subscription only what holds in it: a management group that shows up stands above it.
        groups = tuple(
            dict.fromkeys(a.scope.management_group for a in actual.assignments if a.scope.management_group is not None)
        )
        subscriptions = {vault.scope.subscription for vault in actual.vaults}
        self._ancestry = {subscription: groups for subscription in subscriptions if subscription}

    def decide(self, principal_id: str, secret: Scope, vault_name: str, secret_name: str) -> Decision:
        """Whether the principal may get the secret at scope ``secret``, with the reason; group membership aside."""
        demand = Demand(GET_SECRET, secret, True, {VAULT_NAME: vault_name, SECRET_NAME: secret_name})
        own = self._by_principal.get(principal_id.lower(), [])
        return decide(demand, principal_id, own, self._roles, self._ancestry)

    def may_read(self, principal_id: str, secret: Scope, vault_name: str, secret_name: str) -> bool:
        """Whether the principal may get the secret."""
        return self.decide(principal_id, secret, vault_name, secret_name).allowed

    def reads_secrets(self, assignment: RoleAssignment) -> bool:
        """Whether the role of ``assignment`` gives the values of secrets at all."""
        role = self._roles.get(assignment.role_definition_id)
        return role is not None and role.covers(GET_SECRET, data=True)

    def role_name(self, assignment: RoleAssignment) -> str:
        """Name of the role, or its id where it is not known."""
        role = self._roles.get(assignment.role_definition_id)
        return role.name if role else assignment.role_definition_id

    def readers(self, secret: Scope, vault_name: str, secret_name: str) -> Iterator[tuple[str, Decision]]:
        """Every principal that may get the secret, with the decision."""
        for principal_id in self._by_principal:
            decision = self.decide(principal_id, secret, vault_name, secret_name)
            if decision.allowed:
                yield principal_id, decision
