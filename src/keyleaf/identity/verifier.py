"""Verifying bearer tokens, with a cache that makes the second look at a token a dictionary lookup."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Principal
from keyleaf.identity.compact_jwt import CompactJwt, MalformedToken, read_compact_jwt, signature_holds
from keyleaf.identity.principals import PrincipalLookup, PrincipalRow
from keyleaf.identity.signing_keys import PublicKeys
from keyleaf.identity.tokens import issuer_name

SKEW = 300.0
_ALGORITHMS = frozenset({"RS256"})


class Unauthenticated(ServiceError):
    """The bearer token is missing or does not hold."""

    def __init__(self, message: str) -> None:
        super().__init__(401, "Unauthorized", message)


class Revoked(ServiceError):
    """The token is genuine, but its principal was disabled or deleted, or its sessions were revoked, since.

    Attributes:
        claims: value of the challenge's ``claims`` parameter. The server answers with its usual Bearer challenge
            and ``error="insufficient_claims", claims="<this>"`` added, and the client drops the token.

    Rule: https://learn.microsoft.com/entra/identity-platform/claims-challenge
    """

    error = "insufficient_claims"

    def __init__(self, message: str, valid_from: int) -> None:
        super().__init__(401, "Unauthorized", message)
        document = {"access_token": {"nbf": {"essential": True, "value": str(valid_from)}}}
        raw = msgspec.json.encode(document)
        # Clients split the challenge at "=", so the JSON is padded with blanks until its base64 needs none.
        self.claims = base64.b64encode(raw + b" " * (-len(raw) % 3)).decode("ascii")


@dataclass(slots=True)
class _Verified:
    object_id: str
    client_id: str
    tenant_id: str
    audience: str
    issuer: str
    issued: float
    not_before: float
    expires: float
    row: PrincipalRow | None = None
    principal: Principal | None = None


class TokenVerifier:
    """Verifies bearer tokens of this installation; thread-safe.

    Args:
        keys: the published signing keys.
        authority: scheme and authority of the token service, as ``issue_token`` was given.
        tenants: ids of the tenants whose tokens are honoured.
        capacity: how many verified tokens are remembered.
        skew: seconds that clocks may differ.
    """

    def __init__(
        self,
        keys: PublicKeys,
        *,
        authority: str,
        tenants: Iterable[str],
        capacity: int = 10_000,
        skew: float = SKEW,
    ) -> None:
        self._keys = keys
        self._tenant_of: dict[str, str] = {
            name: tenant
            for tenant in tenants
            for name in (issuer_name(authority, tenant, "1.0"), issuer_name(authority, tenant, "2.0"))
        }
        self._capacity = capacity
        self._skew = skew
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forget verified tokens and published keys, as after a change of the signing keys."""
        with self._lock:
            self._verified.clear()
        self._keys.clear()

    def verify(self, token: str, audiences: frozenset[str], now: float, lookup: PrincipalLookup) -> Principal:
        """The caller that ``token`` stands for; see :meth:`admit`."""
        return self.admit(token, audiences, now, lookup)[0]

    def admit(
        self, token: str, audiences: frozenset[str], now: float, lookup: PrincipalLookup
    ) -> tuple[Principal, float]:
        """The caller that ``token`` stands for, and until when it does, in seconds since 1970.

        Args:
            token: what followed ``Bearer``.
            audiences: exact values of ``aud`` that the service called honours.
            lookup: the directory's row of an object id; the caller keeps it fresh.

        Raises:
            Unauthenticated: the token does not hold here and now.
            Revoked: it held once, and its principal has lost it since.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._verified.get(digest)
        if found is None:
            found = self._read(token)
        if found.audience not in audiences:
            wanted = ", ".join(sorted(audiences))
            raise Unauthenticated(f"AKV10022: Invalid audience. Expected {wanted}, found: {found.audience}.")
        if found.expires + self._skew <= now:
            with self._lock:
                self._verified.pop(digest, None)
            raise Unauthenticated("[TokenExpired] Error validating token: it has expired.")
        if found.not_before - self._skew > now:
            raise Unauthenticated("[BearerReadAccessTokenFailed] Error validating token: it is not valid yet.")
        self._remember(digest, found)
        return self._principal(found, lookup, now), found.expires + self._skew

    def _principal(self, found: _Verified, lookup: PrincipalLookup, now: float) -> Principal:
        row = lookup(found.object_id)
        held = found.principal
        if row is None or row is not found.row or held is None:
            held = self._check(found, row, now)
            found.row, found.principal = row, held
        return held

    @staticmethod
    def _check(found: _Verified, row: PrincipalRow | None, now: float) -> Principal:
        if row is None or row.deleted is not None:
            raise Revoked("The identity that this token was issued to does not exist any more.", int(now))
        if row.tenant_id != found.tenant_id or row.client_id != found.client_id:
            raise Unauthenticated("The token's identity does not belong to the token's tenant and application.")
        if not row.enabled:
            raise Revoked(
                "The identity that this token was issued to is disabled.", max(int(now), row.tokens_valid_from)
            )
        if found.issued < row.tokens_valid_from:
            raise Revoked(
                "The token was revoked: it was issued before the sessions were revoked.", row.tokens_valid_from
            )
        return row.as_principal(found.issuer)

    def _remember(self, digest: bytes, found: _Verified) -> None:
        # The order is only an approximation of use: moving on every hit would make every reader take the lock.
        if digest in self._verified:
            return
        with self._lock:
            self._verified[digest] = found
            while len(self._verified) > self._capacity:
                self._verified.popitem(last=False)

    def _read(self, text: str) -> _Verified:
        if not text:
            raise Unauthenticated("AKV10000: Request is missing a Bearer or PoP token.")
        try:
            token = read_compact_jwt(text)
            times = [token.time(name) for name in ("iat", "nbf", "exp")]
        except MalformedToken as error:
            raise Unauthenticated(f"[BearerReadAccessTokenFailed] Error validating token: {error}.") from None
        self._check_header(token)
        issuer = token.text("iss")
        tenant = self._tenant_of.get(issuer)
        if tenant is None:
            expected = ", ".join(self._tenant_of)
            raise Unauthenticated(f"AKV10032: Invalid issuer. Expected one of {expected}, found {_shown(issuer)}.")
        key = self._keys.find(token.header_text("kid"))
        if key is None:
            raise Unauthenticated("AKV10046: Unable to resolve the key used for signature validation.")
        if not signature_holds(token, key, _ALGORITHMS):
            raise Unauthenticated("[BearerReadAccessTokenFailed] Error validating token: the signature does not hold.")
        issued, not_before, expires = times
        if issued is None or not_before is None or expires is None:
            raise Unauthenticated("[BearerReadAccessTokenFailed] Error validating token: iat, nbf or exp is missing.")
        if token.text("tid") != tenant:
            raise Unauthenticated(
                "[BearerReadAccessTokenFailed] Error validating token: tid is not the issuer's tenant."
            )
        return _Verified(
            object_id=_needed(token, "oid"),
            client_id=_needed(token, "azp" if token.text("ver") == "2.0" else "appid"),
            tenant_id=tenant,
            audience=_needed(token, "aud"),
            issuer=issuer,
            issued=issued,
            not_before=not_before,
            expires=expires,
        )

    @staticmethod
    def _check_header(token: CompactJwt) -> None:
        if token.header_text("alg") not in _ALGORITHMS or token.header_text("typ") != "JWT":
            raise Unauthenticated("[BearerReadAccessTokenFailed] Error validating token: typ must be JWT, alg RS256.")
        if not token.header_text("kid"):
            raise Unauthenticated("AKV10046: Unable to resolve the key used for signature validation.")


def _needed(token: CompactJwt, claim: str) -> str:
    value = token.text(claim)
    if not value:
        raise Unauthenticated(f"[BearerReadAccessTokenFailed] Error validating token: {claim} is not one string.")
    return value


def _shown(text: str) -> str:
    return "".join(c for c in text[:200] if c.isprintable())
