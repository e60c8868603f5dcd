"""A host that serves the ARM operations over TLS to Microsoft's own clients.

It stands in for the server room only where these tests need it: the bearer token is the caller's object id, every
demand is decided, and each operation runs in one transaction.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from azure.core.credentials import AccessToken
from azure.core.rest import HttpRequest
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.keyvault import KeyVaultManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keyleaf.access import authorization_failed, decide
from keyleaf.core.clock import ManualClock, SeededRandomness
from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Operation
from keyleaf.identity import create_managed_identity, create_tenant, find_by_object_id
from keyleaf.resources import load_assignments, load_roles, management_groups, operations
from keyleaf.store import Database, Keyring, schema

TENANT = "99999999-0000-0000-0000-000000000000"
SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"


@dataclass
class Host:
    """The database, the operations, and the socket."""

    database: Database
    clock: ManualClock
    operator: str
    randomness: SeededRandomness
    url: str = ""
    ca: str = ""
    clients: list[Any] = field(default_factory=list)

    def credential(self, object_id: str | None = None) -> Any:
        return StaticCredential(object_id or self.operator)

    def _options(self) -> dict[str, Any]:
        return {
            "base_url": self.url,
            "credential_scopes": [f"{self.url}/.default"],
            "connection_verify": self.ca,
            "retry_total": 0,
        }

    def rbac(self, object_id: str | None = None) -> AuthorizationManagementClient:
        client = AuthorizationManagementClient(self.credential(object_id), SUBSCRIPTION, **self._options())
        self.clients.append(client)
        return client

    def identities(self, object_id: str | None = None) -> ManagedServiceIdentityClient:
        client = ManagedServiceIdentityClient(self.credential(object_id), SUBSCRIPTION, **self._options())
        self.clients.append(client)
        return client

    def vaults(self, object_id: str | None = None) -> KeyVaultManagementClient:
        client = KeyVaultManagementClient(self.credential(object_id), SUBSCRIPTION, **self._options())
        self.clients.append(client)
        return client

    def principal(self, name: str) -> str:
        """A new managed identity in group ``shop``; its object id."""
        with self.database.write() as conn:
            made = create_managed_identity(
                conn,
                tenant_id=TENANT,
                resource_id=f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
                location="local",
                tags={},
                randomness=self.randomness,
                now=self.clock.now(),
            )
        return made.object_id

    def grant(self, scope: str, role: str, principal: str, condition: str | None = None) -> str:
        """Write a role assignment past the API; its GUID."""
        guid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}|{role}|{principal}"))
        prefix = "" if scope == "/" else scope
        with self.database.write() as conn:
            conn.execute(
                schema.role_assignment.insert().values(
                    key=f"{prefix}/providers/microsoft.authorization/roleassignments/{guid}".lower(),
                    id=guid,
                    scope=scope,
                    scope_key=scope.lower(),
                    principal_id=principal.lower(),
                    role_definition_id=role,
                    condition=condition,
                    condition_version="2.0" if condition else None,
                    created=int(self.clock.now()),
                    updated=int(self.clock.now()),
                )
            )
        return guid

    def send(self, method: str, path: str, body: object = None, object_id: str | None = None) -> Any:
        """A request through the pipeline of Microsoft's client, for what its typed methods do not cover."""
        request = HttpRequest(method, f"{path}{'&' if '?' in path else '?'}api-version=2022-04-01", json=body)
        return self.vaults(object_id).send_request(request)


@dataclass
class StaticCredential:
    """Stands for a signed-in principal: its token is its object id."""

    object_id: str

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self.object_id, int(time.time()) + 3600)


class Router:
    """Finds the operation of a request; ARM's paths have no case."""

    def __init__(self, offered: list[Operation]) -> None:
        self.entries = [(operation, self._compile(operation.pattern)) for operation in offered]

    @staticmethod
    def _compile(pattern: str) -> re.Pattern[str]:
        text = "".join(
            f"(?P<{part[1:-1]}>[^/]+)" if part.startswith("{") else re.escape(part)
            for part in re.split(r"(\{\w+\})", pattern)
        )
        return re.compile(text + r"/?\Z", re.IGNORECASE)

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        for operation, pattern in self.entries:
            match = pattern.match(path)
            if match and operation.method == method:
                return operation, {name: unquote(value) for name, value in match.groupdict().items()}
        raise ServiceError(404, "InvalidResourceType", f"{method} {path}")


def _answer(host: Host, router: Router, method: str, target: str, headers: Any, body: bytes) -> tuple[int, bytes]:
    try:
        url = urlsplit(target)
        operation, path = router.find(method, re.sub(r"/{2,}", "/", url.path))
        query = {name.lower(): value for name, value in parse_qsl(url.query)}
        if "api-version" not in query:
            raise ServiceError(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
        object_id = headers["Authorization"].removeprefix("Bearer ")
        opened = host.database.write() if operation.mutates else host.database.read()
        with opened as conn:
            row = find_by_object_id(conn, object_id)
            assert row is not None
            principal = row.as_principal()
            call = Call(
                method, principal, path, query, {}, body, host.url, vault="", now=host.clock.now(), request_id="r"
            )
            if operation.access == "demand":
                assert operation.demand is not None
                demand = operation.demand(conn, call)
                own = load_assignments(conn, object_id)
                decision = decide(demand, object_id, own, load_roles(conn), management_groups(conn))
                if not decision.allowed:
                    text = authorization_failed(principal, demand.action, demand.scope)
                    raise ServiceError(403, "AuthorizationFailed", text)
            reply = operation.handler(conn, call)
        return reply.status, b"" if reply.body is None else json.dumps(reply.body).encode()
    except ServiceError as error:
        return error.status, json.dumps(error.body()).encode()


def _handler(host: Host, router: Router) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = _answer(host, router, self.command, self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_PATCH = do_POST = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty state database with the schema, on SQLite and on Postgres."""
    opened = Database.open(database_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def host(database: Database, certificate: tuple[Path, Path]) -> Iterator[Host]:
    """A served ARM with one tenant, two subscriptions below management groups, group ``shop``, and an operator."""
    randomness = SeededRandomness(7)
    made = Host(database, ManualClock(), "", randomness)
    with database.write() as conn:
        create_tenant(conn, TENANT, "example")
        for name, parent in (("company", None), ("team", "company")):
            conn.execute(schema.management_group.insert().values(name=name, parent=parent))
        for guid, group in ((SUBSCRIPTION, "team"), (OTHER_SUBSCRIPTION, "company")):
            conn.execute(
                schema.subscription.insert().values(id=guid, tenant_id=TENANT, management_group=group, name="local")
            )
        conn.execute(
            schema.resource_group.insert().values(
                key=GROUP.lower(), subscription=SUBSCRIPTION, name="shop", location="local", tags="{}"
            )
        )
    made.operator = made.principal("operator")
    made.grant("/", OWNER, made.operator)
    router = Router(
        operations(Keyring(b"k" * 32, randomness), randomness, lambda name: f"https://{name}.vault.test:8443/")
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(made, router))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.url = f"https://127.0.0.1:{server.server_port}"
    made.ca = str(certificate[0])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    for client in made.clients:
        client.close()
    server.shutdown()
    server.server_close()
    thread.join(5)
