"""Engines for the tests of this room."""

from __future__ import annotations

import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend
from flows_of_tests import FLOWS, JOURNAL

from client.simulated_vault import SimulatedVault
from keyleaf import Worker
from keyleaf.core.clock import SystemClock

ENVIRONMENT = {"KEYLEAF_VAULTS": "payments=https://payments.vault.azure.net,ops=https://ops.vault.azure.net"}
PAYMENTS = "https://payments.vault.azure.net"
OPS = "https://ops.vault.azure.net"
PAYLOAD_KEY = "cGF5bG9hZCBrZXkgb2YgdGhlIHRlc3RzLCAzMiBieXRlcw=="

MakeWorker = Callable[..., AbstractAsyncContextManager[Worker]]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def durable_url() -> Iterator[str]:
    """The Durable Task SDK's own backend, over gRPC."""
    backend = InMemoryOrchestrationBackend(port=_free_port())
    backend.start()
    yield f"durabletask://127.0.0.1:{backend._port}"
    backend.stop(grace=0)


@pytest.fixture
def postgres_url(postgres_socket: Path) -> str:
    """An empty database on PostgreSQL."""
    name = f"flows_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={postgres_socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://postgres@/{name}?host={postgres_socket}"


@pytest.fixture(
    params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "durabletask"],
)
def orchestrator(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty engine: each test of it runs on every engine."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flows.sqlite'}"
    name = "postgres_url" if request.param == "postgresql" else "durable_url"
    return str(request.getfixturevalue(name))


@pytest.fixture
def vault() -> SimulatedVault:
    """A vault in memory with a secret and the payload key."""
    vault = SimulatedVault(SystemClock(), latency=0.001)
    vault.put(PAYMENTS, "portal", "s3cr3t-canary-value")
    vault.put(OPS, "payload-key", PAYLOAD_KEY)
    return vault


@pytest.fixture
def make_worker(vault: SimulatedVault) -> MakeWorker:
    """Makes a worker on an engine."""

    @asynccontextmanager
    async def make(url: str, **options: Any) -> AsyncIterator[Worker]:
        options = {
            "registry": FLOWS,
            "payload_key": "ops/payload-key",
            "connection": vault,
            "environment": ENVIRONMENT,
            **options,
        }
        async with Worker(url, **options) as worker:
            yield worker

    return make


@pytest.fixture(autouse=True)
def _empty_journal() -> None:
    JOURNAL.entries.clear()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def dbos_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty engine on DBOS: what Durable Task refuses runs on these."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'flows.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))
