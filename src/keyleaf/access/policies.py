"""Vault access policies: the legacy way to grant, for the whole vault and by verb.

Rule: https://learn.microsoft.com/azure/key-vault/general/assign-access-policy
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from keyleaf.core.operation import Demand

SECRET_PERMISSIONS: Final = ("get", "list", "set", "delete", "recover", "backup", "restore", "purge")

_PERMISSION_OF: Final = {
    f"microsoft.keyvault/vaults/secrets/{action}": permission
    for action, permission in (
        ("getsecret/action", "get"),
        ("readmetadata/action", "list"),
        ("setsecret/action", "set"),
        ("update/action", "set"),
        ("delete", "delete"),
        ("recover/action", "recover"),
        ("backup/action", "backup"),
        ("restore/action", "restore"),
        ("purge/action", "purge"),
    )
}


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """One entry of a vault's ``accessPolicies``.

    Attributes:
        object_id: principal, compared without regard to case.
        secrets: permissions on secrets, in lower case; ``all`` is every one.
        application_id: the entry holds only for calls made through this client; empty for any.
    """

    tenant_id: str
    object_id: str
    secrets: frozenset[str]
    application_id: str = ""


@dataclass(frozen=True, slots=True)
class PolicyDecision:
    """What the vault's access policies say.

    Attributes:
        permission: the verb that was asked for; empty for an action that no access policy can grant.
        held: the verbs that the principal has on the vault.
    """

    allowed: bool
    demand: Demand
    principal_id: str
    permission: str
    held: tuple[str, ...] = ()

    @property
    def assignment_id(self) -> str:
        """Always empty: no role assignment decided."""
        return ""

    @property
    def role(self) -> str:
        """What allowed it, for the record; empty where denied."""
        return f"access policy: secrets {self.permission}" if self.allowed else ""

    def explain(self) -> str:
        """The reason, for a person."""
        if self.allowed:
            return f"allowed: secrets {self.permission}, by the vault's access policies"
        if not self.permission:
            return f"denied: no access policy can grant {self.demand.action}"
        held = f"it holds: {', '.join(self.held)}" if self.held else "the vault has no policy for it"
        return (
            f"denied: {self.demand.action} for principal {self.principal_id}: it lacks secrets {self.permission} in "
            f"the vault's access policies ({held})"
        )


def read_policies(entries: Iterable[Mapping[str, Any]]) -> tuple[AccessPolicy, ...]:
    """A vault's ``accessPolicies``, in ARM's shape, as the decision takes them."""
    return tuple(
        AccessPolicy(
            tenant_id=str(entry["tenantId"]),
            object_id=str(entry["objectId"]),
            secrets=frozenset(verb.lower() for verb in entry.get("permissions", {}).get("secrets", ())),
            application_id=str(entry.get("applicationId", "")),
        )
        for entry in entries
    )


def decide_by_policy(
    demand: Demand, tenant_id: str, object_id: str, client_id: str, policies: Iterable[AccessPolicy]
) -> PolicyDecision:
    """Decide a data plane demand by the vault's access policies; scopes below the vault play no part."""
    permission = _PERMISSION_OF.get(demand.action.lower(), "") if demand.data else ""
    held: set[str] = set()
    for policy in policies:
        if policy.tenant_id.lower() != tenant_id.lower() or policy.object_id.lower() != object_id.lower():
            continue
        if policy.application_id and policy.application_id.lower() != client_id.lower():
            continue
        held |= set(SECRET_PERMISSIONS) if "all" in policy.secrets else policy.secrets
    allowed = bool(permission) and permission in held
    return PolicyDecision(allowed, demand, object_id.lower(), permission, tuple(sorted(held)))
