"""Orchestrations as workloads: what their worker is given, where they are described, and what restarts them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runtime_trees import ENDPOINTS, MemoryFetcher, application, deployment, manifests, running, tree, until

from keyleaf.core.errors import StateError
from keyleaf.core.location import Location
from keyleaf.runtime import Endpoints, Health, RunSpec, WorkloadSpec, run_spec
from keyleaf.runtime.flows import describe_flows, flow_directory, worker_environment
from keyleaf.runtime.imports import module_files
from keyleaf.runtime.specs import Probe
from keyleaf.tree.model import AppTree, Orchestration, Unknown

MANIFEST = """apiVersion: keyleaf.dev/v1alpha1
kind: Orchestration
metadata: {name: fulfilment}
spec: {module: fulfilment}
"""
FLOW = Orchestration(
    "fulfilment",
    "shop",
    "web",
    Location("web/all.yaml", 1),
    "fulfilment",
    "web",
    "kv-shop",
    "payload-key",
    "programs",
)
# Stands in for the worker: answers its probe, and writes down what it was given.
WORKER = """
import http.server, json, os, pathlib, sys
pathlib.Path(sys.argv[1]).write_text(json.dumps({"argv": sys.argv[2:], "cwd": os.getcwd(), **os.environ}))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/healthz" else 404); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(os.environ["KEYLEAF_HEALTH_PORT"])), Handler).serve_forever()
"""


def flow_tree(flow: Orchestration = FLOW, *more: Any) -> AppTree:
    return replace(tree(manifests(MANIFEST, flow.application), *more), orchestrations=(flow,))


def only(found: AppTree) -> WorkloadSpec:
    spec = run_spec(found, "/tree")
    assert not spec.not_run, spec.not_run
    return spec.workloads[0]


def reason(found: AppTree) -> str:
    spec = run_spec(found, "/tree")
    assert not spec.workloads
    (told,) = spec.not_run
    assert (told.kind, told.name) == ("Orchestration", "fulfilment")
    return told.reason


def standing_in(found: RunSpec, report: Path) -> RunSpec:
    """The same, with the stand-in for every worker; its arguments follow those of the worker."""

    def changed(spec: WorkloadSpec) -> WorkloadSpec:
        if spec.flow is None:
            return spec
        (worker,) = spec.containers
        argv = (worker.argv[0], "-c", WORKER, str(report), *worker.argv[1:])
        return replace(spec, containers=(replace(worker, argv=argv),), grace_seconds=5)

    return replace(found, workloads=tuple(map(changed, found.workloads)))


def test_the_worker() -> None:
    spec = only(flow_tree(replace(FLOW, replicas=2)))
    assert spec.key == "web/Orchestration/shop/fulfilment"
    assert (spec.identity, spec.service_account, spec.restart_policy, spec.replicas) == (True, "web", "Always", 2)
    (worker,) = spec.containers
    assert worker.argv == (
        sys.executable, "-m", "keyleaf.orchestrate", "--module", "fulfilment", "--path", "/tree/programs",
    )  # fmt: skip
    assert worker.working_directory == "/tree/web"
    assert worker.readiness == Probe("http", port="health", path="/healthz", period=5)


def test_without_a_path_the_module_has_to_be_importable() -> None:
    assert only(flow_tree(replace(FLOW, path=""))).containers[0].argv[-2:] == ("--module", "fulfilment")


def test_a_path_beside_the_tree() -> None:
    assert only(flow_tree(replace(FLOW, path="../src"))).containers[0].argv[-1] == "/src"


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (replace(FLOW, vault=Unknown("unresolved", "${V}", "nothing fills it in")), "spec.vault is not known"),
        (replace(FLOW, payload_key=Unknown("unresolved", "${K}", "nobody")), "spec.payloadKey is not known: nobody"),
        (replace(FLOW, orchestrator=Unknown("unresolved", "${E}", "nobody")), "spec.orchestrator is not known"),
        (replace(FLOW, orchestrator_secret=Unknown("unresolved", "${E}", "x")), "spec.orchestratorSecret is not"),
        (replace(FLOW, path=Unknown("remote", "x", "in another repository")), "in another repository"),
        (replace(FLOW, name="other"), "its findings say what"),
    ],
)
def test_what_is_not_known_is_not_run(flow: Orchestration, expected: str) -> None:
    assert expected in reason(flow_tree(flow))


def test_what_no_application_renders_is_not_run() -> None:
    (loose,) = (replace(manifest, application="") for manifest in manifests(MANIFEST))
    assert "no Application" in reason(replace(tree((loose,)), orchestrations=(replace(FLOW, application=""),)))


def test_a_resource_of_another_group_is_none_of_ours() -> None:
    other = tree(manifests(MANIFEST.replace("keyleaf.dev", "example.com")))
    assert run_spec(other, "/tree").workloads == run_spec(other, "/tree").not_run == ()


def test_where_the_engine_is(tmp_path: Path) -> None:
    own = worker_environment(only(flow_tree()), ENDPOINTS, tmp_path)
    assert own["KEYLEAF_ORCHESTRATOR"] == f"sqlite:///{tmp_path}/flows/shop.fulfilment/flows.sqlite"
    for flow in (replace(FLOW, orchestrator="durabletask://host:80"), replace(FLOW, orchestrator_secret="url")):
        assert "KEYLEAF_ORCHESTRATOR" not in worker_environment(only(flow_tree(flow)), ENDPOINTS, tmp_path)
    plain = run_spec(tree(deployment("web", "pass")), "/tree").workloads[0]
    assert worker_environment(plain, ENDPOINTS, tmp_path) == {}


@pytest.mark.asyncio
async def test_a_worker_gets_its_environment_and_becomes_ready(tmp_path: Path) -> None:
    flow = replace(
        FLOW,
        owner="call $(KEYLEAF_FLOW)",
        variables=(("PAYMENTS_URL", "http://db.shop.svc:8080/pay"), ("WHO", "$(KEYLEAF_FLOW)")),
    )
    db = deployment("db", "import time; time.sleep(60)", container={"ports": [{"containerPort": 8080}]})
    service = manifests(
        "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {selector: {app: db}, ports: [{port: 8080}]}\n",
        "db",
    )
    endpoints = replace(ENDPOINTS, vaults={"kv-shop": "https://127.0.0.1:2", "kv-other": "https://127.0.0.1:3"})
    for folder in ("web", "db", "programs"):
        (tmp_path / folder).mkdir()
    async with running(tmp_path) as supervised:
        spec = run_spec(flow_tree(flow, db, service), str(tmp_path))
        await supervised.apply(standing_in(spec, tmp_path / "report.json"), endpoints)
        await until(lambda: supervised.health("web")[0] is Health.HEALTHY)
        status = next(s for s in supervised.status() if s.spec.kind == "Orchestration")
        here = next(s for s in supervised.status() if s.spec.name == "db").pods[0].ports[8080]
        given = json.loads((tmp_path / "report.json").read_text())
    assert given["argv"] == [
        "-m", "keyleaf.orchestrate", "--module", "fulfilment", "--path", str(tmp_path / "programs"),
    ]  # fmt: skip
    assert given["cwd"] == str(tmp_path / "web")
    assert {name: text for name, text in given.items() if name.startswith("KEYLEAF_") and "SUPERVISOR" not in name} == {
        "KEYLEAF_APPLICATION": "web",
        "KEYLEAF_FLOW": "shop/fulfilment",
        "KEYLEAF_HEALTH_PORT": str(status.pods[0].ports[80]),
        "KEYLEAF_MOUNTS": given["KEYLEAF_MOUNTS"],
        "KEYLEAF_ORCHESTRATOR": f"sqlite:///{tmp_path}/flows/shop.fulfilment/flows.sqlite",
        "KEYLEAF_OWNER": "call $(KEYLEAF_FLOW)",
        "KEYLEAF_PAYLOAD_KEY": "kv-shop/payload-key",
        "KEYLEAF_VAULTS": "kv-other=https://127.0.0.1:3,kv-shop=https://127.0.0.1:2",
    }
    assert (given["AZURE_KEYVAULT_URL"], given["AZURE_CLIENT_ID"]) == ("https://127.0.0.1:2", "client-web")
    assert (given["PAYMENTS_URL"], given["WHO"]) == (f"http://127.0.0.1:{here}/pay", "shop/fulfilment")
    assert given["AZURE_FEDERATED_TOKEN_FILE"]


@pytest.mark.asyncio
async def test_an_engine_in_a_secret_is_read_as_the_worker(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    fetcher = MemoryFetcher(url="postgresql://orders:hunter2@host/flows")
    async with running(tmp_path, fetcher=fetcher) as supervised:
        spec = run_spec(flow_tree(replace(FLOW, path="", orchestrator_secret="url")), str(tmp_path))
        await supervised.apply(standing_in(spec, tmp_path / "report.json"), ENDPOINTS)
        await until(lambda: supervised.health("web")[0] is Health.HEALTHY)
        assert fetcher.asked == [("web", "url")]
    assert json.loads((tmp_path / "report.json").read_text())["KEYLEAF_ORCHESTRATOR"].endswith("hunter2@host/flows")
    described = (flow_directory(tmp_path, "shop", "fulfilment") / "flow.json").read_text()
    assert "hunter2" not in described
    assert (json.loads(described)["orchestrator"], json.loads(described)["orchestratorSecret"]) == ("", "kv-shop/url")


def test_an_engine_behind_a_service_is_described_where_it_is_here(tmp_path: Path) -> None:
    spec = only(flow_tree(replace(FLOW, orchestrator="postgresql://orders@postgres.data.svc:5432/flows")))
    describe_flows(tmp_path, [spec], ENDPOINTS, {"shop": [("postgres.data.svc:5432", "127.0.0.1:41000")]})
    described = json.loads((flow_directory(tmp_path, "shop", "fulfilment") / "flow.json").read_text())
    assert described["orchestrator"] == "postgresql://orders@127.0.0.1:41000/flows"


def test_a_state_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "flows").touch()
    with pytest.raises(StateError, match="flows cannot be written"):
        describe_flows(tmp_path, [only(flow_tree())], ENDPOINTS, {})


@pytest.mark.asyncio
async def test_flows_are_described_and_forgotten_but_their_store_stays(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    directory = flow_directory(tmp_path, "shop", "fulfilment")
    async with running(tmp_path) as supervised:
        spec = standing_in(run_spec(flow_tree(), str(tmp_path)), tmp_path / "report.json")
        await supervised.apply(spec, ENDPOINTS)
        assert directory.stat().st_mode & 0o777 == directory.parent.stat().st_mode & 0o777 == 0o700
        assert (directory / "flow.json").stat().st_mode & 0o777 == 0o600
        assert json.loads((directory / "flow.json").read_text()) == {
            "version": 1,
            "flow": "shop/fulfilment",
            "application": "web",
            "owner": "web",
            "serviceAccount": "web",
            "module": "fulfilment",
            "path": str(tmp_path / "programs"),
            "orchestrator": f"sqlite:///{directory}/flows.sqlite",
            "orchestratorSecret": "",
            "payloadKey": "kv-shop/payload-key",
            "vault": "kv-shop",
            "vaults": {"kv-shop": "https://127.0.0.1:2"},
        }
        (directory / "flows.sqlite").touch()
        more = Endpoints(
            ENDPOINTS.authority, ENDPOINTS.tenant_id, "", ENDPOINTS.client_ids, {**ENDPOINTS.vaults, "b": "https://b"}
        )
        assert (await supervised.apply(spec, more)).kept == ("web/Orchestration/shop/fulfilment",)
        assert json.loads((directory / "flow.json").read_text())["vaults"]["b"] == "https://b"
        await supervised.apply(run_spec(tree(apps=[application("web")]), str(tmp_path)), ENDPOINTS)
        assert [file.name for file in directory.iterdir()] == ["flows.sqlite"]


@pytest.mark.asyncio
async def test_a_change_of_the_module_or_what_it_imports_restarts_it_and_nothing_else_does(tmp_path: Path) -> None:
    write(
        tmp_path / "programs",
        {"fulfilment.py": "import helpers", "helpers/__init__.py": "from . import mail", "helpers/mail.py": ""}
        | {"web.py": "", "helpers/stranger.py": ""},
    )
    (tmp_path / "web").mkdir()
    spec = standing_in(run_spec(flow_tree(), str(tmp_path)), tmp_path / "report.json")
    key = ("web/Orchestration/shop/fulfilment",)
    async with running(tmp_path) as supervised:
        await supervised.apply(spec, ENDPOINTS)
        for file in ("web.py", "helpers/stranger.py"):
            (tmp_path / "programs" / file).write_text("changed = 1")
            assert (await supervised.apply(spec, ENDPOINTS)).kept == key, file
        for file in ("fulfilment.py", "helpers/mail.py", "helpers/__init__.py"):
            content = (tmp_path / "programs" / file).read_text()
            (tmp_path / "programs" / file).write_text(f"{content}\n# changed")
            assert (await supervised.apply(spec, ENDPOINTS)).restarted == key, file


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("module", "files"),
    [
        ("one", ["one.py"]),
        ("nowhere", []),
        ("both", ["both/__init__.py"]),
        ("pack.deep.leaf", ["pack/__init__.py", "pack/deep/__init__.py", "pack/deep/leaf.py", "pack/side.py"]),
        ("plain.leaf", ["one.py", "plain/leaf.py"]),
        ("inner", ["inner.py", "one.py", "pack/__init__.py", "pack/side.py"]),
        ("broken", ["broken.py"]),
        ("circle", ["back.py", "circle.py"]),
        ("star", ["pack/__init__.py", "star.py"]),
        ("second", ["../other/second.py", "one.py"]),
    ],
)
def test_the_files_of_a_module(tmp_path: Path, module: str, files: list[str]) -> None:
    write(
        tmp_path / "here",
        {
            "one.py": "import os, json.decoder",
            "both.py": "",
            "both/__init__.py": "",
            "pack/__init__.py": "",
            "pack/side.py": "from ....... import too_far",
            "pack/deep/__init__.py": "from .. import side",
            "pack/deep/leaf.py": "from ..side import name",
            "plain/leaf.py": "import one",
            "inner.py": "def later():\n    import one\n    from pack import side, name\n",
            "broken.py": "import one\nthis is no Python",
            "circle.py": "import back",
            "back.py": "import circle",
            "star.py": "from pack import *",
        },
    )
    write(tmp_path / "other", {"second.py": "import one", "one.py": "import never"})
    found = module_files(module, [tmp_path / "here", tmp_path / "other"])
    assert found == tuple(sorted((tmp_path / "here" / file).resolve() for file in files))
