"""Fixtures of the identity tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
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
from keyleaf.core.errors import StateError
from keyleaf.store import Database, raw_connection, schema, sqlite_url

ON_BOTH = frozenset({"test_identity_directory", "test_identity_signing_keys", "test_identity_token_endpoint"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What rests on the database's behaviour runs on both; the rest on SQLite alone."""
    if "database" in metafunc.fixturenames and metafunc.module.__name__ in ON_BOTH:
        both = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
        metafunc.parametrize("database", both, indirect=True)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the schema and nothing in it, to be copied."""
    path = tmp_path_factory.mktemp("template") / "state.db"
    opened = Database.open(sqlite_url(path))
    opened.migrate()
    with opened.read() as conn:
        raw_connection(conn).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    opened.close()
    return path


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A Postgres server of its own on a Unix socket, with the schema."""
    places = os.pathsep.join([os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))])
    initdb, server = (shutil.which(name, path=places) for name in ("initdb", "postgres"))
    if initdb is None or server is None:
        pytest.skip("PostgreSQL's server binaries are not installed")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        # PostgreSQL does not run as root, which a container's user often is.
        user = {"user": "nobody"} if os.geteuid() == 0 else {}
        if user:
            shutil.chown(folder, "nobody")
        create = [initdb, "-D", data, "-U", "keyleaf", "-A", "trust"]
        made = subprocess.run(create, capture_output=True, check=False, cwd=folder, **user)
        if made.returncode:
            pytest.skip(f"initdb: {made.stderr.decode()[:200]}")
        options = ["-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen([server, "-D", data, *options], cwd=folder, **quiet, **user)
        try:
            database = _connected(f"postgresql://keyleaf@/postgres?host={folder}", process)
            database.migrate()
            yield database
            database.close()
        finally:
            process.terminate()
            process.wait(20)


def _connected(url: str, process: subprocess.Popen[bytes]) -> Database:
    deadline = time.monotonic() + 20
    while True:
        try:
            return Database.open(url)
        except StateError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """An empty database; SQLite unless the test is asked to run on both."""
    if getattr(request, "param", "sqlite") == "postgresql":
        opened: Database = request.getfixturevalue("postgres")
        with opened.write() as conn:
            for table in reversed(schema.metadata.sorted_tables):
                if table.name != "meta":
                    conn.execute(table.delete())
        yield opened
        return
    shutil.copy(migrated_file, tmp_path / "state.db")
    opened = Database.open(sqlite_url(tmp_path / "state.db"))
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
