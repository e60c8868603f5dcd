"""What clients read before they sign in: OpenID configuration, signing keys, instance discovery.

Format: OpenID Connect Discovery 1.0; https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keyleaf.core.operation import Call, Reply
from keyleaf.identity.service import IdentityService
from keyleaf.identity.tenants import ADFS, SHARED, find_tenant
from keyleaf.identity.token_errors import TokenError, printable
from keyleaf.identity.tokens import Version, issuer_name

if TYPE_CHECKING:
    from sqlalchemy import Connection

_CACHEABLE = {"Cache-Control": "max-age=3600, public"}


def configuration_v2(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``GET /{tenant}/v2.0/.well-known/openid-configuration``."""
    return Reply(200, _configuration(service, conn, call, "2.0"))


def configuration_v1(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``GET /{tenant}/.well-known/openid-configuration``."""
    return Reply(200, _configuration(service, conn, call, "1.0"))


def signing_key_set(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``GET /{tenant}/discovery/keys`` and its version 2 form with the JWKs of every living signing key.

    The keys may be held for a short time only: a verifier that meets an unknown ``kid`` asks again.
    """
    _tenant_id(service, conn, call)
    return Reply(
        200, {"keys": service.signing_keys.published(conn, call.now)}, {"Cache-Control": "max-age=300, public"}
    )


def instance_discovery(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``GET /common/discovery/instance``: this authority is known, and has no other names."""
    parts = urlsplit(call.query.get("authorization_endpoint", ""))
    base = urlsplit(call.base)
    if parts.netloc.lower() != base.netloc.lower():
        raise TokenError(call, 9002313, "Invalid request. 'authorization_endpoint' names another authority.")
    tenant = parts.path.strip("/").split("/")[0] or "common"
    body = {
        "tenant_discovery_endpoint": f"{call.base}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": call.query.get("api-version", "1.1"),
        "metadata": [{"preferred_network": base.netloc, "preferred_cache": base.netloc, "aliases": [base.netloc]}],
    }
    return Reply(200, body, _CACHEABLE)


def _configuration(service: IdentityService, conn: Connection, call: Call, version: Version) -> dict[str, Any]:
    tenant_id = _tenant_id(service, conn, call)
    asked = call.path["tenant"].lower()
    segment = asked if asked == ADFS or asked in SHARED else tenant_id
    # The shared endpoints stand for every tenant, so their issuer is a template, as Entra writes it.
    named = "{tenantid}" if asked in SHARED else tenant_id
    root = f"{call.base}/{segment}"
    middle = "oauth2/v2.0" if version == "2.0" else "oauth2"
    keys = "discovery/v2.0/keys" if version == "2.0" else "discovery/keys"
    return {
        "token_endpoint": f"{root}/{middle}/token",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": f"{root}/{keys}",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["token"],
        "grant_types_supported": ["client_credentials"],
        "scopes_supported": ["openid"],
        "issuer": issuer_name(service.authority, named, version),
        "authorization_endpoint": f"{root}/{middle}/authorize",
        "tenant_region_scope": None,
    }


def _tenant_id(service: IdentityService, conn: Connection, call: Call) -> str:
    reference = call.path["tenant"]
    found = find_tenant(conn, reference, service.default_tenant)
    if found is None:
        raise TokenError(call, 90002, f"Tenant '{printable(reference, 64)}' not found.")
    return found.id
