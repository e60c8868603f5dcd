"""What every part of the ARM subset shares: typed bodies, ids, errors in ARM's words.

Source of the texts: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, select

from keyleaf.core.errors import InputError, ServiceError
from keyleaf.core.names import RESOURCE_GROUP_NAME, is_guid
from keyleaf.core.operation import Call, Demand, Operation, Principal, Reply
from keyleaf.core.scope import Scope
from keyleaf.store import schema

MAXIMUM_BODY: Final = 256 * 1024
_PATH_VALUE: Final = re.compile(r"[^/?#\\%\x00-\x20\x7f]{1,260}\Z")
_LOCATION: Final = re.compile(r"[a-z0-9-]{1,60}\Z")

Body = TypeVar("Body", bound=msgspec.Struct)
Handler = Callable[[Connection, Call], Reply]
Tags = dict[str, str]


class ArmBody(msgspec.Struct, rename="camel", kw_only=True):
    """Base of request bodies: camelCase names, unknown fields passed over as ARM does."""


def read_body(call: Call, kind: type[Body]) -> Body:
    """The request's body as a typed struct; 400 ``InvalidRequestContent`` if it is none."""
    if len(call.body) > MAXIMUM_BODY:
        raise ServiceError(413, "RequestContentTooLarge", f"The request content is larger than {MAXIMUM_BODY} bytes.")
    try:
        return msgspec.json.decode(call.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec's messages name fields and types, never values.
        raise ServiceError(
            400, "InvalidRequestContent", f"The request content was invalid and could not be deserialized: '{error}'."
        ) from None


def caller(call: Call) -> Principal:
    """Who calls; every operation of this surface has one."""
    if call.principal is None:
        raise ServiceError(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
    return call.principal


def path_scope(call: Call, template: str) -> Scope:
    """The scope that a template such as ``/subscriptions/{subscription}`` names with the call's path values."""
    values: dict[str, str] = {}
    for name, value in call.path.items():
        if not _PATH_VALUE.match(value):
            raise ServiceError(400, "InvalidResourceName", "A segment of the path is not a valid name.")
        values[name] = value
    try:
        return Scope.parse(template.format_map(values) or "/")
    except InputError as error:
        raise ServiceError(400, "MissingSubscription", error.message) from None


def demanding(action: str, template: str) -> Callable[[Connection, Call], Demand]:
    """A demand for one control-plane action at the scope that ``template`` names."""

    def demand(conn: Connection, call: Call) -> Demand:
        return Demand(action, path_scope(call, template), data=False)

    return demand


def operation(
    name: str,
    method: str,
    pattern: str,
    handler: Handler,
    action: str,
    *,
    at: str = "",
    demand: Callable[[Connection, Call], Demand] | None = None,
    request: type[msgspec.Struct] | None = None,
) -> Operation:
    """One ARM operation; ``at`` is the template of the scope that is asked for, by default the pattern itself."""
    return Operation(
        name=name,
        method=method,
        pattern=pattern,
        surface="arm",
        handler=handler,
        access="demand",
        demand=demand or demanding(action, at or pattern),
        mutates=method in ("PUT", "PATCH", "DELETE") or (method == "POST" and action.endswith(("write", "action"))),
        request=request,
    )


def moment(seconds: float) -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_tags(text: str) -> Tags:
    """Tags out of their column."""
    return msgspec.json.decode(text, type=Tags)


def write_json(value: object) -> str:
    """Any plain value as the text of a JSON column."""
    return msgspec.json.encode(value).decode()


def check_tags(tags: Mapping[str, str] | None) -> Tags:
    """Tags as ARM limits them: 50 of them, names up to 512 and values up to 256 characters."""
    given = dict(tags or {})
    if len(given) > 50 or any(not name or len(name) > 512 or len(value) > 256 for name, value in given.items()):
        raise ServiceError(
            400, "InvalidTagNameOrValue", "Up to 50 tags, names up to 512 and values up to 256 characters."
        )
    return given


def check_location(text: str) -> str:
    """A location in the form in which they are compared: ``West Europe`` is ``westeurope``."""
    location = text.replace(" ", "").lower()
    if not _LOCATION.match(location):
        raise ServiceError(400, "LocationRequired", "The location property is required: letters, digits and hyphens.")
    return location


def require_group(conn: Connection, subscription: str, group: str) -> Any:
    """The row of a resource group; 404 ``SubscriptionNotFound`` or ``ResourceGroupNotFound``."""
    require_subscription(conn, subscription)
    key = f"/subscriptions/{subscription}/resourcegroups/{group}".lower()
    row = conn.execute(select(schema.resource_group).where(schema.resource_group.c.key == key)).one_or_none()
    if row is None:
        raise ServiceError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    return row


def require_subscription(conn: Connection, subscription: str) -> Any:
    """The row of a subscription; 400 for what is no GUID, 404 ``SubscriptionNotFound``."""
    if not is_guid(subscription):
        raise ServiceError(
            400,
            "InvalidSubscriptionId",
            f"The provided subscription identifier '{subscription}' is malformed or invalid.",
        )
    query = select(schema.subscription).where(schema.subscription.c.id == subscription.lower())
    row = conn.execute(query).one_or_none()
    if row is None:
        raise ServiceError(404, "SubscriptionNotFound", f"The subscription '{subscription}' could not be found.")
    return row


def resource_not_found(kind: str, name: str, group: str) -> ServiceError:
    """404 ``ResourceNotFound``; ``kind`` such as ``Microsoft.KeyVault/vaults``."""
    return ServiceError(
        404,
        "ResourceNotFound",
        f"The Resource '{kind}/{name}' under resource group '{group}' was not found. "
        "For more details please go to https://aka.ms/ARMResourceNotFoundFix",
    )


def check_group_name(name: str) -> str:
    """``name`` if ARM takes it for a resource group."""
    if not RESOURCE_GROUP_NAME.match(name):
        raise ServiceError(
            400,
            "InvalidResourceGroup",
            f"The provided resource group name '{name}' has invalid characters or a bad length: it takes up to 90 "
            "letters, digits, '_', '-', '.', '(' and ')', and does not end in '.'.",
        )
    return name
