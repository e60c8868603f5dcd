"""Fixtures of the identity tests."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from identity_support import TENANT, ExternalIssuer, Host, Installation, certificate, pem_of, publish

from keyleaf.core.clock import ManualClock, SystemClock
from keyleaf.store import Database, sqlite_url


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(sqlite_url(tmp_path / "state.db"))
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def installation(database: Database, clock: ManualClock) -> Installation:
    return Installation(database, clock, "https://login.example")


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    ca_key, server_key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    ca = certificate("test CA", ca_key, None)
    server = certificate("127.0.0.1", server_key, (ca.subject, ca_key))
    paths = {name: folder / f"{name}.pem" for name in ("ca", "bundle", "server", "key")}
    authority = ca.public_bytes(serialization.Encoding.PEM)
    paths["ca"].write_bytes(authority)
    paths["bundle"].write_bytes(Path(certifi.where()).read_bytes() + b"\n" + authority)
    paths["server"].write_bytes(server.public_bytes(serialization.Encoding.PEM))
    paths["key"].write_bytes(pem_of(server_key))
    return paths


@pytest.fixture(scope="session")
def tls_host(tls: dict[str, Path]) -> Iterator[Host]:
    listener = socket.create_server(("127.0.0.1", 0))
    host = Host(listener.getsockname()[1])
    config = uvicorn.Config(
        host,
        ssl_certfile=tls["server"],
        ssl_keyfile=tls["key"],
        log_level="error",
        lifespan="off",
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    yield host
    server.force_exit = server.should_exit = True
    thread.join(10)


@pytest.fixture
def served(
    tls_host: Host, tls: dict[str, Path], database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    """An installation behind TLS, and an environment that a client of it would have."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tls["bundle"]))
    monkeypatch.setenv("SSL_CERT_FILE", str(tls["bundle"]))
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", tls_host.base)
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    tls_host.installation = Installation(database, SystemClock(), tls_host.base, tls["ca"])
    tls_host.static.clear()
    tls_host.seen.clear()
    yield tls_host.installation
    tls_host.installation = None


@pytest.fixture
def issuer(tls_host: Host) -> ExternalIssuer:
    """An issuer whose documents lie beside the token service, as static files."""
    made = ExternalIssuer(f"{tls_host.base}/oidc/local")
    publish(tls_host, made)
    return made
