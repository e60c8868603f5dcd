"""Every operation of the ARM subset, and the listing across kinds of resources."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from keyleaf.core.clock import Randomness
from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.core.scope import Scope, resource_group_scope
from keyleaf.identity import list_managed_identities
from keyleaf.resources import (
    groups_routes,
    identities_routes,
    role_assignments_routes,
    role_definitions_routes,
    vaults_routes,
)
from keyleaf.resources.arm import operation, path_scope, require_subscription
from keyleaf.resources.filters import read_filter
from keyleaf.resources.scopes import require_linked
from keyleaf.resources.vault_bodies import render_resource
from keyleaf.resources.vaults_routes import VaultUri
from keyleaf.store import Keyring
from keyleaf.vault.vaults import list_vaults

_SUBSCRIPTION: Final = "/subscriptions/{subscription}"


def operations(keyring: Keyring, randomness: Randomness, vault_uri: VaultUri) -> list[Operation]:
    """The ARM subset, surface ``arm``.

    Args:
        keyring: makes the keys of new vaults.
        randomness: for the ids of new identities.
        vault_uri: the data plane's URL of a vault, by its name, ending in ``/`` as Azure writes it.
    """
    resources = f"{_SUBSCRIPTION}/resources"
    return [
        *groups_routes.operations(_empty_group),
        *identities_routes.operations(randomness),
        *role_definitions_routes.operations(),
        *role_assignments_routes.operations(),
        *vaults_routes.operations(keyring, vault_uri),
        operation(
            "ResourceList",
            "GET",
            resources,
            _list_resources,
            "Microsoft.Resources/subscriptions/resources/read",
            at=_SUBSCRIPTION,
        ),
    ]


def _empty_group(conn: Connection, call: Call, subscription: str, group: str) -> None:
    """Deletes what is in a group; the right to delete the group alone does not reach that far, as in Azure."""
    scope = resource_group_scope(subscription, group)
    vaults, identities = list_vaults(conn, below=scope.path), list_managed_identities(conn, scope.path)
    require_linked(conn, call, "Microsoft.KeyVault/vaults/delete", [vault.scope for vault in vaults])
    require_linked(
        conn,
        call,
        "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
        [Scope(identity.resource_id) for identity in identities],
    )
    for vault in vaults:
        vaults_routes.delete_vault(conn, vault, call.now)
    for identity in identities:
        identities_routes.delete_identity(conn, identity, call.now)


def _list_resources(conn: Connection, call: Call) -> Reply:
    require_subscription(conn, call.path["subscription"])
    scope = path_scope(call, _SUBSCRIPTION)
    wanted = read_filter(call.query.get("$filter", ""), fields=("resourceType",), functions=())
    value: list[dict[str, object]] = [render_resource(vault) for vault in list_vaults(conn, below=scope.path)]
    for identity in list_managed_identities(conn, scope.path):
        value.append(
            {
                "id": identity.resource_id,
                "name": identity.name,
                "type": "Microsoft.ManagedIdentity/userAssignedIdentities",
                "location": identity.location,
                "tags": dict(identity.tags),
            }
        )
    kind = wanted.equals.get("resourcetype", "").lower()
    if kind:
        value = [resource for resource in value if str(resource["type"]).lower() == kind]
    return Reply(body={"value": value}, resource=scope.path)
