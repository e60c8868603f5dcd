"""An OpenAPI 3.1 document of what the server answers, made from the operations themselves.

The server does not serve it: Azure's services do not either. It is for tools that want to know the surface, and for the
tests that attack it. Written after https://spec.openapis.org/oas/v3.1.1
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from keyleaf import __version__
from keyleaf.core.clock import SystemClock, SystemRandomness
from keyleaf.core.operation import Operation
from keyleaf.identity import IdentityService, IssuerKeys, SigningKeys
from keyleaf.identity import operations as identity_operations
from keyleaf.resources import operations as resource_operations
from keyleaf.store import Keyring
from keyleaf.store.envelope import KEY_BYTES
from keyleaf.vault import operations as vault_operations

_PLACEHOLDER = re.compile(r"\{([^}]+)\}")
_VERSIONED = ("vault", "arm")
_TITLES = {
    "vault": "Key Vault, secrets",
    "arm": "Resource Manager",
    "login": "Token service",
    "graph": "Directory",
    "imds": "Managed identity endpoints",
}
_TOKEN_REQUEST: Mapping[str, Any] = {
    "type": "object",
    "required": ["grant_type", "client_id"],
    "properties": {
        name: {"type": "string"}
        for name in (
            "grant_type",
            "client_id",
            "client_secret",
            "client_assertion",
            "client_assertion_type",
            "scope",
            "resource",
        )
    },
}
_ERROR: Mapping[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "innererror": {"type": "object", "properties": {"code": {"type": "string"}}},
            },
        }
    },
}


def described() -> dict[str, Any]:
    """The document of every operation of the server."""
    randomness, clock = SystemRandomness(), SystemClock()
    keyring = Keyring(bytes(KEY_BYTES), randomness)  # nothing is sealed: the operations are looked at, not called
    service = IdentityService(
        default_tenant="",
        authority="",
        signing_keys=SigningKeys(keyring),
        issuer_keys=IssuerKeys(clock),
        randomness=randomness,
        is_resource=lambda _: False,
    )
    return document(
        [
            *vault_operations(keyring, randomness),
            *resource_operations(keyring, randomness, lambda _: ""),
            *identity_operations(service),
        ]
    )


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """The document of these operations, as JSON values.

    A path that two surfaces share keeps the first operation of each method.
    """
    found = list(operations)
    structs = list(dict.fromkeys(operation.request for operation in found if operation.request is not None))
    shapes, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    requests = dict(zip(structs, shapes, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for number, operation in enumerate(found):
        methods = paths.setdefault(operation.pattern, {})
        methods.setdefault(operation.method.lower(), _operation(operation, requests, number))
    return {
        "openapi": "3.1.0",
        "info": {"title": "keyleaf: the embedded Azure", "version": __version__},
        "tags": [{"name": name, "description": title} for name, title in _TITLES.items()],
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": _ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _operation(operation: Operation, requests: Mapping[type, Any], number: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": f"{operation.name}_{operation.surface}_{number}",
        "tags": [operation.surface],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in _PLACEHOLDER.findall(operation.pattern)
        ],
        "responses": {
            "2XX": {"description": "Done."},
            "default": {
                "description": "Refused.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
        "security": [] if operation.access == "public" else [{"bearer": []}],
    }
    if operation.surface in _VERSIONED:
        described["parameters"].append(
            {
                "name": "api-version",
                "in": "query",
                "required": True,
                "schema": {"type": "string", "examples": ["2026-04-01"]},
            }
        )
    if operation.surface == "vault" and operation.method == "GET" and operation.name.startswith("SecretList"):
        described["parameters"].append(
            {"name": "maxresults", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 25}}
        )
    if operation.request is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": requests[operation.request]}},
        }
    elif operation.name == "TokenIssue":
        described["requestBody"] = {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": _TOKEN_REQUEST}},
        }
    return described
