"""Role definitions: the built-in ones, and custom ones named by purpose.

Rule: https://learn.microsoft.com/rest/api/authorization/role-definitions and
https://learn.microsoft.com/azure/role-based-access-control/custom-roles
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from keyleaf.access import BUILT_IN_ROLES, CONDITION_VERSION, Permission, RoleDefinition, holds_at
from keyleaf.core.errors import InputError, ServiceError
from keyleaf.core.names import is_guid
from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.core.scope import Scope
from keyleaf.resources.access_rows import (
    PermissionBody,
    assignable_at,
    load_roles,
    management_groups,
    permission_of,
    role_of,
)
from keyleaf.resources.arm import ArmBody, moment, operation, read_body, write_json
from keyleaf.resources.filters import read_filter
from keyleaf.resources.scopes import SCOPE_PATTERNS, call_scope, demand_at_scope, require_linked, require_scope
from keyleaf.store import schema

_ACTION: Final = re.compile(r"(?:\*|[A-Za-z0-9_.*-]+(?:/[A-Za-z0-9_.*-]+)+)\Z")
_BUILT_IN_SINCE: Final = (1_586_000_000, 1_636_000_000)  # Azure reports 2020 and 2021 for most of them
_READ: Final = "Microsoft.Authorization/roleDefinitions/read"
_WRITE: Final = "Microsoft.Authorization/roleDefinitions/write"
_DELETE: Final = "Microsoft.Authorization/roleDefinitions/delete"


class _Properties(ArmBody):
    role_name: str | None = None
    description: str | None = None
    type: str | None = None
    permissions: list[PermissionBody] | None = None
    assignable_scopes: list[str] | None = None


class _RoleDefinitionBody(ArmBody):
    properties: _Properties


def operations() -> list[Operation]:
    """Role definitions at every kind of scope."""
    found: list[Operation] = []
    for scope in SCOPE_PATTERNS:
        every = f"{scope}/providers/Microsoft.Authorization/roleDefinitions"
        one = every + "/{roleDefinition}"
        for name, method, pattern, handler, action in (
            ("RoleDefinitionList", "GET", every, _list, _READ),
            ("RoleDefinitionGet", "GET", one, _get, _READ),
            ("RoleDefinitionPut", "PUT", one, _put, _WRITE),
            ("RoleDefinitionDelete", "DELETE", one, _delete, _DELETE),
        ):
            request = _RoleDefinitionBody if handler is _put else None
            demand = demand_at_scope(action)
            found.append(operation(name, method, pattern, handler, action, demand=demand, request=request))
    return found


def definition_id(scope: Scope, guid: str) -> str:
    """ARM id of a role definition as seen from ``scope``."""
    prefix = f"/subscriptions/{scope.path.split('/')[2]}" if scope.subscription else ""
    return f"{prefix}/providers/Microsoft.Authorization/roleDefinitions/{guid}"


def _list(conn: Connection, call: Call) -> Reply:
    scope = call_scope(call)
    wanted = read_filter(
        call.query.get("$filter", ""), fields=("roleName", "type"), functions=("atScope", "atScopeAndBelow")
    )
    ancestry = management_groups(conn)
    times = _times(conn)
    value = []
    for role in load_roles(conn).values():
        name, kind = wanted.equals.get("rolename", role.name), wanted.equals.get("type", _kind(role))
        if name.lower() != role.name.lower() or kind.lower() != _kind(role).lower():
            continue
        below = "atscopeandbelow" in wanted.functions and any(
            holds_at(scope, Scope(text), ancestry) for text in role.assignable_scopes
        )
        if below or assignable_at(role, scope, ancestry):
            value.append(_render(role, scope, times))
    return Reply(body={"value": value}, resource=scope.path)


def _get(conn: Connection, call: Call) -> Reply:
    scope, guid = call_scope(call), _guid(call)
    role = load_roles(conn).get(guid)
    if role is None or not assignable_at(role, scope, management_groups(conn)):
        raise ServiceError(
            404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{guid}' does not exist."
        )
    return Reply(body=_render(role, scope, _times(conn)), resource=definition_id(scope, guid))


def _put(conn: Connection, call: Call) -> Reply:
    scope, guid = call_scope(call), _guid(call)
    body = read_body(call, _RoleDefinitionBody).properties
    _custom_only(guid)
    role = _checked(conn, guid, body)
    existing = conn.execute(select(schema.role_definition).where(schema.role_definition.c.id == guid)).one_or_none()
    linked = {text.lower(): Scope(text) for text in role.assignable_scopes}
    if existing is not None:
        linked |= {text.lower(): Scope(text) for text in role_of(existing).assignable_scopes}
    require_linked(conn, call, _WRITE, list(linked.values()))
    now = int(call.now)
    values = {
        "name": role.name,
        "description": role.description,
        "permissions": write_json([_entry(permission) for permission in role.permissions]),
        "assignable_scopes": write_json(list(role.assignable_scopes)),
        "updated": now,
    }
    if existing is None:
        conn.execute(insert(schema.role_definition).values(id=guid, created=now, **values))
    else:
        conn.execute(update(schema.role_definition).where(schema.role_definition.c.id == guid).values(**values))
    return Reply(201, _render(role, scope, _times(conn)), resource=definition_id(scope, guid))


def _delete(conn: Connection, call: Call) -> Reply:
    scope, guid = call_scope(call), _guid(call)
    _custom_only(guid)
    table = schema.role_definition
    row = conn.execute(select(table).where(table.c.id == guid)).one_or_none()
    if row is None:
        return Reply(204, resource=definition_id(scope, guid))
    role, times = role_of(row), _times(conn)
    require_linked(conn, call, _DELETE, [Scope(text) for text in role.assignable_scopes])
    assignments = schema.role_assignment
    query = select(func.count()).select_from(assignments).where(assignments.c.role_definition_id == guid)
    if conn.execute(query).scalar_one():
        raise ServiceError(
            400,
            "RoleDefinitionHasAssignments",
            f"There are existing role assignments referencing the role '{role.name}'. Remove them first.",
        )
    conn.execute(delete(table).where(table.c.id == guid))
    return Reply(200, _render(role, scope, times), resource=definition_id(scope, guid))


def _guid(call: Call) -> str:
    text = call.path["roleDefinition"]
    if not is_guid(text):
        raise ServiceError(
            400, "InvalidRoleDefinitionId", f"The role definition ID '{text}' is not valid. It must be a GUID."
        )
    return text.lower()


def _custom_only(guid: str) -> None:
    if guid in BUILT_IN_ROLES:
        raise ServiceError(
            400, "CannotModifyBuiltInRole", f"The role '{BUILT_IN_ROLES[guid].name}' is built in and cannot be changed."
        )


def _checked(conn: Connection, guid: str, body: _Properties) -> RoleDefinition:
    name, purpose = (body.role_name or "").strip(), (body.description or "").strip()
    if not name or len(name) > 512:
        raise _invalid("roleName has 1 to 512 characters")
    if not purpose or len(purpose) > 2048:
        raise _invalid("description has to say the role's purpose, in 1 to 2048 characters")
    if body.type is not None and body.type.lower() != "customrole":
        raise _invalid("type has to be CustomRole")
    if any(entry.condition for entry in body.permissions or ()):
        raise _invalid("a custom role has no condition of its own; put it on the role assignment")
    permissions = tuple(permission_of(entry) for entry in body.permissions or ())
    patterns = [p for e in permissions for p in (*e.actions, *e.not_actions, *e.data_actions, *e.not_data_actions)]
    if not any(entry.actions or entry.data_actions for entry in permissions):
        raise _invalid("permissions name no action and no data action")
    for pattern in patterns:
        if len(pattern) > 512 or not _ACTION.match(pattern):
            raise _invalid(f"{pattern[:80]!r} is not an action such as Microsoft.KeyVault/vaults/read")
    scopes = _assignable(conn, body.assignable_scopes or [])
    for other in load_roles(conn).values():
        if other.name.lower() == name.lower() and other.id != guid:
            raise ServiceError(
                409,
                "RoleDefinitionWithSameNameExists",
                f"A role named '{name}' already exists in this directory. Use a different name.",
            )
    return RoleDefinition(guid, name, purpose, permissions, scopes, built_in=False)


def _assignable(conn: Connection, texts: list[str]) -> tuple[str, ...]:
    scopes = []
    for text in texts:
        try:
            scopes.append(Scope.parse(text))
        except InputError as error:
            raise _invalid(error.message) from None
    if not scopes or any(scope.path == "/" for scope in scopes):
        raise _invalid("assignableScopes names management groups, subscriptions or what is below them, not '/'")
    for scope in scopes:
        require_scope(conn, scope)
    return tuple(scope.path for scope in scopes)


def _invalid(reason: str) -> ServiceError:
    return ServiceError(400, "InvalidRoleDefinition", f"The role definition is not valid: {reason}.")


def _kind(role: RoleDefinition) -> str:
    return "BuiltInRole" if role.built_in else "CustomRole"


def _times(conn: Connection) -> dict[str, tuple[int, int]]:
    table = schema.role_definition
    return {
        row.id: (row.created, row.updated) for row in conn.execute(select(table.c.id, table.c.created, table.c.updated))
    }


def _entry(permission: Permission) -> dict[str, object]:
    entry: dict[str, object] = {
        "actions": list(permission.actions),
        "notActions": list(permission.not_actions),
        "dataActions": list(permission.data_actions),
        "notDataActions": list(permission.not_data_actions),
    }
    if permission.condition:
        entry |= {"condition": permission.condition, "conditionVersion": CONDITION_VERSION}
    return entry


def _render(role: RoleDefinition, scope: Scope, times: dict[str, tuple[int, int]]) -> dict[str, object]:
    created, updated = times.get(role.id, _BUILT_IN_SINCE)
    return {
        "id": definition_id(scope, role.id),
        "type": "Microsoft.Authorization/roleDefinitions",
        "name": role.id,
        "properties": {
            "roleName": role.name,
            "type": _kind(role),
            "description": role.description,
            "assignableScopes": list(role.assignable_scopes),
            "permissions": [_entry(permission) for permission in role.permissions],
            "createdOn": moment(created),
            "updatedOn": moment(updated),
        },
    }
