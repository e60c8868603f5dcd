"""Vaults as ARM writes them: request bodies, what they may say, and how a vault is rendered.

Rule: https://learn.microsoft.com/rest/api/keyvault/keyvault/vaults (api-version 2026-05-15)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from keyleaf.core.errors import ServiceError
from keyleaf.core.names import is_guid
from keyleaf.resources.arm import ArmBody, moment
from keyleaf.vault.policy import VaultPolicy
from keyleaf.vault.vaults import VaultRow

VAULT_TYPE: Final = "Microsoft.KeyVault/vaults"
REFUSE_EXPIRED: Final = "keyleaf-policy-refuse-expired"
REFUSE_PLACEHOLDERS: Final = "keyleaf-policy-refuse-placeholders"
MAXIMUM_POLICIES: Final = 1024

_SECRET_PERMISSIONS: Final = frozenset(["all", "get", "list", "set", "delete", "backup", "restore", "recover", "purge"])


class PermissionsBody(ArmBody):
    """Verbs per kind of object; those for keys, certificates and storage are kept as they are."""

    secrets: list[str] | None = None
    keys: list[str] | None = None
    certificates: list[str] | None = None
    storage: list[str] | None = None


class AccessPolicyBody(ArmBody):
    tenant_id: str
    object_id: str
    permissions: PermissionsBody
    application_id: str | None = None


class SkuBody(ArmBody):
    name: str = "standard"
    family: str = "A"


class NetworkAclsBody(ArmBody):
    default_action: str | None = None


class VaultPropertiesBody(ArmBody):
    """Both of PUT, where ``tenantId`` and ``sku`` are required, and of PATCH."""

    tenant_id: str | None = None
    sku: SkuBody | None = None
    access_policies: list[AccessPolicyBody] | None = None
    enable_soft_delete: bool | None = None
    soft_delete_retention_in_days: int | None = None
    enable_rbac_authorization: bool | None = None
    enable_purge_protection: bool | None = None
    create_mode: str | None = None
    network_acls: NetworkAclsBody | None = None
    public_network_access: str | None = None


class VaultBody(ArmBody):
    location: str = ""
    tags: dict[str, str] | None = None
    properties: VaultPropertiesBody = msgspec.field(default_factory=VaultPropertiesBody)


class PoliciesPropertiesBody(ArmBody):
    access_policies: list[AccessPolicyBody]


class PoliciesBody(ArmBody):
    properties: PoliciesPropertiesBody


class NameBody(ArmBody):
    name: str
    type: str


def bad_request(message: str) -> ServiceError:
    """400 as the Key Vault resource provider says it."""
    return ServiceError(400, "BadRequest", message)


def check_properties(body: VaultPropertiesBody) -> None:
    """Refuse what Azure refuses, and what keyleaf would only pretend to do."""
    days = body.soft_delete_retention_in_days
    if days is not None and not 7 <= days <= 90:
        raise bad_request('The property "softDeleteRetentionInDays" must be between 7 and 90.')
    if body.enable_soft_delete is False:
        raise bad_request('The property "enableSoftDelete" cannot be set to false: soft delete is always on.')
    if body.sku is not None and body.sku.name.lower() not in ("standard", "premium"):
        raise bad_request("The SKU's name is standard or premium.")
    acls = body.network_acls
    closed = (body.public_network_access or "").lower() not in ("", "enabled")
    if closed or (acls is not None and (acls.default_action or "allow").lower() != "allow"):
        raise bad_request("keyleaf has no vault firewall, so it does not pretend to close the network of a vault.")


def check_policies(policies: Sequence[AccessPolicyBody]) -> list[dict[str, Any]]:
    """Access policies in ARM's shape, checked."""
    if len(policies) > MAXIMUM_POLICIES:
        raise bad_request(f"A vault has up to {MAXIMUM_POLICIES} access policies.")
    for policy in policies:
        ids = [policy.tenant_id, policy.object_id, *([policy.application_id] if policy.application_id else [])]
        if not all(is_guid(text) for text in ids):
            raise bad_request("tenantId, objectId and applicationId of an access policy are GUIDs.")
        unknown = {verb.lower() for verb in policy.permissions.secrets or ()} - _SECRET_PERMISSIONS
        if unknown:
            raise bad_request(f"{sorted(unknown)[0]!r} is not a permission on secrets.")
    return [_without_nulls(msgspec.to_builtins(policy)) for policy in policies]


def policy_of_tags(tags: Mapping[str, str]) -> VaultPolicy:
    """keyleaf's stricter rules, asked for by tags: ``true`` or ``false``, names without regard to case."""
    given = {name.lower(): value.strip().lower() for name, value in tags.items()}
    for name in (REFUSE_EXPIRED, REFUSE_PLACEHOLDERS):
        if given.get(name, "false") not in ("true", "false"):
            raise bad_request(f"The tag {name} is true or false.")
    return VaultPolicy(
        refuse_expired=given.get(REFUSE_EXPIRED) == "true", refuse_placeholders=given.get(REFUSE_PLACEHOLDERS) == "true"
    )


def render_vault(vault: VaultRow, uri: str) -> dict[str, object]:
    """A vault as ARM shows it."""
    properties: dict[str, object] = {
        "sku": {"family": "A", "name": vault.sku},
        "tenantId": vault.tenant_id,
        "accessPolicies": list(vault.access_policies),
        "enabledForDeployment": False,
        "enabledForDiskEncryption": False,
        "enabledForTemplateDeployment": False,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": vault.retention_days,
        "enableRbacAuthorization": vault.rbac,
        "vaultUri": uri,
        "provisioningState": "Succeeded",
        "publicNetworkAccess": "Enabled",
    }
    if vault.purge_protection:
        properties["enablePurgeProtection"] = True
    return {**render_resource(vault), "properties": properties}


def render_resource(vault: VaultRow) -> dict[str, object]:
    """What every resource has."""
    return {
        "id": vault.resource_id,
        "name": vault.name,
        "type": VAULT_TYPE,
        "location": vault.location,
        "tags": dict(vault.tags),
    }


def render_deleted(vault: VaultRow) -> dict[str, object]:
    """A soft-deleted vault."""
    properties: dict[str, object] = {
        "vaultId": vault.resource_id,
        "location": vault.location,
        "deletionDate": moment(vault.deleted or 0),
        "scheduledPurgeDate": moment(vault.purge_at or 0),
        "tags": dict(vault.tags),
    }
    if vault.purge_protection:
        properties["purgeProtectionEnabled"] = True
    place = f"/subscriptions/{vault.subscription}/providers/Microsoft.KeyVault/locations/{vault.location}"
    return {
        "id": f"{place}/deletedVaults/{vault.name}",
        "name": vault.name,
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": properties,
    }


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value
