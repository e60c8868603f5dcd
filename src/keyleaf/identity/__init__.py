"""Token service and directory: tenants, managed identities, applications, federated credentials, OIDC discovery."""

from keyleaf.identity.applications import add_certificate, add_client_secret, create_application
from keyleaf.identity.bindings import bind_process, bound_identity, unbind_process
from keyleaf.identity.federated_credentials import (
    FederatedCredential,
    delete_federated_credential,
    get_federated_credential,
    list_federated_credentials,
    put_federated_credential,
)
from keyleaf.identity.issuer_keys import IssuerKeys
from keyleaf.identity.principals import (
    PrincipalLookup,
    PrincipalRow,
    create_managed_identity,
    delete_managed_identity,
    delete_principal,
    find_by_client_id,
    find_by_object_id,
    find_by_resource,
    list_managed_identities,
    revoke_sessions,
    set_directory_roles,
    set_enabled,
    update_tags,
)
from keyleaf.identity.routes import operations
from keyleaf.identity.service import IdentityService
from keyleaf.identity.signing_keys import PublicKeys, SigningKey, SigningKeys
from keyleaf.identity.tenants import Tenant, create_tenant, find_tenant
from keyleaf.identity.token_errors import ManagedIdentityError, TokenError
from keyleaf.identity.tokens import IssuedToken, issue_token, issuer_name
from keyleaf.identity.verifier import Revoked, TokenVerifier, Unauthenticated

__all__ = [
    "FederatedCredential",
    "IdentityService",
    "IssuedToken",
    "IssuerKeys",
    "ManagedIdentityError",
    "PrincipalLookup",
    "PrincipalRow",
    "PublicKeys",
    "Revoked",
    "SigningKey",
    "SigningKeys",
    "Tenant",
    "TokenError",
    "TokenVerifier",
    "Unauthenticated",
    "add_certificate",
    "add_client_secret",
    "bind_process",
    "bound_identity",
    "create_application",
    "create_managed_identity",
    "create_tenant",
    "delete_federated_credential",
    "delete_managed_identity",
    "delete_principal",
    "find_by_client_id",
    "find_by_object_id",
    "find_by_resource",
    "find_tenant",
    "get_federated_credential",
    "issue_token",
    "issuer_name",
    "list_federated_credentials",
    "list_managed_identities",
    "operations",
    "put_federated_credential",
    "revoke_sessions",
    "set_directory_roles",
    "set_enabled",
    "unbind_process",
    "update_tags",
]
