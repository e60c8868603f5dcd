"""Role assignments at every scope, single secrets included.

Rule: https://learn.microsoft.com/rest/api/authorization/role-assignments; error texts:
https://learn.microsoft.com/azure/role-based-access-control/troubleshooting
"""

from __future__ import annotations

import re
import uuid
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from keyleaf.access import RoleDefinition, check_condition
from keyleaf.core.errors import InputError, ServiceError
from keyleaf.core.names import is_guid
from keyleaf.core.operation import Call, Demand, Operation, Reply
from keyleaf.core.scope import Scope
from keyleaf.resources.access_rows import (
    assignable_at,
    assignment_id,
    assignments_around,
    load_roles,
    management_groups,
)
from keyleaf.resources.arm import ArmBody, caller, moment, operation, read_body
from keyleaf.resources.filters import read_filter
from keyleaf.resources.role_definitions_routes import definition_id
from keyleaf.resources.scopes import SCOPE_PATTERNS, call_scope, demand_at_scope, require_scope
from keyleaf.store import schema

LIMIT_PER_SUBSCRIPTION: Final = 4000
_READ: Final = "Microsoft.Authorization/roleAssignments/read"
_WRITE: Final = "Microsoft.Authorization/roleAssignments/write"
_DELETE: Final = "Microsoft.Authorization/roleAssignments/delete"
_DEFINITION: Final = re.compile(
    r"(?:/.*)?/providers/Microsoft\.Authorization/roleDefinitions/(?P<guid>[0-9a-f-]{36})\Z", re.IGNORECASE
)
_KINDS: Final = ("ServicePrincipal", "User", "Group", "ForeignGroup", "Device")


class _Properties(ArmBody):
    role_definition_id: str
    principal_id: str
    principal_type: str | None = None
    description: str | None = None
    condition: str | None = None
    condition_version: str | None = None
    delegated_managed_identity_resource_id: str | None = None


class _RoleAssignmentBody(ArmBody):
    properties: _Properties


def operations() -> list[Operation]:
    """Role assignments at every kind of scope."""
    found: list[Operation] = []
    for scope in SCOPE_PATTERNS:
        every = f"{scope}/providers/Microsoft.Authorization/roleAssignments"
        one = every + "/{roleAssignment}"
        found += [
            operation("RoleAssignmentList", "GET", every, _list, _READ, demand=demand_at_scope(_READ)),
            operation("RoleAssignmentGet", "GET", one, _get, _READ, demand=demand_at_scope(_READ)),
            operation("RoleAssignmentPut", "PUT", one, _put, _WRITE, demand=_demand_write, request=_RoleAssignmentBody),
            operation("RoleAssignmentDelete", "DELETE", one, _delete, _DELETE, demand=_demand_delete),
        ]
    return found


def _attributes(source: str, guid: str, principal_id: str, principal_type: str) -> dict[str, str]:
    prefix = f"@{source}[Microsoft.Authorization/roleAssignments:"
    return {
        f"{prefix}RoleDefinitionId]": guid,
        f"{prefix}PrincipalId]": principal_id,
        f"{prefix}PrincipalType]": principal_type,
    }


def _demand_write(conn: Connection, call: Call) -> Demand:
    """Carries what is asked for, so that delegation conditions ("only these roles") can judge it."""
    body = read_body(call, _RoleAssignmentBody).properties
    kind = body.principal_type or "ServicePrincipal"
    attributes = _attributes("Request", _role_guid(body.role_definition_id), body.principal_id.lower(), kind)
    return Demand(_WRITE, call_scope(call), data=False, attributes=attributes)


def _demand_delete(conn: Connection, call: Call) -> Demand:
    row = _row(conn, call)
    attributes = (
        {} if row is None else _attributes("Resource", row.role_definition_id, row.principal_id, row.principal_type)
    )
    return Demand(_DELETE, call_scope(call), data=False, attributes=attributes)


def _list(conn: Connection, call: Call) -> Reply:
    scope = call_scope(call)
    require_scope(conn, scope)
    wanted = read_filter(call.query.get("$filter", ""), fields=("principalId",), functions=("atScope", "assignedTo"))
    rows = assignments_around(conn, scope, below="atscope" not in wanted.functions)
    for principal in (wanted.equals.get("principalid"), wanted.functions.get("assignedto")):
        if principal is not None:
            rows = [row for row in rows if row.principal_id == principal.lower()]
    return Reply(body={"value": [_render(row) for row in rows]}, resource=scope.path)


def _get(conn: Connection, call: Call) -> Reply:
    row = _row(conn, call)
    if row is None:
        raise ServiceError(
            404, "RoleAssignmentNotFound", f"The role assignment '{call.path['roleAssignment']}' is not found."
        )
    return Reply(body=_render(row), resource=assignment_id(row))


def _put(conn: Connection, call: Call) -> Reply:
    scope, name = call_scope(call), call.path["roleAssignment"]
    if not is_guid(name):
        raise ServiceError(
            400,
            "InvalidRoleAssignmentId",
            f"The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID.",
        )
    body = read_body(call, _RoleAssignmentBody).properties
    require_scope(conn, scope)
    role = _role(conn, body, scope)
    kind = _principal_type(conn, call, body)
    _check_condition(body)
    row = _row(conn, call)
    now = int(call.now)
    changing = {
        "description": body.description,
        "condition": body.condition or None,
        "condition_version": body.condition_version if body.condition else None,
        "updated": now,
    }
    table = schema.role_assignment
    if row is not None:
        if row.principal_id != body.principal_id.lower() or row.role_definition_id != role.id:
            raise ServiceError(
                400,
                "RoleAssignmentUpdateNotPermitted",
                "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.",
            )
        conn.execute(update(table).where(table.c.key == row.key).values(**changing))
    else:
        _refuse_twin(conn, scope, body, role)
        _refuse_over_limit(conn, scope)
        values = {
            "key": _key(call),
            "id": name,
            "scope": scope.path,
            "scope_key": scope.key,
            "principal_id": body.principal_id.lower(),
            "principal_type": kind,
            "role_definition_id": role.id,
            "created": now,
            "created_by": caller(call).object_id,
        }
        try:
            with conn.begin_nested():
                conn.execute(insert(table).values(**values, **changing))
        except IntegrityError:
            # Another writer made the same grant between our look and our insert.
            raise _exists("") from None
    made = _row(conn, call)
    return Reply(201 if row is None else 200, _render(made), resource=assignment_id(made))


def _delete(conn: Connection, call: Call) -> Reply:
    row = _row(conn, call)
    if row is None:
        return Reply(204, resource=f"{call_scope(call)}/providers/Microsoft.Authorization/roleAssignments")
    table = schema.role_assignment
    conn.execute(delete(table).where(table.c.key == row.key))
    return Reply(200, _render(row), resource=assignment_id(row))


def _key(call: Call) -> str:
    scope = call_scope(call)
    prefix = "" if scope.path == "/" else scope.path
    return f"{prefix}/providers/Microsoft.Authorization/roleAssignments/{call.path['roleAssignment']}".lower()


def _row(conn: Connection, call: Call) -> Any:
    table = schema.role_assignment
    return conn.execute(select(table).where(table.c.key == _key(call))).one_or_none()


def _role_guid(text: str) -> str:
    match = _DEFINITION.match(text)
    if match is None or not is_guid(match["guid"]):
        raise ServiceError(
            400,
            "InvalidRoleDefinitionId",
            "The role definition ID is not valid: it has the form "
            "/subscriptions/{id}/providers/Microsoft.Authorization/roleDefinitions/{guid}.",
        )
    return match["guid"].lower()


def _role(conn: Connection, body: _Properties, scope: Scope) -> RoleDefinition:
    guid = _role_guid(body.role_definition_id)
    role = load_roles(conn).get(guid)
    if role is None or not assignable_at(role, scope, management_groups(conn)):
        raise ServiceError(
            404, "RoleDefinitionDoesNotExist", f"The specified role definition with ID '{guid}' does not exist."
        )
    return role


def _principal_type(conn: Connection, call: Call, body: _Properties) -> str:
    if not is_guid(body.principal_id):
        raise ServiceError(400, "InvalidPrincipalId", "The principal ID is not valid: it must be a GUID.")
    if body.principal_type is not None and body.principal_type not in _KINDS:
        raise ServiceError(400, "InvalidPrincipalType", f"The principal type is one of {', '.join(_KINDS)}.")
    table = schema.principal
    query = select(table.c.object_id).where(
        func.lower(table.c.object_id) == body.principal_id.lower(), table.c.deleted.is_(None)
    )
    if conn.execute(query).first() is None:
        raise ServiceError(
            400,
            "PrincipalNotFound",
            f"Principal {uuid.UUID(body.principal_id).hex} does not exist in the directory {caller(call).tenant_id}. "
            "Check that you have the correct principal ID. If you are creating this principal and then immediately "
            "assigning a role, this error might be related to a replication delay. In this case, set the role "
            "assignment principalType property to a value, such as ServicePrincipal, User, or Group.  "
            "See https://aka.ms/docs-principaltype",
        )
    if body.principal_type not in (None, "ServicePrincipal"):
        raise ServiceError(
            400,
            "UnmatchedPrincipalType",
            f"The PrincipalId '{uuid.UUID(body.principal_id).hex}' has type 'ServicePrincipal' , which is different "
            f"from specified PrinciaplType '{body.principal_type}'.",
        )
    return "ServicePrincipal"


def _check_condition(body: _Properties) -> None:
    if not body.condition:
        return
    try:
        check_condition(body.condition, body.condition_version)
    except InputError as error:
        hint = f" ({error.hint})" if error.hint else ""
        raise ServiceError(400, "InvalidCondition", f"The condition is not valid: {error.message}{hint}") from None


def _refuse_twin(conn: Connection, scope: Scope, body: _Properties, role: RoleDefinition) -> None:
    table = schema.role_assignment
    twin = conn.execute(
        select(table.c.id).where(
            table.c.scope_key == scope.key,
            table.c.principal_id == body.principal_id.lower(),
            table.c.role_definition_id == role.id,
        )
    ).scalar_one_or_none()
    if twin is not None:
        raise _exists(uuid.UUID(twin).hex)


def _exists(other: str) -> ServiceError:
    which = f" The ID of the conflicting role assignment is {other}." if other else ""
    return ServiceError(409, "RoleAssignmentExists", f"The role assignment already exists.{which}")


def _refuse_over_limit(conn: Connection, scope: Scope) -> None:
    if scope.subscription is None:
        return
    key = schema.role_assignment.c.scope_key
    own = f"/subscriptions/{scope.subscription}"
    query = select(func.count()).where(or_(key == own, key.startswith(own + "/", autoescape=True)))
    if conn.execute(query).scalar_one() >= LIMIT_PER_SUBSCRIPTION:
        raise ServiceError(
            400,
            "RoleAssignmentLimitExceeded",
            f"No more role assignments can be created in this subscription: its limit is {LIMIT_PER_SUBSCRIPTION}.",
        )


def _render(row: Any) -> dict[str, object]:
    return {
        "id": assignment_id(row),
        "type": "Microsoft.Authorization/roleAssignments",
        "name": row.id,
        "properties": {
            "roleDefinitionId": definition_id(Scope(row.scope), row.role_definition_id),
            "principalId": row.principal_id,
            "principalType": row.principal_type,
            "scope": row.scope,
            "condition": row.condition,
            "conditionVersion": row.condition_version,
            "description": row.description,
            "createdOn": moment(row.created),
            "updatedOn": moment(row.updated),
            "createdBy": row.created_by,
            "updatedBy": row.created_by,
            "delegatedManagedIdentityResourceId": None,
        },
    }
