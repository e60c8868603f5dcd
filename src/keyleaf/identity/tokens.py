"""What a token says, and making one.

Claims: https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from joserfc import jws

from keyleaf.core.clock import Randomness
from keyleaf.identity.principals import PrincipalRow
from keyleaf.identity.signing_keys import TOKEN_LIFETIME, SigningKey

Version = Literal["1.0", "2.0"]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and the times it carries, in seconds since 1970.

    ``expires_in`` counts from the moment of issue.
    """

    token: str
    issued: int
    expires: int
    expires_in: int

    def __repr__(self) -> str:
        return f"IssuedToken(expires={self.expires})"


def issuer_name(authority: str, tenant_id: str, version: Version) -> str:
    """The ``iss`` of a tenant's tokens: ``<authority>/<tenant>/`` in version 1, ``<authority>/<tenant>/v2.0`` in 2."""
    return f"{authority}/{tenant_id}/v2.0" if version == "2.0" else f"{authority}/{tenant_id}/"


def issue_token(
    key: SigningKey,
    row: PrincipalRow,
    *,
    authority: str,
    audience: str,
    version: Version,
    capabilities: tuple[str, ...],
    randomness: Randomness,
    now: float,
) -> IssuedToken:
    """Make a token for ``row``, valid for an hour.

    Args:
        authority: scheme and authority of the token service, the same for all processes on one database.
        audience: becomes ``aud`` as it is.
        capabilities: client capabilities (``CP1``) that the request's claims name; they become ``xms_cc``.
    """
    issued = max(int(now), row.tokens_valid_from)
    expires = int(now) + TOKEN_LIFETIME
    issuer = issuer_name(authority, row.tenant_id, version)
    claims: dict[str, Any] = {
        "aud": audience,
        "iss": issuer,
        "iat": issued,
        "nbf": issued,
        "exp": expires,
        "aio": _opaque(randomness, 24),
        "idtyp": "app",
        "oid": row.object_id,
        "rh": _opaque(randomness, 18),
        "sub": row.object_id,
        "tid": row.tenant_id,
        "uti": _opaque(randomness, 16),
        "ver": version,
    }
    if version == "2.0":
        claims |= {"azp": row.client_id, "azpacr": "2"}
    else:
        claims |= {"appid": row.client_id, "appidacr": "2", "idp": issuer}
    if row.resource_id:
        claims["xms_mirid"] = row.resource_id
    if capabilities:
        claims["xms_cc"] = list(capabilities)
    header = {"typ": "JWT", "alg": "RS256", "kid": key.kid}
    if version == "1.0":
        header["x5t"] = key.kid
    token = jws.serialize_compact(header, msgspec.json.encode(claims), key.key, algorithms=["RS256"])
    return IssuedToken(token, issued, expires, TOKEN_LIFETIME)


def _opaque(randomness: Randomness, size: int) -> str:
    return base64.urlsafe_b64encode(randomness.token(size)).decode().rstrip("=")
