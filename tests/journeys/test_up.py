"""``keyleaf up`` on the example shop, as a person runs it."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from up_running import Up, processes_naming, run

SHOP = Path(__file__).parents[2] / "examples" / "shop"
READ = (
    "import os;from azure.identity import DefaultAzureCredential as D;"
    "from azure.keyvault.secrets import SecretClient as S;"
    "print(S(os.environ['AZURE_KEYVAULT_URL'],D()).get_secret('orders-db').properties.version);raise SystemExit(7)"
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journey") / "state"


@pytest.fixture(scope="module")
def first(shop: Path, state: Path) -> dict[str, Any]:
    """What the first ``--once`` tells."""
    return json.loads(run("up", str(shop), "--once", "--json", "--state", str(state)))


@pytest.fixture(scope="module")
def running(first: dict[str, Any], shop: Path, state: Path) -> Iterator[Up]:
    """The second start, on what the first left."""
    up = Up(shop, state)
    try:
        up.until_all("nothing to change", "come to rest")
        yield up
    finally:
        if up.process.poll() is None:
            up.stop(signal.SIGKILL)


def test_once_converges_and_proves_it(first: dict[str, Any], state: Path) -> None:
    proof = first["proof"]
    assert proof["holds"] and proof["pending_changes"] == proof["errors"] == 0
    assert proof["matrix"]["declared_read"] == 16
    assert proof["matrix"]["declared_read"] + proof["matrix"]["undeclared_refused"] == proof["matrix"]["pairs"] == 120
    applications = {app["name"]: app for app in first["applications"]}
    assert len(applications) == 15
    assert all(app["health"] == "Healthy" and app["sync"] == "Synced" for app in applications.values())
    assert {app["namespace"] for app in applications.values()} >= {"shop-web-dev", "shop-payments-dev", "shop-ops-dev"}
    auditor = {entry["secret"]: entry for entry in applications["auditor-dev"]["secrets"]}
    assert auditor["payments-api-key"] == {
        "vault": "kv-shop-dev",
        "secret": "payments-api-key",
        "declared": False,
        "status": 403,
    }
    declared = {
        (a["name"], e["secret"]): e["status"] for a in first["applications"] for e in a["secrets"] if e["declared"]
    }
    # What activities and calls alone read has not been read yet: nobody has ordered anything.
    unread = {(name, secret) for (name, secret), status in declared.items() if status == 0}
    assert {name for name, _ in unread} <= {"fulfilment-dev", "warehouse-dev"}
    assert len(declared) == 16 and set(declared.values()) == {0, 200}
    assert processes_naming(str(state)) == []


def test_the_second_start_has_lost_nothing(running: Up, state: Path) -> None:
    """That it had nothing to change and nothing to seed is what the fixture waited for."""
    output = run("run", "--state", str(state), "--as", "orders-dev", "--", "python3", "-c", READ, code=7)
    assert re.search(r"^[0-9a-f]{32}$", output, re.MULTILINE)


def test_an_application_sees_its_own_secrets_only(running: Up, state: Path) -> None:
    output = run("run", "--state", str(state), "--as", "provider-dev", "--", "python3", "-c", READ, code=1)
    assert "ForbiddenByRbac" in output or "Forbidden" in output


def test_run_hands_on_exit_codes_and_no_operator(running: Up, state: Path) -> None:
    environment = run("run", "--state", str(state), "--as", "orders-dev", "--", "env")
    operator = json.loads((state / "connection.json").read_text())["operator_client_id"]
    assert "AZURE_CLIENT_ID=" in environment and operator not in environment
    assert "no such program" in run("run", "--state", str(state), "--as", "orders-dev", "--", "no-such-one", code=127)
    assert "no Application 'nobody'" in run("run", "--state", str(state), "--as", "nobody", "--", "env", code=2)


def test_the_shop_sells(running: Up, state: Path) -> None:
    ports = json.loads((state / "app-ports.json").read_text())
    where = {key.split("#")[0].split("/", 1)[0]: port for key, port in ports.items()}

    def ask(application: str, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{where[application]}{path}", timeout=10) as answer:
            return json.load(answer)

    assert ask("storefront-dev", "/buy") == {"charged": True}
    assert ask("storefront-staging", "/buy") == {"charged": True}
    assert [order["item"] for order in ask("orders-dev", "/orders")] == ["a kettle", "a lamp"]
    assert len(ask("signer-dev", "/sign")["signature"]) > 100
    declared, undeclared = ask("auditor-dev", "/report")
    assert (declared["status"], undeclared["status"]) == (200, 403)
    assert "is not authorized" in undeclared["reason"]


def test_a_second_up_is_told_who_is_there(running: Up, shop: Path, state: Path) -> None:
    output = run("up", str(shop), "--state", str(state), code=3)
    assert f"pid {running.process.pid}" in output
    assert running.process.poll() is None


def pids_by_program(state: Path) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for process in processes_naming(str(state)):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        for word in words:
            if word.endswith(b".py") and b"/" not in word:
                found.setdefault(word.decode(), set()).add(process)
    return found


def test_a_saved_manifest_restarts_only_what_it_affects(running: Up, shop: Path, state: Path) -> None:
    before = pids_by_program(state)
    manifest = shop / "apps" / "dev" / "orders" / "orders.yaml"
    began = time.monotonic()
    manifest.write_text(
        manifest.read_text().replace("          env:\n", "          env:\n            - {name: N, value: x}\n", 1)
    )
    assert running.until("change carried out").endswith("orders-dev")
    assert time.monotonic() - began < 2
    running.until("orders-dev: Healthy")
    after = pids_by_program(state)
    assert {program for program in before if before[program] != after.get(program)} == {"orders.py"}


def test_a_tree_that_breaks_stops_nothing(running: Up, shop: Path, state: Path) -> None:
    before = pids_by_program(state)
    manifest = shop / "apps" / "dev" / "signer" / "signer.yaml"
    good = manifest.read_text()
    manifest.write_text(good.replace("python3, -u, signer.py", "python3, -u, nowhere.py"))
    running.until("change carried out")
    running.until("signer-dev: Degraded")
    manifest.write_text(good)
    running.until("change carried out")
    running.until("signer-dev: Healthy")
    after = pids_by_program(state)
    assert {program for program in before if before[program] != after.get(program)} <= {"signer.py"}


def test_control_c_leaves_no_process(running: Up, state: Path) -> None:
    assert len(processes_naming(str(state))) > 10
    assert running.stop() == 0
    assert processes_naming(str(state)) == []


def test_a_killed_up_leaves_no_process_and_loses_nothing(running: Up, shop: Path, state: Path) -> None:
    again = Up(shop, state)
    again.until_all("nothing to change", "come to rest")
    again.stop(signal.SIGKILL)
    end = time.monotonic() + 15
    while processes_naming(str(state)):
        assert time.monotonic() < end, "something outlived keyleaf up"
        time.sleep(0.05)
    third = Up(shop, state)
    third.until("nothing to change")
    assert third.stop(signal.SIGTERM) == 0
