"""``kill -9`` of a real server at random moments, under write load from several clients.

Each client notes what it was told: the version of every write that was answered with 200, and the request id of every
answer at all. The server is killed, started again on the same state, and asked: every noted version has to be readable
with its value, every noted request has to have its record, and the log has to verify, also against the checkpoint that
the server keeps beside the database.
"""

from __future__ import annotations

import json
import os
import random
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from conformance.subject import READY_SECONDS, Operator

from keyleaf.ledger import connect, copy_of, query, snapshot, verify
from keyleaf.ledger.reader import Filter
from keyleaf.store import sqlite_url

CLIENTS = 4
API = "api-version=2026-04-01"
_LONGEST_WAIT = 20.0


@dataclass
class Figures:
    """What the kills did.

    Attributes:
        writes / reads: acknowledged ones.
        problems: what was found, and how often.
    """

    kills: int = 0
    writes: int = 0
    reads: int = 0
    problems: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Write:
    """An acknowledged write."""

    url: str
    value: str


@dataclass
class _Noted:
    """What the clients of one round were told."""

    writes: list[_Write] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    reads: int = 0
    change: threading.Condition = field(default_factory=threading.Condition)

    def note(self, request_id: str, write: _Write | None = None) -> None:
        with self.change:
            self.requests.append(request_id)
            if write is None:
                self.reads += 1
            else:
                self.writes.append(write)
            self.change.notify_all()

    def wait_for(self, count: int) -> None:
        """Wait until so many answers have come."""
        with self.change:
            if not self.change.wait_for(lambda: len(self.requests) >= count, _LONGEST_WAIT):
                raise SystemExit("the server answers nobody")


@dataclass(frozen=True)
class _Access:
    """How clients reach the vault."""

    context: ssl.SSLContext
    token: str
    vault: str

    def client(self) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.Client(verify=self.context, trust_env=False, headers=headers, timeout=_LONGEST_WAIT)


def kills(count: int, *, seed: int = 0, answers_first: bool = False) -> Figures:
    """Kill a server ``count`` times.

    Args:
        answers_first: the negative control: a build that answers before it logs, which must be caught.
    """
    chance, figures = random.Random(seed), Figures()
    with tempfile.TemporaryDirectory(prefix="keyleaf-kill-") as folder:
        state = Path(folder) / "state"
        process, access = _start(state, answers_first), None
        try:
            access = _furnish(state)
            everything: list[_Write] = []
            for number in range(count):
                noted = _round(process, access, chance, number)
                figures.kills += 1
                figures.writes += len(noted.writes)
                figures.reads += noted.reads
                everything += noted.writes
                process = _start(state, answers_first)
                figures.problems.update(_missing_versions(access, noted.writes))
                figures.problems.update(_misfits(state, noted.requests))
            # What has survived one kill has to survive all of them.
            figures.problems.update(_missing_versions(access, chance.sample(everything, min(200, len(everything)))))
        finally:
            process.kill()
            process.wait()
    return figures


def _start(state: Path, answers_first: bool) -> subprocess.Popen[bytes]:
    """Start a server and wait until it is ready."""
    module = "crash.answers_first" if answers_first else "keyleaf"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KEYLEAF_")}
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, "-m", module, "serve", "--state", str(state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    killer = threading.Timer(READY_SECONDS, process.kill)
    killer.start()
    line = process.stdout.readline()
    killer.cancel()
    if not line.startswith(b"ready"):
        raise SystemExit(f"keyleaf serve ended with {process.wait()}")
    return process


def _furnish(state: Path) -> _Access:
    """Make a vault; returns how to reach it. Its port and the token outlive the server."""
    connection = json.loads((state / "connection.json").read_text())
    operator = Operator(state, connection)
    vault = operator.vault("kv-kill")["properties"]["vaultUri"].rstrip("/")
    token = operator.token("https://vault.azure.net")
    return _Access(ssl.create_default_context(cafile=connection["ca_bundle"]), token, vault)


def _round(process: subprocess.Popen[bytes], access: _Access, chance: random.Random, number: int) -> _Noted:
    """Load the server from several clients, and kill it at a random moment."""
    noted = _Noted()
    clients = [
        threading.Thread(target=_load, args=(access, noted, f"r{number}-c{n}", chance.randrange(1 << 30)))
        for n in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    noted.wait_for(chance.randint(1, 120))
    time.sleep(chance.random() * 0.01)  # not only right after an answer
    process.send_signal(signal.SIGKILL)
    process.wait()
    for client in clients:
        client.join()
    return noted


def _load(access: _Access, noted: _Noted, name: str, seed: int) -> None:
    """One client: writes mostly, some reads, until nobody answers."""
    chance = random.Random(seed)
    with access.client() as http:
        turn = 0
        while True:
            turn += 1
            secret = f"{access.vault}/secrets/{name}-{turn % 3}"
            try:
                if chance.random() < 0.6:
                    value = chance.randbytes(chance.choice((8, 300, 5000))).hex()
                    answer = http.put(f"{secret}?{API}", json={"value": value})
                    if answer.status_code == 200:
                        version = answer.json()["id"].rsplit("/", 1)[1]
                        noted.note(answer.headers["x-ms-request-id"], _Write(f"{secret}/{version}", value))
                        continue
                else:
                    # The name that is not there takes the long way, the one that is may take the short one.
                    answer = http.get(f"{secret}{chance.choice(('', '-none'))}?{API}")
                noted.note(answer.headers["x-ms-request-id"])
            except httpx2.HTTPError:
                return


def _missing_versions(access: _Access, writes: list[_Write]) -> list[str]:
    problems: list[str] = []
    with access.client() as http:
        for write in writes:
            answer = http.get(f"{write.url}?{API}")
            if answer.status_code != 200:
                problems.append(f"an acknowledged version answers {answer.status_code}")
            elif answer.json()["value"] != write.value:
                problems.append("an acknowledged version has another value")
    return problems


def _misfits(state: Path, requests: list[str]) -> list[str]:
    """What the log lacks, beside the running server."""
    vkey = (state / "ledger.vkey").read_text().strip()
    kept = state / "ledger.checkpoint"
    anchors = [kept.read_text()] if kept.exists() else []
    connection = connect(sqlite_url(state / "state.db"), read_only=True)
    try:
        with snapshot(connection):
            report = verify(copy_of(connection, vkey), anchors)
            there = {record.request_id for record in query(connection, Filter())}
    finally:
        connection.close()
    problems = ["an acknowledged request has no record" for request_id in requests if request_id not in there]
    return problems + ([f"the log does not verify: {report.problem}"] if report.problem else [])
