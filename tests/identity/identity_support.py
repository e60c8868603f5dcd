"""A small installation of the token service to test with: called directly, or over a real TLS socket."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

import anyio.to_thread
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from joserfc import jws
from joserfc.jwk import RSAKey
from sqlalchemy import select

from keyleaf.core.clock import Clock, SeededRandomness
from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Operation, Principal, Reply
from keyleaf.identity import (
    IdentityService,
    IssuerKeys,
    PrincipalRow,
    PublicKeys,
    SigningKeys,
    TokenVerifier,
    create_managed_identity,
    create_tenant,
    find_by_object_id,
    operations,
)
from keyleaf.identity.token_endpoint import make_token
from keyleaf.store import Database, Keyring
from keyleaf.store.schema import signing_key

TENANT = "11111111-2222-4333-8444-555555555555"
VAULT = "https://vault.azure.net"
AUDIENCE = "api://AzureADTokenExchange"
SUBJECT = "system:serviceaccount:shop:orders"
IDENTITY_ID = (
    "/subscriptions/99999999-2222-4333-8444-555555555555/resourceGroups/keyleaf"
    "/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-orders"
)
_KEY = RSAKey.generate_key(2048)
_SIGNING: dict[str, Any] = {}
_TIMES = ("created", "signs_until", "published_until")


def compile_pattern(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile("".join(re.escape(p) if i % 2 == 0 else f"(?P<{p}>[^/]+)" for i, p in enumerate(parts)) + r"\Z")


class ExternalIssuer:
    """An OIDC issuer of workload tokens, as a cluster is one: documents, and keys to sign with."""

    def __init__(self, issuer: str, key: RSAKey = _KEY) -> None:
        self.issuer = issuer
        self.keys = {"first": key}
        self.fetches = 0

    def documents(self) -> dict[str, bytes]:
        jwks = [{**k.as_dict(private=False), "kid": kid, "use": "sig", "alg": "RS256"} for kid, k in self.keys.items()]
        discovery = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/openid/v1/jwks"}
        return {
            "/.well-known/openid-configuration": json.dumps(discovery).encode(),
            "/openid/v1/jwks": json.dumps({"keys": jwks}).encode(),
        }

    def assertion(self, now: float, *, kid: str = "first", key: RSAKey | None = None, **claims: Any) -> str:
        payload = {
            "iss": self.issuer,
            "sub": SUBJECT,
            "aud": [AUDIENCE],
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + 600,
        } | claims
        header = {"alg": "RS256", "kid": kid, "typ": "JWT"}
        signer = key or self.keys[kid]
        return jws.serialize_compact(header, json.dumps(payload).encode(), signer, algorithms=["RS256"])


class Installation:
    """A token service on a database of its own, with one managed identity."""

    def __init__(
        self, database: Database, clock: Clock, base: str, ca_bundle: Path | None = None, *, imds_allowed: bool = True
    ) -> None:
        self.database = database
        self.clock = clock
        self.base = base
        self.randomness = SeededRandomness(7)
        self.signing_keys = SigningKeys(Keyring(b"r" * 32, SeededRandomness(1)))
        self.issuer_keys = IssuerKeys(clock, ca_bundle=ca_bundle)
        self.service = IdentityService(
            default_tenant=TENANT,
            authority=base,
            signing_keys=self.signing_keys,
            issuer_keys=self.issuer_keys,
            randomness=self.randomness,
            is_resource=lambda r: r in (VAULT, "https://management.azure.com/", f"{base}/vault"),
            imds_allowed=imds_allowed,
        )
        self.operations = [(compile_pattern(o.pattern), o) for o in operations(self.service)]
        with database.write() as conn:
            create_tenant(conn, TENANT, "example.org")
            self._sign_with_the_shared_key(conn)
            self.identity = self.new_identity(conn, IDENTITY_ID)
        self.verifier = TokenVerifier(PublicKeys(self.published), authority=base, tenants=[TENANT])

    def _sign_with_the_shared_key(self, conn: Any) -> None:
        # Making an RSA key takes longer than most tests: the first installation's sealed key serves them all.
        now = int(self.clock.now())
        if not _SIGNING:
            self.signing_keys.maintain(conn, now)
            _SIGNING.update(conn.execute(select(signing_key)).mappings().one())
            return
        moved = {name: _SIGNING[name] - _SIGNING["created"] + now for name in _TIMES}
        conn.execute(signing_key.insert().values(**(_SIGNING | moved)))

    def new_identity(self, conn: Any, resource_id: str, **tags: str) -> PrincipalRow:
        return create_managed_identity(
            conn,
            tenant_id=TENANT,
            resource_id=resource_id,
            location="local",
            tags={"keyleaf-application": "shop/orders"} | tags,
            randomness=self.randomness,
            now=self.clock.now(),
        )

    def published(self) -> list[dict[str, Any]]:
        with self.database.read() as conn:
            return self.signing_keys.published(conn, self.clock.now())

    def lookup(self, object_id: str) -> PrincipalRow | None:
        with self.database.read() as conn:
            return find_by_object_id(conn, object_id)

    def verify(self, token: str, audiences: frozenset[str] = frozenset({VAULT})) -> Principal:
        return self.verifier.verify(token, audiences, self.clock.now(), self.lookup)

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        for pattern, operation in self.operations:
            match = pattern.match(path)
            if match and operation.method == method:
                return operation, {k: unquote(v) for k, v in match.groupdict().items()}
        return None

    def call(
        self,
        method: str,
        path: str,
        *,
        form: Mapping[str, str] | None = None,
        document: object = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        principal: Principal | None = None,
        body: bytes = b"",
    ) -> Reply:
        found = self.find(method, path)
        assert found is not None, f"no operation {method} {path}"
        operation, values = found
        if form is not None:
            body = urlencode(form).encode()
        elif document is not None:
            body = msgspec.json.encode(document)
        call = Call(
            method=method,
            principal=principal,
            path=values,
            query=query or {},
            headers=headers or {},
            body=body,
            base=self.base,
            vault="",
            now=self.clock.now(),
            request_id="22222222-2222-4333-8444-555555555555",
        )
        with self.database.write() if operation.mutates else self.database.read() as conn:
            return operation.handler(conn, call)

    def token(self, **form: str) -> Reply:
        """Ask the version 2 endpoint for a vault token."""
        wanted = {
            "grant_type": "client_credentials",
            "scope": f"{VAULT}/.default",
            "client_id": self.identity.client_id,
        }
        return self.call("POST", f"/{TENANT}/oauth2/v2.0/token", form=wanted | form)


def issue(installation: Installation) -> str:
    """A vault token for the installation's identity, as the directory holds it now."""
    call = Call("POST", None, {}, {}, {}, b"", installation.base, "", installation.clock.now(), "id")
    row = installation.lookup(installation.identity.object_id)
    assert row is not None
    with installation.database.read() as conn:
        return make_token(installation.service, conn, call, row, VAULT, "1.0", ()).token


def certificate(
    name: str, key: rsa.RSAPrivateKey, signer: tuple[x509.Name, rsa.RSAPrivateKey] | None
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, signing_key = signer or (subject, key)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
    )
    if signer is None:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = builder.add_extension(usage, critical=True)
    else:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


def pem_of(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def self_signed(name: str) -> tuple[bytes, bytes]:
    """A client's certificate: PEM of key and certificate together, and the certificate's DER."""
    key = rsa.generate_private_key(65537, 2048)
    made = certificate(name, key, None)
    pem = pem_of(key) + made.public_bytes(serialization.Encoding.PEM)
    return pem, made.public_bytes(serialization.Encoding.DER)


class Host:
    """Serves an installation, and the documents of an issuer, from a thread."""

    def __init__(self, port: int) -> None:
        self.base = f"https://127.0.0.1:{port}"
        self.installation: Installation | None = None
        self.static: dict[str, bytes] = {}
        self.seen: list[str] = []

    def answer(self, scope: Mapping[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = scope["raw_path"].decode()
        self.seen.append(path)
        if path in self.static:
            return 200, {"content-type": "application/json"}, self.static[path]
        installation = self.installation
        if installation is None or installation.find(scope["method"], path) is None:
            return 404, {}, b"{}"
        query = dict(pair for pair in _pairs(scope["query_string"].decode()))
        headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
        try:
            reply = installation.call(scope["method"], path, query=query, headers=headers, body=body)
        except ServiceError as error:
            return error.status, {"content-type": "application/json"}, msgspec.json.encode(error.body())
        return reply.status, {"content-type": "application/json", **reply.headers}, msgspec.json.encode(reply.body)

    async def __call__(self, scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        status, headers, content = await anyio.to_thread.run_sync(self.answer, scope, body)
        raw = [(k.encode(), v.encode()) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": content})


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(k.lower(), v) for k, v in parse_qsl(query, keep_blank_values=True)]


def publish(host: Host, issuer: ExternalIssuer) -> None:
    for path, content in issuer.documents().items():
        host.static["/oidc/local" + path] = content
