"""Subscriptions and resource groups.

Rule: https://learn.microsoft.com/rest/api/resources/resource-groups
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, or_, select, update

from keyleaf.access import holds_at
from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.core.scope import Scope, resource_group_scope
from keyleaf.resources.access_rows import load_assignments, management_groups
from keyleaf.resources.arm import (
    ArmBody,
    caller,
    check_group_name,
    check_tags,
    operation,
    read_body,
    read_tags,
    require_group,
    require_subscription,
    write_json,
)
from keyleaf.store import schema

_SUBSCRIPTION: Final = "/subscriptions/{subscription}"
_GROUP: Final = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_READ: Final = "Microsoft.Resources/subscriptions/resourceGroups/read"
_WRITE: Final = "Microsoft.Resources/subscriptions/resourceGroups/write"
_DELETE: Final = "Microsoft.Resources/subscriptions/resourceGroups/delete"

EmptyGroup = Callable[[Connection, Call, str, str], None]
"""Deletes what is in a resource group (connection, call, subscription, group)."""


class _GroupBody(ArmBody):
    location: str = ""
    tags: dict[str, str] | None = None


def operations(empty_group: EmptyGroup) -> list[Operation]:
    """Subscriptions and resource groups; ``empty_group`` deletes a group's resources before it goes."""

    def _delete(conn: Connection, call: Call) -> Reply:
        row = require_group(conn, call.path["subscription"], call.path["group"])
        scope = resource_group_scope(row.subscription, row.name)
        empty_group(conn, call, row.subscription, row.name)
        remove_assignments(conn, scope)
        conn.execute(delete(schema.resource_group).where(schema.resource_group.c.key == row.key))
        return Reply(200, resource=scope.path)

    return [
        Operation("SubscriptionList", "GET", "/subscriptions", "arm", _subscriptions, access="token"),
        operation("SubscriptionGet", "GET", _SUBSCRIPTION, _subscription, "Microsoft.Resources/subscriptions/read"),
        operation("ResourceGroupList", "GET", f"{_SUBSCRIPTION}/resourceGroups", _list, _READ, at=_SUBSCRIPTION),
        operation("ResourceGroupGet", "GET", _GROUP, _get, _READ),
        operation("ResourceGroupPut", "PUT", _GROUP, _put, _WRITE, request=_GroupBody),
        operation("ResourceGroupDelete", "DELETE", _GROUP, _delete, _DELETE),
    ]


def remove_assignments(conn: Connection, scope: Scope) -> None:
    """Remove the role assignments at ``scope`` and below: what happens when a resource goes."""
    table = schema.role_assignment
    below = table.c.scope_key.startswith(scope.key + "/", autoescape=True)
    conn.execute(delete(table).where(or_(table.c.scope_key == scope.key, below)))


def _subscriptions(conn: Connection, call: Call) -> Reply:
    """Those in which the caller holds any role, as ARM lists them."""
    held = [assignment.scope for assignment in load_assignments(conn, caller(call).object_id)]
    ancestry = management_groups(conn)
    value = []
    for row in conn.execute(select(schema.subscription).order_by(schema.subscription.c.id)):
        scope = Scope(f"/subscriptions/{row.id}")
        if any(scope.contains(own) or holds_at(own, scope, ancestry) for own in held):
            value.append(_render_subscription(row))
    return Reply(body={"value": value, "count": {"type": "Total", "value": len(value)}}, resource="/subscriptions")


def _subscription(conn: Connection, call: Call) -> Reply:
    row = require_subscription(conn, call.path["subscription"])
    return Reply(body=_render_subscription(row), resource=f"/subscriptions/{row.id}")


def _render_subscription(row: Any) -> dict[str, object]:
    return {
        "id": f"/subscriptions/{row.id}",
        "subscriptionId": row.id,
        "tenantId": row.tenant_id,
        "displayName": row.name,
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "subscriptionPolicies": {"locationPlacementId": "Internal_2014-09-01", "spendingLimit": "Off"},
    }


def _list(conn: Connection, call: Call) -> Reply:
    row = require_subscription(conn, call.path["subscription"])
    table = schema.resource_group
    rows = conn.execute(select(table).where(table.c.subscription == row.id).order_by(table.c.key))
    return Reply(body={"value": [_render(found) for found in rows]}, resource=f"/subscriptions/{row.id}")


def _get(conn: Connection, call: Call) -> Reply:
    row = require_group(conn, call.path["subscription"], call.path["group"])
    return Reply(body=_render(row), resource=resource_group_scope(row.subscription, row.name).path)


def _put(conn: Connection, call: Call) -> Reply:
    subscription = require_subscription(conn, call.path["subscription"])
    name = check_group_name(call.path["group"])
    body = read_body(call, _GroupBody)
    scope = resource_group_scope(subscription.id, name)
    table = schema.resource_group
    tags = write_json(check_tags(body.tags))
    existing = conn.execute(select(table).where(table.c.key == scope.key)).one_or_none()
    if existing is None:
        values = {"key": scope.key, "subscription": subscription.id, "name": name, "location": body.location or "local"}
        conn.execute(insert(table).values(**values, tags=tags))
    else:
        conn.execute(update(table).where(table.c.key == scope.key).values(tags=tags))
    row = require_group(conn, subscription.id, name)
    return Reply(201 if existing is None else 200, _render(row), resource=scope.path)


def _render(row: Any) -> dict[str, object]:
    return {
        "id": resource_group_scope(row.subscription, row.name).path,
        "name": row.name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": row.location,
        "tags": read_tags(row.tags),
        "properties": {"provisioningState": "Succeeded"},
    }
