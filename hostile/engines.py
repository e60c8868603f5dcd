"""The stores that are searched: where each engine keeps what it keeps, as bytes."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import durabletask.internal.orchestrator_service_pb2 as protocol
import psycopg
from durabletask.client import OrchestrationQuery, TaskHubGrpcClient
from durabletask.history import to_dict

ENGINES = ("sqlite", "postgres", "durabletask")
_QUIET = logging.getLogger("hostile.search")
_QUIET.setLevel(logging.CRITICAL)


class Store(Protocol):
    """Where an engine keeps things.

    Attributes:
        url: for ``KEYLEAF_ORCHESTRATOR``.
    """

    url: str

    def content(self) -> Iterator[tuple[str, bytes]]:
        """Everything in it, by place."""
        ...


class Sqlite:
    """A file, its write-ahead log and its shared memory."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "flows.sqlite"
        self.url = f"sqlite:///{self._file}"

    def content(self) -> Iterator[tuple[str, bytes]]:
        for ending in ("", "-wal", "-shm", ".worker"):
            file = self._file.with_name(self._file.name + ending)
            if file.exists():
                yield f"flows.sqlite{ending}", file.read_bytes()


class Postgres:
    """The data directory of a server of its own, its write-ahead log included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"postgresql://postgres@/flows?host={folder}"

    def content(self) -> Iterator[tuple[str, bytes]]:
        with psycopg.connect(f"host={self._folder} user=postgres dbname=flows", autocommit=True) as connection:
            connection.execute("CHECKPOINT")
        for file in sorted((self._folder / "data").rglob("*")):
            if file.is_file() and not file.is_symlink():
                place = file.relative_to(self._folder / "data").parts[0]
                try:
                    yield place, file.read_bytes()
                except FileNotFoundError:
                    continue
        yield "server's log", (self._folder / "log").read_bytes()


class DurableTask:
    """All that the backend tells of its instances: states and histories, as JSON and as they are on the wire."""

    def __init__(self, port: int, log: Path) -> None:
        self._host = f"127.0.0.1:{port}"
        self._log = log
        self.url = f"durabletask://{self._host}"

    def content(self) -> Iterator[tuple[str, bytes]]:
        client = TaskHubGrpcClient(host_address=self._host, logger=_QUIET, emit_trace_spans=False)
        try:
            for state in client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True)):
                yield "states", json.dumps(vars(state), default=str).encode()
                events = client.get_orchestration_history(state.instance_id)
                yield "histories", json.dumps([to_dict(event) for event in events], default=str).encode()
                asked: Any = protocol.GetInstanceRequest(instanceId=state.instance_id, getInputsAndOutputs=True)
                yield "states on the wire", client._stub.GetInstance(asked).SerializeToString()
                wanted: Any = protocol.StreamInstanceHistoryRequest(
                    instanceId=state.instance_id, forWorkItemProcessing=False
                )
                for chunk in client._stub.StreamInstanceHistory(wanted):
                    yield "histories on the wire", chunk.SerializeToString()
        finally:
            client.close()
        yield "backend's log", self._log.read_bytes()


@contextmanager
def store(engine: str, folder: Path) -> Iterator[Store]:
    """An empty store of an engine."""
    if engine == "sqlite":
        yield Sqlite(folder)
    elif engine == "postgres":
        with _postgres(folder) as made:
            yield made
    else:
        with _durable_task(folder) as backend:
            yield backend


@contextmanager
def _durable_task(folder: Path) -> Iterator[DurableTask]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    log = folder / "backend.log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "hostile.backend", str(port)], stdout=output, stderr=output)
    try:
        end = time.monotonic() + 30
        while b"ready" not in log.read_bytes():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the backend did not start: {log.read_text()}")
            time.sleep(0.05)
        yield DurableTask(port, log)
    finally:
        process.kill()
        process.wait()


@contextmanager
def _postgres(folder: Path) -> Iterator[Postgres]:
    on_path = shutil.which("initdb")
    found = [Path(on_path)] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise SystemExit("PostgreSQL's server programs are not installed")
    binaries = found[-1].parent
    account = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    folder.chmod(0o777)
    data = str(folder / "data")

    def run(program: str, *words: str, check: bool = True) -> None:
        subprocess.run([*account, str(binaries / program), *words], check=check, stdout=subprocess.DEVNULL)

    run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
    options = f"-k {folder} -c listen_addresses='' -c max_connections=200 -c log_statement=all"
    try:
        run("pg_ctl", "-D", data, "-w", "-s", "-l", str(folder / "log"), "-o", options, "start")
        with psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE flows")
        yield Postgres(folder)
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-s", "stop", check=False)
