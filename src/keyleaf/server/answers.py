"""Answers as bytes: bodies, headers, and the challenges that tell a client where to get a token."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from keyleaf.core.errors import ServiceError
from keyleaf.identity import Revoked
from keyleaf.server.endpoints import Endpoint

Headers = list[tuple[bytes, bytes]]

_encode = msgspec.json.Encoder().encode
_COMMON: Headers = [
    (b"cache-control", b"no-cache"),
    (b"pragma", b"no-cache"),
    (b"x-content-type-options", b"nosniff"),
    (b"strict-transport-security", b"max-age=31536000;includeSubDomains"),
]
_VAULT: Headers = [
    *_COMMON,
    (b"x-ms-keyvault-region", b"local"),
    (b"x-ms-keyvault-service-version", b"2026-04-01"),
    (b"x-ms-keyvault-network-info", b"conn_type=Ipv4;act_addr_fam=InterNetwork;"),
]
JSON = (b"content-type", b"application/json; charset=utf-8")


class Answer:
    """A finished answer, held back until its record is durable."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers


def common_headers(endpoint: Endpoint | None, request_id: str) -> Headers:
    """What every answer carries."""
    base = _VAULT if endpoint is not None and endpoint.kind == "vault" else _COMMON
    return [*base, (b"x-ms-request-id", request_id.encode())]


def answer(status: int, body: object, headers: Mapping[str, str], endpoint: Endpoint | None, request_id: str) -> Answer:
    """An answer with a JSON body (bytes are sent as they are; None sends none)."""
    encoded = b"" if body is None else body if isinstance(body, bytes) else _encode(body)
    given = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
    names = {name for name, _ in given}
    found = [pair for pair in common_headers(endpoint, request_id) if pair[0] not in names] + given
    if encoded and b"content-type" not in names:
        found.append(JSON)
    found.append((b"content-length", str(len(encoded)).encode()))
    return Answer(status, encoded, found)


def error_answer(error: ServiceError, endpoint: Endpoint | None, request_id: str) -> Answer:
    """An error in the shape of its service."""
    return answer(error.status, error.body(), error.headers, endpoint, request_id)


def challenge(endpoint: Endpoint, authority: str, tenant: str, error: ServiceError | None = None) -> str:
    """The value of ``WWW-Authenticate``.

    Key Vault's clients split it at commas and equals signs, so no value holds either; the claims of a revoked token are
    padded so that their base64 needs no ``=``.
    """
    if endpoint.kind == "vault":
        text = f'Bearer authorization="{authority}/{tenant}", resource="{endpoint.resource}"'
    else:
        text = f'Bearer authorization_uri="{authority}/{tenant}"'
    if isinstance(error, Revoked):
        return f'{text}, error="insufficient_claims", claims="{error.claims}"'
    if error is not None and endpoint.kind != "vault":
        return f'{text}, error="invalid_token", error_description="The access token is missing or does not hold."'
    return text
