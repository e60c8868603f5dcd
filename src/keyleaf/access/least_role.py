"""Which built-in role grants an action and the least besides.

A role is weighed by the known actions that it covers; those that only read metadata weigh less than those that read a
value or change something, so that "Key Vault Reader" is named for metadata and "Key Vault Secrets User" for values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from keyleaf.access.built_in import BUILT_IN_ROLES
from keyleaf.access.roles import RoleDefinition

_METADATA_WEIGHT: Final = 1
_OTHER_WEIGHT: Final = 10

SECRET_ACTIONS: Final = tuple(
    f"Microsoft.KeyVault/vaults/secrets/{name}"
    for name in (
        "getSecret/action",
        "readMetadata/action",
        "setSecret/action",
        "update/action",
        "delete",
        "backup/action",
        "restore/action",
        "recover/action",
        "purge/action",
    )
)
_DATA_ACTIONS: Final = (
    *SECRET_ACTIONS,
    *(
        f"Microsoft.KeyVault/vaults/{name}"
        for name in (
            "keys/read",
            "keys/create/action",
            "keys/update/action",
            "keys/delete",
            "keys/decrypt/action",
            "keys/encrypt/action",
            "keys/sign/action",
            "keys/verify/action",
            "keys/wrap/action",
            "keys/unwrap/action",
            "keys/backup/action",
            "keys/release/action",
            "keys/purge/action",
            "keyrotationpolicies/read",
            "keyrotationpolicies/write",
            "certificates/read",
            "certificates/create/action",
            "certificates/delete",
            "certificates/purge/action",
            "certificatecas/read",
            "certificatecas/write",
            "certificatecontacts/write",
        )
    ),
)
_CONTROL_ACTIONS: Final = (
    "Microsoft.Authorization/roleAssignments/read",
    "Microsoft.Authorization/roleAssignments/write",
    "Microsoft.Authorization/roleAssignments/delete",
    "Microsoft.Authorization/roleDefinitions/read",
    "Microsoft.Authorization/roleDefinitions/write",
    "Microsoft.Authorization/roleDefinitions/delete",
    "Microsoft.KeyVault/vaults/read",
    "Microsoft.KeyVault/vaults/write",
    "Microsoft.KeyVault/vaults/delete",
    "Microsoft.KeyVault/vaults/accessPolicies/write",
    "Microsoft.KeyVault/deletedVaults/read",
    "Microsoft.KeyVault/locations/deletedVaults/read",
    "Microsoft.KeyVault/locations/deletedVaults/purge/action",
    "Microsoft.KeyVault/checkNameAvailability/read",
    "Microsoft.ManagedIdentity/userAssignedIdentities/read",
    "Microsoft.ManagedIdentity/userAssignedIdentities/write",
    "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/read",
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write",
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/delete",
    "Microsoft.Resources/subscriptions/read",
    "Microsoft.Resources/subscriptions/resources/read",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Resources/subscriptions/resourceGroups/write",
    "Microsoft.Resources/subscriptions/resourceGroups/delete",
    "Microsoft.Storage/storageAccounts/read",
    "Microsoft.Storage/storageAccounts/write",
)


@lru_cache(maxsize=1024)
def least_role(action: str, *, data: bool) -> RoleDefinition | None:
    """The built-in role with the fewest rights that covers ``action``; None if none does.

    Roles that carry a condition of their own are never named: they may deny after all.
    """
    fitting = [
        role
        for role in BUILT_IN_ROLES.values()
        if role.covers(action, data=data) and not any(p.condition for p in role.permissions)
    ]
    return min(fitting, key=_weight, default=None)


def _weight(role: RoleDefinition) -> tuple[int, str]:
    weight = 0
    for known, data in ((_DATA_ACTIONS, True), (_CONTROL_ACTIONS, False)):
        for action in known:
            if role.covers(action, data=data):
                metadata = action.endswith(("/read", "/readMetadata/action"))
                weight += _METADATA_WEIGHT if metadata else _OTHER_WEIGHT
    return weight, role.name
