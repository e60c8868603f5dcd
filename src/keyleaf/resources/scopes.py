"""The scopes at which ARM speaks of access, as path patterns, and whether a scope exists."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, select

from keyleaf.access import decide
from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Demand
from keyleaf.core.scope import Scope
from keyleaf.resources.access_rows import load_assignments, load_roles, management_groups
from keyleaf.resources.arm import caller, path_scope, require_group, require_subscription, resource_not_found
from keyleaf.store import schema

_GROUP: Final = "/subscriptions/{subscription}/resourceGroups/{group}"
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_RESOURCE: Final = f"{_GROUP}/providers/{{namespace}}/{{type}}/{{name}}"

SCOPE_PATTERNS: Final = (
    "",
    "/providers/Microsoft.Management/managementGroups/{managementGroup}",
    "/subscriptions/{subscription}",
    _GROUP,
    _RESOURCE,
    f"{_RESOURCE}/{{childType}}/{{child}}",
    f"{_RESOURCE}/{{childType}}/{{child}}/{{grandchildType}}/{{grandchild}}",
)


def scope_template(path: Mapping[str, str]) -> str:
    """The pattern of SCOPE_PATTERNS that was called, told by the placeholders that it filled."""
    return next(p for p in reversed(SCOPE_PATTERNS) if all(name in path for name in _PLACEHOLDER.findall(p)))


def call_scope(call: Call) -> Scope:
    """The scope that a call under one of SCOPE_PATTERNS names."""
    return path_scope(call, scope_template(call.path))


def demand_at_scope(action: str) -> Callable[[Connection, Call], Demand]:
    """A demand for ``action`` at the scope that the call names."""

    def demand(conn: Connection, call: Call) -> Demand:
        return Demand(action, call_scope(call), data=False)

    return demand


def require_scope(conn: Connection, scope: Scope) -> None:
    """404 unless the management group, subscription, resource group, vault or identity of ``scope`` exists.

    What lies below a vault (a secret) need not exist: ARM does not look into vaults.
    """
    if scope.management_group is not None:
        names = {name.lower() for name in conn.execute(select(schema.management_group.c.name)).scalars()}
        if scope.management_group not in names:
            name = scope.path.rsplit("/", 1)[-1]
            raise ServiceError(404, "NotFound", f"The management group '{name}' could not be found.")
    parts = scope.path.split("/")
    if scope.subscription is None:
        return
    require_subscription(conn, parts[2])
    if len(parts) > 4:
        if parts[3].lower() != "resourcegroups":
            raise ServiceError(400, "InvalidResourceType", "Only resources in a resource group are known here.")
        require_group(conn, parts[2], parts[4])
    if len(parts) > 8:
        key = "/".join(parts[:9]).lower()
        kind = f"{parts[6]}/{parts[7]}"
        table = {
            "microsoft.keyvault/vaults": schema.vault,
            "microsoft.managedidentity/userassignedidentities": schema.principal,
        }.get(kind.lower())
        if table is None:
            raise resource_not_found(kind, parts[8], parts[4])
        query = select(table.c.resource_key).where(table.c.resource_key == key, table.c.deleted.is_(None))
        if conn.execute(query).first() is None:
            raise resource_not_found(kind, parts[8], parts[4])


def require_linked(conn: Connection, call: Call, action: str, scopes: list[Scope]) -> None:
    """403 ``LinkedAuthorizationFailed`` unless the caller may also do ``action`` at each of ``scopes``.

    For what one call changes elsewhere than at the scope that its path names.
    """
    if not scopes:
        return
    principal = caller(call)
    own, roles, ancestry = load_assignments(conn, principal.object_id), load_roles(conn), management_groups(conn)
    for scope in scopes:
        decision = decide(Demand(action, scope, data=False), principal.object_id, own, roles, ancestry)
        if not decision.allowed:
            raise ServiceError(
                403,
                "LinkedAuthorizationFailed",
                f"The client '{principal.client_id}' with object id '{principal.object_id}' does not have permission "
                f"to perform action '{action}' on the linked scope '{scope}' or the linked scope is invalid.",
            )
