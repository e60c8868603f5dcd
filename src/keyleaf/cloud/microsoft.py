"""Azure through Microsoft's own SDKs: embedded and real are the same code with another endpoint."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.keyvault.secrets import SecretClient
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.v2022_04_01.models import RoleAssignmentCreateParameters
from azure.mgmt.keyvault import KeyVaultManagementClient
from azure.mgmt.keyvault.models import Sku, VaultCreateOrUpdateParameters, VaultProperties
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.msi.models import FederatedIdentityCredential
from azure.mgmt.msi.models import Identity as IdentityModel

from keyleaf.access import Permission, RoleAssignment, RoleDefinition
from keyleaf.core.errors import RemoteError
from keyleaf.core.scope import Scope
from keyleaf.plan.model import Credential, Identity, SecretState, Vault

PUBLIC_ARM = "https://management.azure.com"
# A new identity is unknown to RBAC for up to some minutes: Azure answers PrincipalNotFound until its directory has
# replicated. Source: https://learn.microsoft.com/azure/role-based-access-control/troubleshooting#symptom---assigning-a-role-to-a-new-principal-sometimes-fails
_PRINCIPAL_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0, 30.0, 30.0)
_NETWORK: dict[str, Any] = {
    "retry_total": 5,
    "retry_backoff_factor": 0.5,
    "retry_backoff_max": 30,
    "connection_timeout": 10,
    "read_timeout": 60,
}


class MicrosoftAzure:
    """One subscription behind an ARM endpoint; throttling and passing faults are retried by the SDKs, with limits."""

    def __init__(
        self,
        credential: TokenCredential,
        subscription: str,
        *,
        arm: str = PUBLIC_ARM,
        tenant: str = "",
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """
        Args:
            arm: base URL of the resource manager.
            tenant: id of the tenant of new vaults; empty takes that of the credential's token.
            pause: waits that many seconds.
        """
        self.credential = credential
        self.arm = arm.rstrip("/")
        self._subscription = subscription
        self._scope = f"{self.arm}/.default"
        self._tenant = tenant
        self._pause = pause
        options: dict[str, Any] = {"base_url": self.arm, "credential_scopes": [self._scope], **_NETWORK}
        self._msi = ManagedServiceIdentityClient(credential, subscription, **options)
        self._rbac = AuthorizationManagementClient(credential, subscription, api_version="2022-04-01", **options)
        self._keyvault = KeyVaultManagementClient(credential, subscription, **options)

    @property
    def subscription(self) -> str:
        return self._subscription

    # --- vaults -------------------------------------------------------------------------------------------------
    def vaults(self) -> Sequence[Vault]:
        with told("list the vaults"):
            return [_vault(found) for found in self._keyvault.vaults.list_by_subscription()]

    def put_vault(self, scope: Scope, location: str, tags: Mapping[str, str]) -> Vault:
        group, name = _place(scope)
        properties = VaultProperties(
            tenant_id=self._tenant_id(),
            sku=Sku(family="A", name="standard"),
            access_policies=[],
            enable_rbac_authorization=True,
        )
        parameters = VaultCreateOrUpdateParameters(location=location, tags=dict(tags), properties=properties)
        with told(f"create the vault {name}"):
            return _vault(self._keyvault.vaults.begin_create_or_update(group, name, parameters).result())

    # --- identities ---------------------------------------------------------------------------------------------
    def identities(self) -> Sequence[Identity]:
        with told("list the managed identities"):
            return [_identity(found) for found in self._msi.user_assigned_identities.list_by_subscription()]

    def put_identity(self, scope: Scope, location: str, tags: Mapping[str, str]) -> Identity:
        group, name = _place(scope)
        body = IdentityModel(location=location, tags=dict(tags))
        with told(f"create the managed identity {name}"):
            return _identity(self._msi.user_assigned_identities.create_or_update(group, name, body))

    def delete_identity(self, scope: Scope) -> None:
        group, name = _place(scope)
        with told(f"delete the managed identity {name}"), gone_is_fine():
            self._msi.user_assigned_identities.delete(group, name)

    def credentials(self, identity: Scope) -> Sequence[Credential]:
        group, name = _place(identity)
        with told(f"list the federated credentials of {name}"):
            try:
                found = list(self._msi.federated_identity_credentials.list(group, name))
            except ResourceNotFoundError:
                return []
        return [
            Credential(identity, one.name or "", one.issuer or "", one.subject or "", tuple(one.audiences or ()))
            for one in found
        ]

    def put_credential(self, credential: Credential) -> None:
        group, name = _place(credential.identity)
        body = FederatedIdentityCredential(
            issuer=credential.issuer, subject=credential.subject, audiences=list(credential.audiences)
        )
        with told(f"create the federated credential {credential.name} of {name}"):
            self._msi.federated_identity_credentials.create_or_update(group, name, credential.name, body)

    def delete_credential(self, identity: Scope, name: str) -> None:
        group, owner = _place(identity)
        with told(f"delete the federated credential {name} of {owner}"), gone_is_fine():
            self._msi.federated_identity_credentials.delete(group, owner, name)

    # --- roles --------------------------------------------------------------------------------------------------
    def assignments(self) -> Sequence[RoleAssignment]:
        with told("list the role assignments"):
            return [_assignment(found) for found in self._rbac.role_assignments.list_for_subscription()]

    def put_assignment(self, assignment: RoleAssignment) -> None:
        role = (
            f"/subscriptions/{self._subscription}/providers/Microsoft.Authorization/roleDefinitions/"
            f"{assignment.role_definition_id}"
        )
        body = RoleAssignmentCreateParameters(
            role_definition_id=role,
            principal_id=assignment.principal_id,
            # Without the type Azure looks the principal up in a directory that may not have it yet.
            principal_type="ServicePrincipal",
            description=assignment.description,
            condition=assignment.condition or None,
            condition_version="2.0" if assignment.condition else None,
        )
        with told(f"assign the role at {assignment.scope}"):
            for wait in (*_PRINCIPAL_WAITS, None):
                try:
                    self._rbac.role_assignments.create(assignment.scope.path, assignment.id.rsplit("/", 1)[1], body)
                    return
                except HttpResponseError as error:
                    if _code(error) == "RoleAssignmentExists":
                        return
                    if _code(error) != "PrincipalNotFound" or wait is None:
                        raise
                    self._pause(wait)

    def delete_assignment(self, assignment: str) -> None:
        scope, _, name = assignment.rpartition("/providers/Microsoft.Authorization/roleAssignments/")
        with told(f"remove the role assignment {assignment}"), gone_is_fine():
            if name:
                self._rbac.role_assignments.delete(scope or "/", name)
            else:
                self._rbac.role_assignments.delete_by_id(assignment)

    def custom_roles(self) -> Sequence[RoleDefinition]:
        scope = f"/subscriptions/{self._subscription}"
        with told("list the custom roles"):
            return [
                _role(found)
                for found in self._rbac.role_definitions.list(scope, filter="type eq 'CustomRole'")
                if found.role_type == "CustomRole"
            ]

    # --- secrets, without their values --------------------------------------------------------------------------
    def secrets(self, vault: Vault) -> Sequence[SecretState]:
        with told(f"list the secrets of {vault.name}"):
            client = self.secret_client(vault)
            live = [_secret(vault.name, found) for found in client.list_properties_of_secrets()]
            dead = [_secret(vault.name, found.properties, True) for found in client.list_deleted_secrets()]
            return [*live, *dead]

    def secret_client(self, vault: Vault) -> SecretClient:
        """Microsoft's client of that vault, signed in as the caller."""
        return SecretClient(vault_url=vault.uri, credential=self.credential, **_NETWORK)

    def _tenant_id(self) -> str:
        if not self._tenant:
            with told("sign in"):
                token = self.credential.get_token(self._scope).token
            try:
                payload = token.split(".")[1]
                self._tenant = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["tid"]
            except (IndexError, ValueError, KeyError, TypeError):
                raise RemoteError("the tenant is not known", hint="set AZURE_TENANT_ID") from None
        return self._tenant


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn the SDKs' exceptions into RemoteError: what was tried, Azure's code and the first line of its message."""
    try:
        yield
    except ClientAuthenticationError as error:
        raise RemoteError(
            f"could not {what}: Azure did not let keyleaf sign in: {_first_line(error)}",
            hint="az login, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and a credential",
        ) from error
    except (ServiceRequestError, ServiceResponseError) as error:
        raise RemoteError(
            f"could not {what}: Azure did not answer: {_first_line(error)}", hint="is the endpoint up?"
        ) from error
    except HttpResponseError as error:
        code = _code(error)
        hints = {
            "AuthorizationFailed": "the signed-in account needs Contributor and Role Based Access Control "
            "Administrator on the resource group",
            "ResourceGroupNotFound": "az group create --name <resource group> --location <location>",
            "Forbidden": "the signed-in account needs a Key Vault role on the vault",
        }
        raise RemoteError(f"could not {what}: {code}: {_first_line(error)}", hint=hints.get(code, "")) from error
    except AzureError as error:
        raise RemoteError(f"could not {what}: {_first_line(error)}") from error


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """Let what is not there any more pass."""
    with suppress(ResourceNotFoundError):
        yield


def _code(error: HttpResponseError) -> str:
    code = getattr(error.error, "code", None)
    return str(code) if code else f"HTTP {error.status_code}"


def _first_line(error: AzureError) -> str:
    text = getattr(getattr(error, "error", None), "message", None) or error.message or type(error).__name__
    return str(text).strip().splitlines()[0] if str(text).strip() else type(error).__name__


def _place(scope: Scope) -> tuple[str, str]:
    """Resource group and name of a resource in a resource group."""
    parts = scope.path.split("/")
    return parts[4], parts[-1]


def _vault(found: Any) -> Vault:
    properties = found.properties
    # Absent means true since API version 2026-02-01, false before; the SDKs send a version that always answers it.
    rbac = properties.enable_rbac_authorization is not False
    uri = (properties.vault_uri or "").rstrip("/")
    return Vault(found.name, Scope(found.id), uri, found.location or "", rbac, dict(found.tags or {}))


def _identity(found: Any) -> Identity:
    return Identity(
        found.name,
        Scope(found.id),
        str(found.client_id or "").lower(),
        str(found.principal_id or "").lower(),
        found.location or "",
        dict(found.tags or {}),
    )


def _assignment(found: Any) -> RoleAssignment:
    return RoleAssignment(
        found.id,
        Scope(found.scope),
        str(found.principal_id or "").lower(),
        found.role_definition_id.rsplit("/", 1)[1].lower(),
        found.condition or "",
        found.description or "",
    )


def _role(found: Any) -> RoleDefinition:
    return RoleDefinition(
        found.name.lower(),
        found.role_name or "",
        found.description or "",
        tuple(
            Permission(
                tuple(p.actions or ()),
                tuple(p.not_actions or ()),
                tuple(p.data_actions or ()),
                tuple(p.not_data_actions or ()),
            )
            for p in found.permissions or ()
        ),
        tuple(found.assignable_scopes or ()),
        False,
    )


def _secret(vault: str, found: Any, deleted: bool = False) -> SecretState:
    def seconds(moment: Any) -> float | None:
        return moment.timestamp() if moment else None

    return SecretState(
        vault,
        found.name,
        found.enabled is not False,
        seconds(found.expires_on),
        seconds(found.not_before),
        seconds(found.updated_on),
        found.content_type or "",
        deleted,
    )
