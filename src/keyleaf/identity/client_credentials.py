"""Who asks for a token: a client's secret, certificate assertion or federated assertion, checked.

Rules: https://learn.microsoft.com/entra/identity-platform/certificate-credentials and
https://learn.microsoft.com/entra/workload-id/workload-identity-federation
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from keyleaf.core.errors import RemoteError
from keyleaf.core.operation import Call
from keyleaf.identity.applications import certificate_key, list_credentials, matching_secret, thumbprints
from keyleaf.identity.compact_jwt import CompactJwt, MalformedToken, read_compact_jwt, signature_holds
from keyleaf.identity.federated_credentials import FederatedCredential, list_federated_credentials
from keyleaf.identity.issuer_keys import IssuerKeys
from keyleaf.identity.principals import PrincipalRow
from keyleaf.identity.token_errors import TokenError, printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SKEW = 300.0
_ADVICE = (
    "Check your federated identity credential Subject, Audience and Issuer against the presented assertion. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation"
)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why no federated credential fits: the claim, whether another case of it would, and Entra's number for it."""

    claim: Literal["issuer", "audience", "subject"]
    presented: str
    case_only: bool

    @property
    def number(self) -> int:
        """Entra's error number."""
        return {"issuer": 700211, "audience": 700212, "subject": 700213}[self.claim]


def match_federated_credential(
    credentials: Collection[FederatedCredential], issuer: str, subject: str, audiences: Collection[str]
) -> FederatedCredential | Mismatch:
    """The credential whose issuer, subject and audience are exactly, case included, those of an assertion."""
    by_issuer = [c for c in credentials if c.issuer == issuer]
    if not by_issuer:
        return Mismatch("issuer", issuer, issuer.casefold() in {c.issuer.casefold() for c in credentials})
    by_subject = [c for c in by_issuer if c.subject == subject]
    if not by_subject:
        return Mismatch("subject", subject, subject.casefold() in {c.subject.casefold() for c in by_issuer})
    for credential in by_subject:
        if any(audience in audiences for audience in credential.audiences):
            return credential
    accepted = {a.casefold() for c in by_subject for a in c.audiences}
    shown = ", ".join(audiences)
    return Mismatch("audience", shown, any(a.casefold() in accepted for a in audiences))


def authenticate_client(
    conn: Connection, call: Call, form: Mapping[str, str], row: PrincipalRow, issuer_keys: IssuerKeys, authority: str
) -> None:
    """Return if the request's credential is one of ``row``'s; otherwise raise TokenError.

    Args:
        form: parameters of the token request.
        authority: the token service's own name; assertions may be addressed to it or to the address called.
    """
    check = _Check(conn, call, row)
    kind, assertion, secret = (form.get(k, "") for k in ("client_assertion_type", "client_assertion", "client_secret"))
    if assertion:
        if kind != ASSERTION_TYPE:
            raise check.refuse(9002313, f"Invalid request. 'client_assertion_type' must be '{ASSERTION_TYPE}'.")
        check.assertion(assertion.strip(), issuer_keys, authority)
    elif secret:
        check.secret(secret)
    else:
        raise check.refuse(
            7000216,
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
        )


class _Check:
    def __init__(self, conn: Connection, call: Call, row: PrincipalRow) -> None:
        self._conn = conn
        self._call = call
        self._row = row

    def refuse(self, number: int, text: str) -> TokenError:
        return TokenError(self._call, number, text, client_id=self._row.client_id, object_id=self._row.object_id)

    def secret(self, value: str) -> None:
        found = matching_secret(list_credentials(self._conn, self._row.object_id, "password"), value)
        application = f"app '{self._row.client_id}'"
        if found is None:
            raise self.refuse(
                7000215,
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to {application}.",
            )
        if not found.holds_at(self._call.now):
            raise self.refuse(7000222, f"The provided client secret keys for {application} are expired.")

    def assertion(self, text: str, issuer_keys: IssuerKeys, authority: str) -> None:
        try:
            token = read_compact_jwt(text, allow_padding=True)
            self._times(token)
        except MalformedToken as error:
            raise self.refuse(50027, f"JWT token is invalid or malformed: {error}.") from None
        if token.text("iss").lower() == self._row.client_id:
            self._certificate(token, authority)
        else:
            self._federated(token, issuer_keys)

    def _times(self, token: CompactJwt) -> None:
        expires, not_before = token.time("exp"), token.time("nbf")
        now = self._call.now
        if expires is None:
            raise MalformedToken("the claim 'exp' is missing")
        if expires + SKEW <= now or (not_before is not None and not_before - SKEW > now):
            start = "any time" if not_before is None else _utc(not_before)
            raise self.refuse(
                700024,
                f"Client assertion is not within its valid time range. Current time: {_utc(now)}, assertion valid "
                f"from {start}, expiry time of assertion {_utc(expires)}.",
            )

    def _certificate(self, token: CompactJwt, authority: str) -> None:
        sha1, sha256 = (token.header_text(name).rstrip("=") for name in ("x5t", "x5t#S256"))
        if not sha1 and not sha256:
            raise self.refuse(
                700027, "Client assertion failed signature validation: the header names no certificate (x5t, x5t#S256)."
            )
        used = None
        for credential in list_credentials(self._conn, self._row.object_id, "certificate"):
            own_sha1, own_sha256 = thumbprints(credential)
            if sha1 in ("", own_sha1) and sha256 in ("", own_sha256):
                used = credential
        shown = printable(sha256 or sha1, 64)
        if used is None:
            raise self.refuse(
                700027,
                "The certificate with identifier used to sign the client assertion is not registered on application. "
                f"[Reason - The key was not found., Thumbprint of key used by client: '{shown}']",
            )
        if not signature_holds(token, certificate_key(used), frozenset({"RS256", "PS256"})):
            raise self.refuse(700027, "Client assertion contains an invalid signature.")
        if not used.holds_at(self._call.now):
            raise self.refuse(
                700027,
                "Client assertion failed signature validation. "
                f"[Reason - The key used is expired., Thumbprint of key used by client: '{shown}']",
            )
        if token.text("sub").lower() != self._row.client_id:
            raise self.refuse(700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
        if not self._addressed_here(token, authority):
            raise self.refuse(700023, "Client assertion audience claim does not match Realm issuer.")

    def _addressed_here(self, token: CompactJwt, authority: str) -> bool:
        paths = ("oauth2/v2.0/token", "oauth2/token", "v2.0", "")
        tenants = {self._row.tenant_id, self._call.path.get("tenant", "")}
        own = {
            f"{base}/{tenant}/{path}" for base in (self._call.base, authority) for tenant in tenants for path in paths
        }
        return any(audience in own for audience in _audiences(token))

    def _federated(self, token: CompactJwt, issuer_keys: IssuerKeys) -> None:
        credentials = list_federated_credentials(self._conn, self._row.object_id)
        issuer, subject = token.text("iss"), token.text("sub")
        found = match_federated_credential(credentials, issuer, subject, _audiences(token))
        if isinstance(found, Mismatch):
            near = " It differs from a configured one only in upper and lower case." if found.case_only else ""
            raise self.refuse(
                found.number,
                f"No matching federated identity record found for presented assertion {found.claim} "
                f"'{printable(found.presented)}'.{near} {_ADVICE}",
            )
        kid = token.header_text("kid")
        try:
            key = issuer_keys.find(issuer, kid) if kid else None
        except RemoteError as error:
            raise self.refuse(501661, f"Request to External OIDC endpoint failed: {error.message}.") from None
        if key is None:
            raise self.refuse(
                700027,
                "Client assertion failed signature validation. "
                f"[Reason - The key was not found., kid: '{printable(kid, 64)}', issuer: '{printable(issuer)}']",
            )
        if not signature_holds(token, key, frozenset({"RS256"})):
            raise self.refuse(700027, "Client assertion contains an invalid signature; it must be RS256.")


def _audiences(token: CompactJwt) -> tuple[str, ...]:
    """``aud`` as RFC 7519 allows it: one string or a list of strings, as Kubernetes writes it."""
    value = token.claims.get("aud")
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value)
    return ()


def _utc(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "out of range"
