"""An Orchestration of a tree under ``keyleaf up``: its worker, its secrets, its engine, and what restarts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from up_running import Up, processes_naming, run

ROOT = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: fulfilment-dev}
spec:
  project: default
  source: {repoURL: https://git.example/flows.git, path: apps/fulfilment}
  destination: {server: https://kubernetes.default.svc, namespace: orders}
"""
FLOW = """apiVersion: keyleaf.dev/v1alpha1
kind: Orchestration
metadata: {name: fulfilment}
spec:
  module: fulfilment
  path: ../../programs
  serviceAccountName: fulfilment
  vault: kv-orders
  payloadKey: fulfilment-payload-key
  owner: the warehouse
  purpose: ships orders
  secrets: [payments-api-key]
---
apiVersion: keyleaf.dev/v1alpha1
kind: SecretSeed
metadata: {name: fulfilment}
spec:
  vault: kv-orders
  secrets:
    - {name: fulfilment-payload-key, generate: 32}
    - {name: payments-api-key}
"""
MODULE = """from wording import GREETING

from keyleaf import Secret, activity, orchestration, secret


@activity(secrets={"key": secret("payments-api-key")})
async def charge(amount: int, key: Secret) -> str:
    return f"{GREETING}, {amount} charged with a key of {len(key.reveal())} characters"


@orchestration
async def fulfil(amount: int) -> str:
    return await charge(amount)
"""
# Acts on the engine from outside, by what flow.json says and with the operator's own identity.
FULFIL = """
import importlib, json, sys, time
from pathlib import Path
from keyleaf.cli.session import Options, connect
from keyleaf.orchestrate.definitions import REGISTRY
from keyleaf.orchestrate.engines.base import ENDED
from keyleaf.orchestrate.engines.opening import open_control
from keyleaf.orchestrate.payload import PayloadCodec
from keyleaf.orchestrate.worker import new_start, result_of

state, instance = Path(sys.argv[1]), sys.argv[2]
flow = json.loads((state / "flows" / "orders.fulfilment" / "flow.json").read_bytes())
vault, name = flow["payloadKey"].split("/")
key = connect(options=Options(state)).secret_client(vault).get_secret(name)
codec = PayloadCodec({key.properties.version: key.value})
sys.path.insert(0, flow["path"])
importlib.import_module(flow["module"])
control = open_control(flow["orchestrator"])
control.start(instance, new_start(REGISTRY.orchestration("fulfil"), instance, (3,), {}, {}, codec, time.time()), "")
end = time.monotonic() + 30
while (view := control.get(instance)) is None or view.state not in ENDED:
    assert time.monotonic() < end, view
    time.sleep(0.05)
print(result_of(view, codec, REGISTRY))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flows") / "tree"
    files = {"root.yaml": ROOT, "apps/fulfilment/flow.yaml": FLOW}
    files |= {"programs/fulfilment.py": MODULE, "programs/wording.py": "GREETING = 'hello'\n", "programs/other.py": ""}
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flows") / "state"


@pytest.fixture(scope="module")
def first(folder: Path, state: Path) -> dict[str, Any]:
    """What the first ``--once`` tells."""
    return json.loads(run("up", str(folder), "--once", "--json", "--state", str(state)))


@pytest.fixture(scope="module")
def running(first: dict[str, Any], folder: Path, state: Path) -> Iterator[Up]:
    """The second start, on what the first left."""
    up = Up(folder, state)
    try:
        up.until_all("nothing to change", "come to rest")
        yield up
    finally:
        if up.process.poll() is None:
            up.stop(signal.SIGKILL)


def fulfil(state: Path, instance: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FULFIL, str(state), instance], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_it_is_one_more_child_with_an_identity_of_its_own(first: dict[str, Any], state: Path) -> None:
    proof = first["proof"]
    assert proof["holds"] and proof["matrix"]["declared_read"] == proof["matrix"]["pairs"] == 2
    (application,) = first["applications"]
    assert (application["identity"], application["health"]) == ("id-fulfilment-dev", "Healthy")
    (workload,) = application["workloads"]
    assert (workload["kind"], workload["name"], workload["health"]) == ("Orchestration", "fulfilment", "Healthy")
    assert workload["pods"][0]["containers"]["worker"]["ready"] and workload["restarts"] == 0
    read = {entry["secret"]: (entry["declared"], entry["status"]) for entry in application["secrets"]}
    # The worker has read its payload key already; the other secret is for activities, and none has run.
    assert read == {"fulfilment-payload-key": (True, 200), "payments-api-key": (True, 0)}
    assert first["not_run"] == []
    assert processes_naming(str(state)) == []


def test_activities_read_as_the_orchestration_and_who_acts_finds_the_engine(running: Up, state: Path) -> None:
    assert fulfil(state, "order-1") == "hello, 3 charged with a key of 32 characters"
    readers = json.loads(run("who", "kv-orders/payments-api-key", "--json", "--state", str(state)))
    declared = {reader["identity"]: [one["by"] for one in reader["declared"]] for reader in readers["readers"]}
    assert {name: by for name, by in declared.items() if by} == {"id-fulfilment-dev": ["Orchestration/fulfilment"]}


def test_a_saved_module_restarts_it_and_what_it_does_not_import_does_not(
    running: Up, folder: Path, state: Path
) -> None:
    (folder / "programs" / "other.py").write_text("changed = 1\n")
    (folder / "programs" / "wording.py").write_text("GREETING = 'good day'\n")
    assert running.until("change carried out").endswith(": fulfilment-dev")
    running.until("fulfilment-dev: Healthy")
    assert fulfil(state, "order-2") == "good day, 3 charged with a key of 32 characters"


def test_taking_it_away_keeps_its_instances(running: Up, folder: Path, state: Path) -> None:
    directory = state / "flows" / "orders.fulfilment"
    assert (directory.stat().st_mode & 0o777, (directory / "flows.sqlite").stat().st_mode & 0o777) == (0o700, 0o600)
    (folder / "apps" / "fulfilment" / "flow.yaml").write_text(FLOW.split("---\n", 1)[1])
    running.until("change carried out")
    assert not (directory / "flow.json").exists() and (directory / "flows.sqlite").exists()
    assert running.stop() == 0
    assert processes_naming(str(state)) == []
