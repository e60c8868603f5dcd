"""The local certificate authority and the server's certificate.

- The authority signs only for this state directory; its key stays there, 0600.
- The server's certificate names loopback, and the vault domain where there is one; it is renewed before it expires.
- ``bundle.pem`` holds the public roots and our own: a client that is given it as REQUESTS_CA_BUNDLE or SSL_CERT_FILE
  still reaches the rest of the world.

Profile: RFC 5280; clients want subject alternative names, key identifiers and the server-authentication usage.
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyleaf.core.errors import StateError
from keyleaf.store import write_private

_AUTHORITY_DAYS = 3650
_SERVER_DAYS = 90
_RENEW_DAYS = 30


@dataclass(frozen=True)
class Certificates:
    """Paths of what the server and its clients need."""

    certificate: Path
    key: Path
    authority: Path
    bundle: Path


def provide(directory: Path, domain: str, now: float) -> Certificates:
    """Make or renew what is missing or about to expire.

    Raises:
        StateError: a file is there but cannot be read.
    """
    made = Certificates(
        directory / "server.pem", directory / "server.key", directory / "ca.pem", directory / "bundle.pem"
    )
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    authority_key_path = directory / "ca.key"
    if not (made.authority.exists() and authority_key_path.exists()):
        _make_authority(made.authority, authority_key_path, moment)
    authority = _certificate(made.authority)
    if not _current(made.certificate, made.key, domain, moment, authority):
        _make_server(made, authority, _key(authority_key_path), domain, moment)
    wanted = Path(certifi.where()).read_bytes() + b"\n" + made.authority.read_bytes()
    if not made.bundle.exists() or made.bundle.read_bytes() != wanted:
        write_private(made.bundle, wanted)
    return made


def _make_authority(path: Path, key_path: Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyleaf local authority")])
    certificate = (
        _builder(name, name, key.public_key(), key.public_key(), now, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(key_path, key)
    write_private(path, certificate.public_bytes(serialization.Encoding.PEM))


def _make_server(
    made: Certificates,
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    domain: str,
    now: datetime.datetime,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyleaf")])
    certificate = (
        _builder(subject, authority.subject, key.public_key(), authority_key.public_key(), now, _SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(domain)), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write_key(made.key, key)
    write_private(made.certificate, certificate.public_bytes(serialization.Encoding.PEM))


def _names(domain: str) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.DNSName("localhost"),
    ]
    if domain:
        names += [x509.DNSName(domain), x509.DNSName(f"*.{domain}")]
    return names


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _current(path: Path, key: Path, domain: str, now: datetime.datetime, authority: x509.Certificate) -> bool:
    if not (path.exists() and key.exists()):
        return False
    certificate = _certificate(path)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        certificate.issuer == authority.subject
        and certificate.not_valid_after_utc > now + datetime.timedelta(days=_RENEW_DAYS)
        and list(names) == _names(domain)
    )


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise StateError(f"{path} is not a certificate", hint="remove the tls directory: it is made anew") from None


def _key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StateError(f"{path} is not a private key", hint="remove the tls directory: it is made anew")
    return key


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, pem)
