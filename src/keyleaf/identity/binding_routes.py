"""Binding a process to a managed identity: an operation that only the embedded Azure has.

It demands the right that assigning an identity to a machine demands in Azure:
https://learn.microsoft.com/azure/role-based-access-control/permissions/identity
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Demand, Operation, Reply
from keyleaf.core.scope import identity_scope
from keyleaf.identity.bindings import bind_process, unbind_process
from keyleaf.identity.principals import PrincipalRow, find_by_resource
from keyleaf.identity.service import IdentityService

if TYPE_CHECKING:
    from sqlalchemy import Connection

PATTERN = (
    "/subscriptions/{subscription}/resourceGroups/{group}"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}/bindProcess"
)
ACTION = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"


class _Binding(msgspec.Struct):
    label: str = ""


def binding_operations(service: IdentityService) -> list[Operation]:
    """``POST`` binds a process and returns ``{endpoint, header}`` once; ``DELETE`` unbinds by label, or all."""

    def bind(conn: Connection, call: Call) -> Reply:
        row = _identity(conn, call)
        label = _checked(_label(call))
        header = bind_process(conn, row.object_id, label, randomness=service.randomness, now=call.now)
        body = {"endpoint": f"{call.base}/msi/token", "header": header.reveal()}
        return Reply(201, body, {"Cache-Control": "no-store"}, resource=row.resource_id)

    def unbind(conn: Connection, call: Call) -> Reply:
        row = _identity(conn, call)
        gone = unbind_process(conn, row.object_id, _checked(_label(call) or call.query.get("label", "")))
        return Reply(200 if gone else 204, resource=row.resource_id)

    return [
        Operation("ManagedIdentityBindProcess", "POST", PATTERN, "arm", bind, demand=_demand, mutates=True),
        Operation("ManagedIdentityUnbindProcess", "DELETE", PATTERN, "arm", unbind, demand=_demand, mutates=True),
    ]


def _demand(_: Connection, call: Call) -> Demand:
    scope = identity_scope(call.path["subscription"], call.path["group"], call.path["name"])
    return Demand(ACTION, scope, data=False)


def _identity(conn: Connection, call: Call) -> PrincipalRow:
    scope = identity_scope(call.path["subscription"], call.path["group"], call.path["name"])
    row = find_by_resource(conn, scope.path)
    if row is None:
        raise ServiceError(404, "ResourceNotFound", f"The Resource {scope.path!r} was not found.")
    return row


def _label(call: Call) -> str:
    if not call.body:
        return ""
    try:
        return msgspec.json.decode(call.body, type=_Binding).label
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ServiceError(
            400, "InvalidRequestContent", "The body must be a JSON object with a text 'label'."
        ) from None


def _checked(label: str) -> str:
    if len(label) > 256 or not label.isprintable():
        raise ServiceError(400, "InvalidRequestContent", "'label' has at most 256 printable characters.")
    return label
