"""App registrations: applications that sign in with a client secret, a certificate or another issuer's token.

One row of ``principal`` is both the app registration (``app_object_id``) and its service principal (``object_id``).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from joserfc.jwk import RSAKey
from sqlalchemy import delete, select, update

from keyleaf.core.clock import Randomness, random_guid
from keyleaf.core.errors import ServiceError
from keyleaf.core.secret import Secret
from keyleaf.identity.principals import PrincipalRow, insert_principal, row_of
from keyleaf.store.schema import app_credential, principal

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

TWO_YEARS = 2 * 365 * 86_400
MAXIMUM_CREDENTIALS = 50
_SALT = 16


@dataclass(frozen=True, slots=True)
class AppCredential:
    """A client secret or certificate of an application; of a secret only its digest is known.

    Attributes:
        hint: the first three characters of a client secret.
        starts: seconds since 1970, as ``ends``.
    """

    id: str
    object_id: str
    kind: str
    display_name: str
    hint: str
    digest: bytes
    certificate: bytes
    starts: int
    ends: int

    def __repr__(self) -> str:
        return f"AppCredential({self.id}, {self.kind})"

    def holds_at(self, now: float) -> bool:
        """Whether the credential is within its time."""
        return self.starts <= now < self.ends


def create_application(
    conn: Connection, *, tenant_id: str, name: str, randomness: Randomness, now: float
) -> PrincipalRow:
    """Make an app registration together with its service principal."""
    _check_name(name)
    made = PrincipalRow(
        object_id=random_guid(randomness),
        tenant_id=tenant_id,
        kind="application",
        client_id=random_guid(randomness),
        app_object_id=random_guid(randomness),
        name=name,
        resource_id="",
        location="",
        created=int(now),
    )
    insert_principal(conn, made)
    return made


def find_by_app_object_id(conn: Connection, app_object_id: str) -> PrincipalRow | None:
    """The living application whose app registration has this object id."""
    if not app_object_id.isprintable():
        return None
    condition = (principal.c.app_object_id == app_object_id.lower()) & principal.c.deleted.is_(None)
    found = conn.execute(select(principal).where(condition)).mappings().first()
    return row_of(found) if found is not None else None


def list_principals(conn: Connection, tenant_id: str, *, applications_only: bool) -> list[PrincipalRow]:
    """The tenant's living applications, or all its service principals, by name."""
    query = select(principal).where(principal.c.tenant_id == tenant_id, principal.c.deleted.is_(None))
    if applications_only:
        query = query.where(principal.c.kind == "application")
    return [row_of(r) for r in conn.execute(query.order_by(principal.c.name, principal.c.object_id)).mappings()]


def rename_application(conn: Connection, object_id: str, name: str) -> None:
    """Give an application another display name."""
    _check_name(name)
    conn.execute(update(principal).where(principal.c.object_id == object_id).values(name=name))


def add_client_secret(
    conn: Connection,
    object_id: str,
    *,
    display_name: str,
    randomness: Randomness,
    now: float,
    starts: int | None = None,
    ends: int | None = None,
) -> tuple[AppCredential, Secret]:
    """Make a client secret of 240 random bits; the value is returned here and nowhere again.

    It lasts two years unless ``ends`` says otherwise.
    """
    _room_for_one_more(conn, object_id)
    _check_name(display_name or "none")
    value = base64.urlsafe_b64encode(randomness.token(30)).decode()
    made = AppCredential(
        id=random_guid(randomness),
        object_id=object_id.lower(),
        kind="password",
        display_name=display_name,
        hint=value[:3],
        digest=_digest(value, randomness.token(_SALT)),
        certificate=b"",
        starts=int(now) if starts is None else starts,
        ends=int(now) + TWO_YEARS if ends is None else ends,
    )
    if made.ends <= made.starts:
        raise ServiceError(400, "Request_BadRequest", "The credential's 'endDateTime' must be after 'startDateTime'.")
    _insert(conn, made)
    return made, Secret(value)


def add_certificate(
    conn: Connection, object_id: str, der: bytes, *, display_name: str, randomness: Randomness
) -> AppCredential:
    """Register an RSA certificate (DER) of at least 2048 bits; its own validity is the credential's.

    Raises:
        ServiceError: 400 for anything else.
    """
    _room_for_one_more(conn, object_id)
    _check_name(display_name or "none")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
    except ValueError:
        raise ServiceError(400, "KeyCredentialsInvalidKey", "The key value is not a certificate in DER.") from None
    if not isinstance(key, RSAPublicKey) or not 2048 <= key.key_size <= 8192:
        raise ServiceError(
            400, "KeyCredentialsInvalidKey", "The certificate must hold an RSA key of 2048 bits or more."
        )
    made = AppCredential(
        id=random_guid(randomness),
        object_id=object_id.lower(),
        kind="certificate",
        display_name=display_name or certificate.subject.rfc4514_string(),
        hint="",
        digest=b"",
        certificate=der,
        starts=int(certificate.not_valid_before_utc.timestamp()),
        ends=int(certificate.not_valid_after_utc.timestamp()),
    )
    _insert(conn, made)
    return made


def list_credentials(conn: Connection, object_id: str, kind: str) -> list[AppCredential]:
    """The credentials of one kind (``password`` or ``certificate``), oldest first."""
    query = (
        select(app_credential)
        .where(app_credential.c.object_id == object_id.lower(), app_credential.c.kind == kind)
        .order_by(app_credential.c.starts, app_credential.c.id)
    )
    return [_of(r) for r in conn.execute(query).mappings()]


def remove_credential(conn: Connection, object_id: str, credential_id: str) -> bool:
    """Remove a credential; False where the application has none with that id."""
    if not credential_id.isprintable():
        return False
    condition = (app_credential.c.object_id == object_id.lower()) & (app_credential.c.id == credential_id.lower())
    return conn.execute(delete(app_credential).where(condition)).rowcount > 0


def matching_secret(credentials: list[AppCredential], value: str) -> AppCredential | None:
    """The credential whose secret ``value`` is, looking at every one in constant time each."""
    found = None
    for credential in credentials:
        expected = credential.digest
        if hmac.compare_digest(_digest(value, expected[:_SALT]), expected):
            found = credential
    return found


def certificate_key(credential: AppCredential) -> RSAKey:
    """The public key of a registered certificate."""
    key = x509.load_der_x509_certificate(credential.certificate).public_key()
    if not isinstance(key, RSAPublicKey):
        raise TypeError("registered certificates hold RSA keys")
    return RSAKey.import_key(key)


def thumbprints(credential: AppCredential) -> tuple[str, str]:
    """The certificate's ``x5t`` (SHA-1) and ``x5t#S256``, base64url without padding (RFC 7515, 4.1.7 and 4.1.8)."""
    certificate = x509.load_der_x509_certificate(credential.certificate)
    sha1 = certificate.fingerprint(hashes.SHA1())  # noqa: S303 (an identifier that RFC 7515 fixes, not a proof)
    return _base64url(sha1), _base64url(certificate.fingerprint(hashes.SHA256()))


def _check_name(name: str) -> None:
    if not 0 < len(name) <= 256 or not name.isprintable():
        raise ServiceError(400, "Request_BadRequest", "A 'displayName' has 1 to 256 printable characters.")


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _digest(value: str, salt: bytes) -> bytes:
    return salt + hashlib.scrypt(value.encode("utf-8", "surrogatepass"), salt=salt, n=2**14, r=8, p=1, dklen=32)


def _room_for_one_more(conn: Connection, object_id: str) -> None:
    held = conn.execute(select(app_credential.c.id).where(app_credential.c.object_id == object_id.lower())).all()
    if len(held) >= MAXIMUM_CREDENTIALS:
        raise ServiceError(
            400, "Request_BadRequest", f"The application already has {MAXIMUM_CREDENTIALS} credentials; remove one."
        )


def _insert(conn: Connection, made: AppCredential) -> None:
    conn.execute(
        app_credential.insert().values(
            id=made.id,
            object_id=made.object_id,
            kind=made.kind,
            display_name=made.display_name,
            hint=made.hint,
            digest=made.digest or None,
            certificate=made.certificate or None,
            starts=made.starts,
            ends=made.ends,
        )
    )


def _of(values: RowMapping) -> AppCredential:
    return AppCredential(
        id=values["id"],
        object_id=values["object_id"],
        kind=values["kind"],
        display_name=values["display_name"],
        hint=values["hint"],
        digest=values["digest"] or b"",
        certificate=values["certificate"] or b"",
        starts=values["starts"],
        ends=values["ends"],
    )
