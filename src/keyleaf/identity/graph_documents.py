"""Applications, service principals and federated credentials as Microsoft Graph shows them.

Shapes: https://learn.microsoft.com/graph/api/resources/application and …/resources/serviceprincipal
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from keyleaf.identity.applications import AppCredential, thumbprints
from keyleaf.identity.federated_credentials import FederatedCredential
from keyleaf.identity.principals import PrincipalRow


def graph_time(moment: int) -> str:
    """A time as Graph writes it."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def application_document(
    row: PrincipalRow, passwords: list[AppCredential], certificates: list[AppCredential]
) -> dict[str, Any]:
    """An app registration; ``id`` is its own object id, not the service principal's."""
    return {
        "id": row.app_object_id,
        "appId": row.client_id,
        "displayName": row.name,
        "createdDateTime": graph_time(row.created),
        "signInAudience": "AzureADMyOrg",
        "identifierUris": [],
        "tags": [],
        "passwordCredentials": [password_document(c) for c in passwords],
        "keyCredentials": [certificate_document(c) for c in certificates],
    }


def service_principal_document(row: PrincipalRow) -> dict[str, Any]:
    """A service principal: of an application, or of a managed identity."""
    managed = row.kind == "managed_identity"
    return {
        "id": row.object_id,
        "appId": row.client_id,
        "displayName": row.name,
        "appDisplayName": None if managed else row.name,
        "appOwnerOrganizationId": row.tenant_id,
        "accountEnabled": row.enabled,
        "servicePrincipalType": "ManagedIdentity" if managed else "Application",
        "alternativeNames": ["isExplicit=True", row.resource_id] if managed else [],
        "createdDateTime": graph_time(row.created),
        "tags": [],
    }


def password_document(credential: AppCredential, value: str | None = None) -> dict[str, Any]:
    """A client secret; ``value`` is given once, in the answer that made it."""
    return {
        "keyId": credential.id,
        "displayName": credential.display_name or None,
        "hint": credential.hint,
        "secretText": value,
        "startDateTime": graph_time(credential.starts),
        "endDateTime": graph_time(credential.ends),
        "customKeyIdentifier": None,
    }


def certificate_document(credential: AppCredential) -> dict[str, Any]:
    """A certificate; the key itself is not repeated."""
    return {
        "keyId": credential.id,
        "displayName": credential.display_name or None,
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "key": None,
        "customKeyIdentifier": thumbprints(credential)[0],
        "startDateTime": graph_time(credential.starts),
        "endDateTime": graph_time(credential.ends),
    }


def federated_credential_document(credential: FederatedCredential) -> dict[str, Any]:
    """A federated identity credential."""
    return {
        "id": credential.id,
        "name": credential.name,
        "issuer": credential.issuer,
        "subject": credential.subject,
        "audiences": list(credential.audiences),
        "description": None,
    }


def collection(base: str, kind: str, items: list[Mapping[str, Any]]) -> dict[str, Any]:
    """A whole collection, on one page."""
    return {"@odata.context": f"{base}/v1.0/$metadata#{kind}", "value": items}
