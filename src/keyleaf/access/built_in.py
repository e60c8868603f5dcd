"""Azure's built-in roles that matter to Key Vault, with their real ids and patterns.

Source: the pages security, privileged and identity below
https://learn.microsoft.com/azure/role-based-access-control/built-in-roles
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from keyleaf.access.roles import Permission, RoleDefinition

OWNER: Final = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
CONTRIBUTOR: Final = "b24988ac-6180-42a0-ab88-20f7382dd24c"
READER: Final = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
USER_ACCESS_ADMINISTRATOR: Final = "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"
RBAC_ADMINISTRATOR: Final = "f58310d9-a9f6-439a-9e8d-f62e7b41a168"
MANAGED_IDENTITY_OPERATOR: Final = "f1a07417-d97a-45cb-824c-7a7467783830"
MANAGED_IDENTITY_CONTRIBUTOR: Final = "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59"
KEY_VAULT_ADMINISTRATOR: Final = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
KEY_VAULT_CERTIFICATE_USER: Final = "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba"
KEY_VAULT_CERTIFICATES_OFFICER: Final = "a4417e6f-fecd-4de8-b567-7b0420556985"
KEY_VAULT_CONTRIBUTOR: Final = "f25e0fa2-a7c8-4377-a976-54943a77a395"
KEY_VAULT_CRYPTO_OFFICER: Final = "14b46e9e-c2b7-41b4-b07b-48a6ebf60603"
KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER: Final = "e147488a-f6f5-4113-8e2d-b22465e65bf6"
KEY_VAULT_CRYPTO_SERVICE_RELEASE_USER: Final = "08bbd89e-9f13-488c-ac41-acfcb10c90ab"
KEY_VAULT_CRYPTO_USER: Final = "12338af0-0e69-4776-bea7-57ae8d297424"
KEY_VAULT_DATA_ACCESS_ADMINISTRATOR: Final = "8b54135c-b56d-4d72-a534-26097cfdc8d8"
KEY_VAULT_PURGE_OPERATOR: Final = "a68e7c17-0ab2-4c09-9a58-125dae29748c"
KEY_VAULT_READER: Final = "21090545-7ca7-4776-b22c-e363652d74d2"
KEY_VAULT_SECRETS_OFFICER: Final = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
KEY_VAULT_SECRETS_USER: Final = "4633458b-17de-408a-b874-0445c86b69e6"

_KV = "Microsoft.KeyVault"
_RBAC_ONLY = "Only works for key vaults that use the 'Azure role-based access control' permission model."
_READ_AROUND = (
    "Microsoft.Authorization/*/read",
    "Microsoft.Insights/alertRules/*",
    "Microsoft.Resources/deployments/*",
    "Microsoft.Resources/subscriptions/resourceGroups/read",
    "Microsoft.Support/*",
)
_READ_VAULTS = (
    *_READ_AROUND,
    f"{_KV}/checkNameAvailability/read",
    f"{_KV}/deletedVaults/read",
    f"{_KV}/locations/*/read",
    f"{_KV}/vaults/*/read",
    f"{_KV}/operations/read",
)
_DELEGABLE = ", ".join(
    (
        KEY_VAULT_ADMINISTRATOR,
        KEY_VAULT_CERTIFICATES_OFFICER,
        KEY_VAULT_CRYPTO_OFFICER,
        KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER,
        KEY_VAULT_CRYPTO_USER,
        KEY_VAULT_READER,
        KEY_VAULT_SECRETS_OFFICER,
        KEY_VAULT_SECRETS_USER,
    )
)
_DELEGATED = f"[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals{{{_DELEGABLE}}}"
_DELEGATION_CONDITION = (
    f"((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/write'}})) OR (@Request{_DELEGATED})) AND "
    f"((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/delete'}})) OR (@Resource{_DELEGATED}))"
)


def _role(guid: str, name: str, description: str, permission: Permission) -> tuple[str, RoleDefinition]:
    return guid, RoleDefinition(guid, name, description, (permission,))


def _data(*names: str) -> tuple[str, ...]:
    return tuple(f"{_KV}/vaults/{name}" for name in names)


BUILT_IN_ROLES: Final[Mapping[str, RoleDefinition]] = MappingProxyType(
    dict(
        [
            _role(
                OWNER,
                "Owner",
                "Full access to all resources, including the right to assign roles in Azure RBAC.",
                Permission(actions=("*",)),
            ),
            _role(
                CONTRIBUTOR,
                "Contributor",
                "Full access to all resources, without the right to assign roles.",
                Permission(
                    actions=("*",),
                    not_actions=(
                        "Microsoft.Authorization/*/Delete",
                        "Microsoft.Authorization/*/Write",
                        "Microsoft.Authorization/elevateAccess/Action",
                        "Microsoft.Blueprint/blueprintAssignments/write",
                        "Microsoft.Blueprint/blueprintAssignments/delete",
                        "Microsoft.Compute/galleries/share/action",
                        "Microsoft.Purview/consents/write",
                        "Microsoft.Purview/consents/delete",
                        "Microsoft.Resources/deploymentStacks/manageDenySetting/action",
                        "Microsoft.Subscription/cancel/action",
                        "Microsoft.Subscription/enable/action",
                    ),
                ),
            ),
            _role(READER, "Reader", "Sees all resources and changes none.", Permission(actions=("*/read",))),
            _role(
                USER_ACCESS_ADMINISTRATOR,
                "User Access Administrator",
                "Manages access to Azure resources.",
                Permission(actions=("*/read", "Microsoft.Authorization/*", "Microsoft.Support/*")),
            ),
            _role(
                RBAC_ADMINISTRATOR,
                "Role Based Access Control Administrator",
                "Manages access to Azure resources by assigning roles, and by no other way.",
                Permission(
                    actions=(
                        "Microsoft.Authorization/roleAssignments/write",
                        "Microsoft.Authorization/roleAssignments/delete",
                        "*/read",
                        "Microsoft.Support/*",
                    )
                ),
            ),
            _role(
                MANAGED_IDENTITY_CONTRIBUTOR,
                "Managed Identity Contributor",
                "Creates, reads, updates and deletes user-assigned identities.",
                Permission(
                    actions=(
                        "Microsoft.ManagedIdentity/userAssignedIdentities/read",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/write",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/delete",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/read",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/write",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials/delete",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/revokeTokens/action",
                        *_READ_AROUND,
                    )
                ),
            ),
            _role(
                MANAGED_IDENTITY_OPERATOR,
                "Managed Identity Operator",
                "Reads and assigns user-assigned identities.",
                Permission(
                    actions=(
                        "Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
                        "Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action",
                        *_READ_AROUND,
                    )
                ),
            ),
            _role(
                KEY_VAULT_ADMINISTRATOR,
                "Key Vault Administrator",
                f"Every data plane operation on a vault and what it holds; neither vault nor roles. {_RBAC_ONLY}",
                Permission(actions=_READ_VAULTS, data_actions=_data("*")),
            ),
            _role(
                KEY_VAULT_CERTIFICATE_USER,
                "Key Vault Certificate User",
                f"Reads certificates with their private part. {_RBAC_ONLY}",
                Permission(
                    data_actions=_data(
                        "certificates/read", "secrets/getSecret/action", "secrets/readMetadata/action", "keys/read"
                    )
                ),
            ),
            _role(
                KEY_VAULT_CERTIFICATES_OFFICER,
                "Key Vault Certificates Officer",
                f"Every action on certificates, permissions aside. {_RBAC_ONLY}",
                Permission(
                    actions=_READ_VAULTS,
                    data_actions=_data("certificatecas/*", "certificates/*", "certificatecontacts/write"),
                ),
            ),
            _role(
                KEY_VAULT_CONTRIBUTOR,
                "Key Vault Contributor",
                "Manages key vaults; neither assigns roles nor reads what is in a vault.",
                Permission(
                    actions=(*_READ_AROUND, f"{_KV}/*"),
                    not_actions=(
                        f"{_KV}/locations/deletedVaults/purge/action",
                        f"{_KV}/hsmPools/*",
                        f"{_KV}/managedHsms/*",
                    ),
                ),
            ),
            _role(
                KEY_VAULT_CRYPTO_OFFICER,
                "Key Vault Crypto Officer",
                f"Every action on keys, permissions aside. {_RBAC_ONLY}",
                Permission(actions=_READ_VAULTS, data_actions=_data("keys/*", "keyrotationpolicies/*")),
            ),
            _role(
                KEY_VAULT_CRYPTO_SERVICE_ENCRYPTION_USER,
                "Key Vault Crypto Service Encryption User",
                f"Reads keys, wraps and unwraps with them. {_RBAC_ONLY}",
                Permission(
                    actions=(
                        "Microsoft.EventGrid/eventSubscriptions/write",
                        "Microsoft.EventGrid/eventSubscriptions/read",
                        "Microsoft.EventGrid/eventSubscriptions/delete",
                    ),
                    data_actions=_data("keys/read", "keys/wrap/action", "keys/unwrap/action"),
                ),
            ),
            _role(
                KEY_VAULT_CRYPTO_SERVICE_RELEASE_USER,
                "Key Vault Crypto Service Release User",
                f"Releases keys. {_RBAC_ONLY}",
                Permission(data_actions=_data("keys/release/action")),
            ),
            _role(
                KEY_VAULT_CRYPTO_USER,
                "Key Vault Crypto User",
                f"Uses keys for cryptography. {_RBAC_ONLY}",
                Permission(
                    data_actions=_data(
                        "keys/read",
                        "keys/update/action",
                        "keys/backup/action",
                        "keys/encrypt/action",
                        "keys/decrypt/action",
                        "keys/wrap/action",
                        "keys/unwrap/action",
                        "keys/sign/action",
                        "keys/verify/action",
                    )
                ),
            ),
            _role(
                KEY_VAULT_DATA_ACCESS_ADMINISTRATOR,
                "Key Vault Data Access Administrator",
                "Assigns and removes the Key Vault data plane roles, and no others.",
                Permission(
                    actions=(
                        "Microsoft.Authorization/roleAssignments/write",
                        "Microsoft.Authorization/roleAssignments/delete",
                        "Microsoft.Authorization/*/read",
                        "Microsoft.Resources/deployments/*",
                        "Microsoft.Resources/subscriptions/resourceGroups/read",
                        "Microsoft.Resources/subscriptions/read",
                        "Microsoft.Management/managementGroups/read",
                        "Microsoft.Support/*",
                        f"{_KV}/vaults/*/read",
                    ),
                    condition=_DELEGATION_CONDITION,
                ),
            ),
            _role(
                KEY_VAULT_PURGE_OPERATOR,
                "Key Vault Purge Operator",
                "Deletes soft-deleted vaults for good.",
                Permission(
                    actions=(
                        f"{_KV}/deletedVaults/read",
                        f"{_KV}/locations/deletedVaults/read",
                        f"{_KV}/locations/deletedVaults/purge/action",
                        f"{_KV}/locations/operationResults/read",
                        "Microsoft.Resources/subscriptions/resourceGroups/read",
                        "Microsoft.Support/*",
                    )
                ),
            ),
            _role(
                KEY_VAULT_READER,
                "Key Vault Reader",
                f"Reads metadata of key vaults and of the objects in them, no values. {_RBAC_ONLY}",
                Permission(actions=_READ_VAULTS, data_actions=_data("*/read", "secrets/readMetadata/action")),
            ),
            _role(
                KEY_VAULT_SECRETS_OFFICER,
                "Key Vault Secrets Officer",
                f"Every action on secrets, permissions aside. {_RBAC_ONLY}",
                Permission(actions=_READ_VAULTS, data_actions=_data("secrets/*")),
            ),
            _role(
                KEY_VAULT_SECRETS_USER,
                "Key Vault Secrets User",
                f"Reads the values of secrets. {_RBAC_ONLY}",
                Permission(data_actions=_data("secrets/getSecret/action", "secrets/readMetadata/action")),
            ),
        ]
    )
)
