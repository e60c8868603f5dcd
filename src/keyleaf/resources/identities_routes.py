"""User-assigned managed identities and their federated credentials.

Rule: https://learn.microsoft.com/rest/api/managedidentity/user-assigned-identities (api-version 2024-11-30)
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from keyleaf.core.clock import Randomness
from keyleaf.core.errors import ServiceError
from keyleaf.core.names import IDENTITY_NAME
from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.core.scope import Scope, identity_scope
from keyleaf.identity import (
    FederatedCredential,
    PrincipalRow,
    create_managed_identity,
    delete_federated_credential,
    delete_managed_identity,
    find_by_resource,
    get_federated_credential,
    list_federated_credentials,
    list_managed_identities,
    put_federated_credential,
    update_tags,
)
from keyleaf.resources.arm import (
    ArmBody,
    check_location,
    check_tags,
    operation,
    path_scope,
    read_body,
    require_group,
    require_subscription,
    resource_not_found,
)
from keyleaf.resources.groups_routes import remove_assignments

_TYPE: Final = "Microsoft.ManagedIdentity/userAssignedIdentities"
_SUBSCRIPTION: Final = "/subscriptions/{subscription}"
_GROUP: Final = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_EVERY: Final = f"{_GROUP}/providers/{_TYPE}"
_ONE: Final = f"{_EVERY}/{{name}}"
_CREDENTIALS: Final = f"{_ONE}/federatedIdentityCredentials"
_CREDENTIAL: Final = f"{_CREDENTIALS}/{{credential}}"
_CREDENTIAL_TYPE: Final = f"{_TYPE}/federatedIdentityCredentials"


class _IdentityBody(ArmBody):
    location: str = ""
    tags: dict[str, str] | None = None


class _CredentialProperties(ArmBody):
    issuer: str
    subject: str
    audiences: list[str]


class _CredentialBody(ArmBody):
    properties: _CredentialProperties


def operations(randomness: Randomness) -> list[Operation]:
    """Identities and federated credentials."""

    def _put(conn: Connection, call: Call) -> Reply:
        group = require_group(conn, call.path["subscription"], call.path["group"])
        name = call.path["name"]
        if not IDENTITY_NAME.match(name):
            raise ServiceError(
                400,
                "InvalidResourceName",
                f"'{name}' is not a valid identity name: 3 to 128 letters, digits, hyphens and underscores, starting "
                "with a letter or digit.",
            )
        body = read_body(call, _IdentityBody)
        scope = identity_scope(group.subscription, group.name, name)
        found = find_by_resource(conn, scope.path)
        location, tags = check_location(body.location), check_tags(body.tags)
        if found is None:
            made = create_managed_identity(
                conn,
                tenant_id=require_subscription(conn, group.subscription).tenant_id,
                resource_id=scope.path,
                location=location,
                tags=tags,
                randomness=randomness,
                now=call.now,
            )
            return Reply(201, _render(made), resource=scope.path)
        if found.location != location:
            raise ServiceError(
                409,
                "InvalidResourceLocation",
                f"The resource '{name}' already exists in location '{found.location}' in resource group "
                f"'{group.name}'. A resource with the same name cannot be created in location '{location}'. Please "
                "select a new resource name.",
            )
        update_tags(conn, found.object_id, tags)
        return Reply(200, _render(_required(conn, call)), resource=found.resource_id)

    def _put_credential(conn: Connection, call: Call) -> Reply:
        identity = _required(conn, call)
        body = read_body(call, _CredentialBody).properties
        credential, made = put_federated_credential(
            conn,
            identity.object_id,
            call.path["credential"],
            body.issuer,
            body.subject,
            body.audiences,
            randomness,
        )
        rendered = _render_credential(identity, credential)
        return Reply(201 if made else 200, rendered, resource=str(rendered["id"]))

    read, write, delete = f"{_TYPE}/read", f"{_TYPE}/write", f"{_TYPE}/delete"
    in_subscription = f"{_SUBSCRIPTION}/providers/{_TYPE}"
    return [
        operation("IdentityListBySubscription", "GET", in_subscription, _list, read, at=_SUBSCRIPTION),
        operation("IdentityListByGroup", "GET", _EVERY, _list, read, at=_GROUP),
        operation("IdentityGet", "GET", _ONE, _get, read),
        operation("IdentityPut", "PUT", _ONE, _put, write, request=_IdentityBody),
        operation("IdentityPatch", "PATCH", _ONE, _patch, write, request=_IdentityBody),
        operation("IdentityDelete", "DELETE", _ONE, _delete, delete),
        operation(
            "FederatedCredentialList", "GET", _CREDENTIALS, _list_credentials, f"{_CREDENTIAL_TYPE}/read", at=_ONE
        ),
        operation("FederatedCredentialGet", "GET", _CREDENTIAL, _get_credential, f"{_CREDENTIAL_TYPE}/read"),
        operation(
            "FederatedCredentialPut",
            "PUT",
            _CREDENTIAL,
            _put_credential,
            f"{_CREDENTIAL_TYPE}/write",
            request=_CredentialBody,
        ),
        operation("FederatedCredentialDelete", "DELETE", _CREDENTIAL, _delete_credential, f"{_CREDENTIAL_TYPE}/delete"),
    ]


def delete_identity(conn: Connection, identity: PrincipalRow, now: float) -> None:
    """Delete an identity. What it was granted stays behind with its principal id, as in Azure."""
    delete_managed_identity(conn, identity.object_id, now)
    remove_assignments(conn, Scope(identity.resource_id))


def _list(conn: Connection, call: Call) -> Reply:
    if "group" in call.path:
        require_group(conn, call.path["subscription"], call.path["group"])
    else:
        require_subscription(conn, call.path["subscription"])
    scope = path_scope(call, _GROUP if "group" in call.path else _SUBSCRIPTION)
    return Reply(body={"value": [_render(r) for r in list_managed_identities(conn, scope.path)]}, resource=scope.path)


def _get(conn: Connection, call: Call) -> Reply:
    identity = _required(conn, call)
    return Reply(body=_render(identity), resource=identity.resource_id)


def _patch(conn: Connection, call: Call) -> Reply:
    identity = _required(conn, call)
    body = read_body(call, _IdentityBody)
    if body.tags is not None:
        update_tags(conn, identity.object_id, check_tags(body.tags))
    return Reply(body=_render(_required(conn, call)), resource=identity.resource_id)


def _delete(conn: Connection, call: Call) -> Reply:
    scope = path_scope(call, _ONE)
    identity = find_by_resource(conn, scope.path)
    if identity is None:
        return Reply(204, resource=scope.path)
    delete_identity(conn, identity, call.now)
    return Reply(200, resource=identity.resource_id)


def _list_credentials(conn: Connection, call: Call) -> Reply:
    identity = _required(conn, call)
    found = list_federated_credentials(conn, identity.object_id)
    return Reply(body={"value": [_render_credential(identity, c) for c in found]}, resource=identity.resource_id)


def _get_credential(conn: Connection, call: Call) -> Reply:
    identity = _required(conn, call)
    credential = get_federated_credential(conn, identity.object_id, call.path["credential"])
    if credential is None:
        raise resource_not_found(_CREDENTIAL_TYPE, f"{identity.name}/{call.path['credential']}", call.path["group"])
    rendered = _render_credential(identity, credential)
    return Reply(body=rendered, resource=str(rendered["id"]))


def _delete_credential(conn: Connection, call: Call) -> Reply:
    identity = _required(conn, call)
    gone = delete_federated_credential(conn, identity.object_id, call.path["credential"])
    return Reply(200 if gone else 204, resource=path_scope(call, _CREDENTIAL).path)


def _required(conn: Connection, call: Call) -> PrincipalRow:
    require_group(conn, call.path["subscription"], call.path["group"])
    identity = find_by_resource(conn, path_scope(call, _ONE).path)
    if identity is None:
        raise resource_not_found(_TYPE, call.path["name"], call.path["group"])
    return identity


def _render(identity: PrincipalRow) -> dict[str, object]:
    return {
        "id": identity.resource_id,
        "name": identity.name,
        "type": _TYPE,
        "location": identity.location,
        "tags": dict(identity.tags),
        "properties": {
            "tenantId": identity.tenant_id,
            "principalId": identity.object_id,
            "clientId": identity.client_id,
            "isolationScope": "None",
        },
    }


def _render_credential(identity: PrincipalRow, credential: FederatedCredential) -> dict[str, object]:
    return {
        "id": f"{identity.resource_id}/federatedIdentityCredentials/{credential.name}",
        "name": credential.name,
        "type": _CREDENTIAL_TYPE,
        "properties": {
            "issuer": credential.issuer,
            "subject": credential.subject,
            "audiences": list(credential.audiences),
        },
    }
