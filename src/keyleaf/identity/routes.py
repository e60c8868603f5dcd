"""Every operation that this room offers to the server."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.identity import discovery, managed_identity_endpoint, token_endpoint
from keyleaf.identity.binding_routes import binding_operations
from keyleaf.identity.graph_routes import graph_operations
from keyleaf.identity.service import IdentityService

if TYPE_CHECKING:
    from sqlalchemy import Connection

Handler = Callable[[IdentityService, "Connection", Call], Reply]


def operations(service: IdentityService) -> list[Operation]:
    """The operations, more literal patterns first."""

    def public(name: str, method: str, pattern: str, surface: Literal["login", "imds"], handler: Handler) -> Operation:
        return Operation(name, method, pattern, surface, partial(handler, service), access="public")

    keys = discovery.signing_key_set
    return [
        public("InstanceDiscovery", "GET", "/common/discovery/instance", "login", discovery.instance_discovery),
        public("TokenIssue", "POST", "/{tenant}/oauth2/v2.0/token", "login", token_endpoint.token_v2),
        public("TokenIssue", "POST", "/{tenant}/oauth2/token", "login", token_endpoint.token_v1),
        public(
            "OpenIdConfigurationGet",
            "GET",
            "/{tenant}/v2.0/.well-known/openid-configuration",
            "login",
            discovery.configuration_v2,
        ),
        public(
            "OpenIdConfigurationGet",
            "GET",
            "/{tenant}/.well-known/openid-configuration",
            "login",
            discovery.configuration_v1,
        ),
        public("SigningKeyList", "GET", "/{tenant}/discovery/v2.0/keys", "login", keys),
        public("SigningKeyList", "GET", "/{tenant}/discovery/keys", "login", keys),
        public("ManagedIdentityTokenIssue", "GET", "/msi/token", "imds", managed_identity_endpoint.app_service_token),
        public("ManagedIdentityTokenIssue", "POST", "/msi/token", "imds", managed_identity_endpoint.cloud_shell_token),
        public(
            "ManagedIdentityTokenIssue",
            "GET",
            "/metadata/identity/oauth2/token",
            "imds",
            managed_identity_endpoint.imds_token,
        ),
        *binding_operations(service),
        *graph_operations(service),
    ]
