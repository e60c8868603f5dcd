"""What a denied client reads, in Azure's words: tools parse these texts.

Source: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes and
https://learn.microsoft.com/azure/role-based-access-control/troubleshooting
"""

from __future__ import annotations

from keyleaf.core.operation import Demand, Principal
from keyleaf.core.scope import Scope


def caller_text(principal: Principal) -> str:
    """The caller as Key Vault names it: ``appid=…;oid=…;iss=…``."""
    return f"appid={principal.client_id};oid={principal.object_id};iss={principal.issuer}"


def forbidden_by_rbac(principal: Principal, demand: Demand, vault: str, location: str) -> str:
    """Message of the data plane's 403 with inner code ``ForbiddenByRbac``."""
    return (
        "Caller is not authorized to perform action on resource.\r\n"
        "If role assignments, deny assignments or role definitions were changed recently, "
        "please observe propagation time.\r\n"
        f"Caller: {caller_text(principal)}\r\n"
        f"Action: '{demand.action}'\r\n"
        f"Resource: '{demand.scope.key}'\r\n"
        "Assignment: (not found)\r\n"
        "DenyAssignmentId: null\r\n"
        "DecisionReason: null \r\n"
        f"Vault: {vault};location={location}"
    )


def forbidden_by_policy(principal: Principal, permission: str, vault: str, location: str) -> str:
    """Message of the data plane's 403 with inner code ``ForbiddenByPolicy``: vault access policies decide."""
    return (
        f"The user, group or application '{caller_text(principal)}' does not have secrets {permission} permission on "
        f"key vault '{vault};location={location}'. For help resolving this issue, please see "
        "https://go.microsoft.com/fwlink/?linkid=2125287"
    )


def authorization_failed(principal: Principal, action: str, scope: Scope) -> str:
    """Message of ARM's 403 with code ``AuthorizationFailed``."""
    return (
        f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have authorization to "
        f"perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, "
        "please refresh your credentials."
    )
