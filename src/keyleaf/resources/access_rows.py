"""Reads roles, assignments and management groups out of the database, in the form that the decision takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, or_, select

from keyleaf.access import BUILT_IN_ROLES, Ancestry, Permission, RoleAssignment, RoleDefinition, holds_at
from keyleaf.core.scope import Scope
from keyleaf.store import schema

_MANAGEMENT_GROUP = "/providers/Microsoft.Management/managementGroups/"


class PermissionBody(msgspec.Struct, rename="camel", kw_only=True):
    """One entry of ``properties.permissions`` of a role definition, as ARM writes it."""

    actions: list[str] | None = None
    not_actions: list[str] | None = None
    data_actions: list[str] | None = None
    not_data_actions: list[str] | None = None
    condition: str | None = None
    condition_version: str | None = None


def load_assignments(conn: Connection, principal_id: str) -> tuple[RoleAssignment, ...]:
    """The role assignments of one principal, narrowest scope first."""
    table = schema.role_assignment
    rows = conn.execute(select(table).where(table.c.principal_id == principal_id.lower()))
    return _sorted(assignment_of(row) for row in rows)


def load_roles(conn: Connection) -> Mapping[str, RoleDefinition]:
    """Every role definition, built-in and custom, by GUID in lower case."""
    roles = dict(BUILT_IN_ROLES)
    for row in conn.execute(select(schema.role_definition)):
        roles[row.id] = role_of(row)
    return roles


def management_groups(conn: Connection) -> Ancestry:
    """The management groups above each subscription (key: its id) and each management group (key: its scope)."""
    parents = {
        row.name.lower(): row.parent.lower() if row.parent else None
        for row in conn.execute(select(schema.management_group))
    }
    found: dict[str, tuple[str, ...]] = {
        management_group_scope(name).key: _chain(parent, parents) for name, parent in parents.items()
    }
    for row in conn.execute(select(schema.subscription.c.id, schema.subscription.c.management_group)):
        found[row.id.lower()] = _chain(row.management_group.lower() if row.management_group else None, parents)
    return found


def assignments_at(conn: Connection, scope: Scope) -> tuple[RoleAssignment, ...]:
    """Every role assignment, of any principal, that holds at ``scope``: made there or above; narrowest first."""
    ancestry = management_groups(conn)
    table = schema.role_assignment
    rows = conn.execute(select(table).where(table.c.scope_key.in_(scopes_above(scope, ancestry))))
    return _sorted(assignment_of(row) for row in rows)


def assignments_around(conn: Connection, scope: Scope, *, below: bool) -> list[Any]:
    """Rows of the assignments at and above ``scope``, and with ``below`` also of those below it."""
    ancestry = management_groups(conn)
    table = schema.role_assignment
    where = [table.c.scope_key.in_(scopes_above(scope, ancestry))]
    if below:
        where.append(_is_below(scope))
        if scope.management_group is not None:
            lower = [key for key, above in ancestry.items() if scope.management_group in above]
            for key in lower:
                where.append(_is_below(Scope(key if key.startswith("/") else f"/subscriptions/{key}"), itself=True))
    return list(conn.execute(select(table).where(or_(*where)).order_by(table.c.key)))


def scopes_above(scope: Scope, ancestry: Ancestry) -> list[str]:
    """Keys of the scopes whose assignments hold at ``scope``: itself, what its path passes through, and above."""
    parts = scope.key.split("/")
    keys = {"/", scope.key} | {"/".join(parts[:end]) for end in range(3, len(parts))}
    key = scope.subscription or scope.key
    keys |= {management_group_scope(name).key for name in ancestry.get(key, ())}
    return sorted(keys)


def management_group_scope(name: str) -> Scope:
    """The scope of a management group."""
    return Scope(f"{_MANAGEMENT_GROUP}{name}")


def assignment_of(row: Any) -> RoleAssignment:
    """A row as the decision takes it."""
    scope = Scope(row.scope)
    return RoleAssignment(
        id=assignment_id(row),
        scope=scope,
        principal_id=row.principal_id,
        role_definition_id=row.role_definition_id,
        condition=row.condition or "",
        description=row.description or "",
    )


def assignment_id(row: Any) -> str:
    """Full ARM id of an assignment."""
    prefix = "" if row.scope == "/" else row.scope
    return f"{prefix}/providers/Microsoft.Authorization/roleAssignments/{row.id}"


def role_of(row: Any) -> RoleDefinition:
    """A custom role's row as the decision takes it."""
    entries = msgspec.json.decode(row.permissions, type=list[PermissionBody])
    scopes = msgspec.json.decode(row.assignable_scopes, type=list[str])
    permissions = tuple(permission_of(entry) for entry in entries)
    return RoleDefinition(row.id, row.name, row.description, permissions, tuple(scopes), built_in=False)


def permission_of(entry: PermissionBody) -> Permission:
    """An entry of ARM's form as the decision takes it."""
    return Permission(
        tuple(entry.actions or ()),
        tuple(entry.not_actions or ()),
        tuple(entry.data_actions or ()),
        tuple(entry.not_data_actions or ()),
    )


def assignable_at(role: RoleDefinition, scope: Scope, ancestry: Ancestry) -> bool:
    """Whether a role may be assigned at ``scope``."""
    return any(holds_at(Scope(text), scope, ancestry) for text in role.assignable_scopes)


def _chain(name: str | None, parents: Mapping[str, str | None]) -> tuple[str, ...]:
    chain: list[str] = []
    while name is not None and name not in chain:
        chain.append(name)
        name = parents.get(name)
    return tuple(chain)


def _sorted(found: Iterable[RoleAssignment]) -> tuple[RoleAssignment, ...]:
    return tuple(sorted(found, key=lambda a: (-len(a.scope.key), a.id)))


def _is_below(scope: Scope, *, itself: bool = False) -> Any:
    key = schema.role_assignment.c.scope_key
    prefix = scope.key if scope.key.endswith("/") else scope.key + "/"
    below = key.startswith(prefix, autoescape=True)
    return or_(key == scope.key, below) if itself else below
