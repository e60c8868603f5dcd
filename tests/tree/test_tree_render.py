"""Kustomize and Helm, with the real tools where they are installed."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from tree_samples import REPOSITORY, application, config_map

from keyleaf.tree import MemoryFiles, Tools, read_tree
from keyleaf.tree.model import AppTree

needs_kustomize = pytest.mark.skipif(not Tools().kustomize, reason="neither kustomize nor kubectl is on PATH")
EXTERNAL = """apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: db
spec:
  secretStoreRef: {kind: ClusterSecretStore, name: store}
  data:
    - secretKey: a
      remoteRef:
        key: base-secret
"""
STORE = """apiVersion: external-secrets.io/v1
kind: ClusterSecretStore
metadata: {name: store}
spec: {provider: {azurekv: {vaultUrl: "https://kv-shop.vault.azure.net"}}}
"""


def read(files: dict[str, str], tools: Tools | None = None, extra: str = "", path: str = "overlay") -> AppTree:
    return read_tree(MemoryFiles({"root.yaml": application("app", path, extra=extra), **files}), tools=tools or Tools())


def test_a_kustomization_that_only_lists_needs_no_tool() -> None:
    tree = read(
        {
            "overlay/kustomization.yaml": "resources: [../base, own.yaml]\n",
            "overlay/own.yaml": config_map("own"),
            "base/kustomization.yml": "resources:\n  - one.yaml\n",
            "base/one.yaml": "# above\n" + config_map("one"),
        },
        Tools(path=""),
    )
    assert [(one.name, str(one.where)) for one in tree.of("app")] == [
        ("one", "base/one.yaml:2"),
        ("own", "overlay/own.yaml:1"),
    ]
    assert tree.applications["app"].sources[0].tool == "kustomize"
    assert not tree.findings


@needs_kustomize
def test_overlays_are_built_and_traced_back_to_their_lines() -> None:
    tree = read(
        {
            "overlay/kustomization.yaml": "namespace: prod\nnamePrefix: p-\nresources: [../base]\n"
            "patches:\n  - path: patch.yaml\n",
            "overlay/patch.yaml": EXTERNAL.replace("base-secret", "patched-secret"),
            "base/kustomization.yaml": "resources: [all.yaml]\n"
            "configMapGenerator:\n  - name: made\n    files: [settings.txt]\n",
            "base/settings.txt": "x=1",
            "store.yaml": STORE,
            "base/all.yaml": EXTERNAL.replace(
                "    - secretKey: a\n", "    - secretKey: b\n      remoteRef: {key: kept}\n    - secretKey: a\n"
            ),
        }
    )
    assert not [one for one in tree.findings if one.severity > 1], tree.findings
    by_kind = {one.kind: one for one in tree.of("app")}
    assert by_kind["ConfigMap"].name.startswith("p-made-")
    assert by_kind["ExternalSecret"].namespace == "prod"
    assert "annotations" not in by_kind["ExternalSecret"].body["metadata"]
    need = next(one for one in tree.needs if one.secret == "patched-secret")
    assert str(need.where) == "overlay/patch.yaml:10"


@needs_kustomize
def test_options_of_the_application_change_the_build() -> None:
    deployment = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n"
        "  selector: {matchLabels: {a: b}}\n"
        "  template:\n    metadata: {labels: {a: b}}\n    spec:\n"
        "      containers: [{name: c, image: 'registry.example.com/web:1'}]\n"
    )
    extra = (
        "    kustomize:\n      namePrefix: x-\n      nameSuffix: -y\n      namespace: other\n"
        "      images: ['registry.example.com/web:2']\n"
        "      commonLabels: {team: pay}\n      replicas: [{name: web, count: 5}]\n"
        "      patches:\n        - target: {kind: Deployment}\n"
        '          patch: \'[{"op": "add", "path": "/spec/paused", "value": true}]\'\n'
    )
    tree = read({"overlay/kustomization.yaml": "resources: [d.yaml]\n", "overlay/d.yaml": deployment}, extra=extra)
    made = tree.of("app")[0]
    assert (made.name, made.namespace) == ("x-web-y", "other")
    assert made.body["metadata"]["labels"]["team"] == "pay"
    assert made.body["spec"]["replicas"] == 5
    assert made.body["spec"]["paused"] is True
    assert made.body["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/web:2"


def test_remote_bases_are_named_and_the_rest_is_read() -> None:
    tree = read(
        {
            "overlay/kustomization.yaml": "resources:\n  - https://github.com/org/repo//base?ref=v1\n"
            "  - github.com/org/repo/x?ref=v2\n  - c.yaml\n",
            "overlay/c.yaml": config_map("c"),
        },
        Tools(path=""),
    )
    source = tree.applications["app"].sources[0]
    assert source.state == "remote"
    assert "https://github.com/org/repo//base?ref=v1" in source.reason
    assert [one.name for one in tree.of("app")] == ["c"]


def test_charts_to_be_downloaded_are_remote() -> None:
    tree = read(
        {
            "overlay/kustomization.yaml": "resources: [c.yaml]\nhelmCharts:\n  - name: redis\n"
            "    repo: https://charts.example.com\n",
            "overlay/c.yaml": config_map("c"),
        },
        Tools(path=""),
    )
    assert tree.applications["app"].sources[0].state == "remote"
    assert "redis" in tree.applications["app"].sources[0].reason


def test_a_missing_resource_is_named_by_line() -> None:
    tree = read(
        {"overlay/kustomization.yaml": "resources:\n  - c.yaml\n  - gone.yaml\n", "overlay/c.yaml": config_map("c")}
    )
    finding = next(one for one in tree.findings if one.code == "source-path-missing")
    assert (finding.owner, str(finding.where)) == ("app", "overlay/kustomization.yaml:3")


@needs_kustomize
def test_a_complaint_of_the_tool_is_the_reason() -> None:
    tree = read(
        {
            "overlay/kustomization.yaml": "namePrefix: x-\nunknownField: 1\nresources: [c.yaml]\n",
            "overlay/c.yaml": config_map("c"),
        }
    )
    source = tree.applications["app"].sources[0]
    assert source.state == "not-rendered" and "unknownField" in source.reason
    assert "\n" not in source.reason


@needs_kustomize
def test_applications_in_a_kustomization_that_people_apply_by_hand() -> None:
    tree = read_tree(
        MemoryFiles(
            {
                "kustomization.yaml": "resources: [app.yaml]\npatches:\n  - target: {kind: Application}\n"
                '    patch: \'[{"op": "replace", "path": "/spec/source/path", "value": "y"}]\'\n',
                "app.yaml": application("app", "nowhere", meta="  namespace: argocd"),
                "y/c.yaml": config_map("c"),
            }
        )
    )
    assert [one.name for one in tree.of("app")] == ["c"]


def test_applications_in_a_kustomization_that_cannot_be_built_are_read_as_written() -> None:
    files = {
        "dev/kustomization.yaml": "namePrefix: x-\nresources: [../shared/app.yaml]\n",
        "prod/kustomization.yaml": "namePrefix: y-\nresources: [../shared/app.yaml]\n",
        "shared/app.yaml": application("app", "y"),
        "y/c.yaml": config_map("c"),
    }
    tree = read_tree(MemoryFiles(files), tools=Tools(path=""))
    assert [(one.name, one.application) for one in tree.manifests] == [("c", "app")]
    assert [one.code for one in tree.findings] == ["applications-not-rendered"] * 2


def program(folder: Path, name: str, body: str) -> Path:
    """A stand-in for a tool, to see how it is called."""
    folder.mkdir(exist_ok=True)
    place = folder / name
    place.write_text(f"#!{sys.executable}\nimport os, sys, json, pathlib\n{body}\n")
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return place


CHART = {
    "chart/Chart.yaml": "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
    "chart/values.yaml": "secret: from-defaults\n",
    "chart/values-prod.yaml": "a: {b: 1, c: 2}\n",
    "chart/templates/es.yaml": EXTERNAL.replace("base-secret", "{{ .Values.secret }}"),
    "shared/values.yaml": "a: {c: 3}\nsecret: from-ref\n",
}


def test_helm_gets_chart_and_values_and_its_output_is_traced_back(tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    program(
        tmp_path / "bin",
        "helm",
        f"""values = json.load(open('keyleaf-values.json'))
pathlib.Path({str(seen)!r}).write_text(json.dumps([sys.argv[1:], values, dict(os.environ), sorted(os.listdir('.'))]))
print('---\\n# Source: chart/templates/es.yaml')
print(open('templates/es.yaml').read().replace('{{{{ .Values.secret }}}}', values['secret']))""",
    )
    body = application("app", "chart").replace(
        f"  source:\n    repoURL: {REPOSITORY}\n    path: chart\n",
        f"  sources:\n    - repoURL: {REPOSITORY}\n      path: chart\n      helm:\n        releaseName: rel\n"
        "        valueFiles: [values-prod.yaml, $shared/shared/values.yaml]\n        values: |\n          d: inline\n"
        "        parameters: [{name: e.f, value: '7'}, {name: g, value: '7', forceString: true}]\n"
        f"    - {{repoURL: '{REPOSITORY}', ref: shared}}\n",
    )
    files = {"root.yaml": body, "store.yaml": STORE, **CHART}
    tree = read_tree(MemoryFiles(files), tools=Tools(path=str(tmp_path / "bin")))
    import json

    arguments, values, environment, listing = json.loads(seen.read_text())
    assert arguments == [
        "template",
        "rel",
        ".",
        "--namespace",
        "shop",
        "--values",
        "keyleaf-values.json",
        "--include-crds",
    ]
    assert values == {"a": {"b": 1, "c": 3}, "secret": "from-ref", "d": "inline", "e": {"f": 7}, "g": "7"}
    assert "AZURE_CLIENT_SECRET" not in environment and environment["HOME"] != os.environ.get("HOME")
    assert "Chart.yaml" in listing
    assert [(need.secret, str(need.where)) for need in tree.needs] == [("from-ref", "shared/values.yaml:2")]


def test_secrets_of_the_environment_do_not_reach_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "canary")
    seen = tmp_path / "seen"
    program(tmp_path / "bin", "helm", f"pathlib.Path({str(seen)!r}).write_text(repr(dict(os.environ)))")
    read(CHART, Tools(path=str(tmp_path / "bin")), path="chart")
    assert "canary" not in seen.read_text()


def test_a_tool_that_hangs_is_stopped(tmp_path: Path) -> None:
    program(tmp_path / "bin", "helm", "import time; time.sleep(60)")
    tree = read(CHART, Tools(path=str(tmp_path / "bin"), seconds=0.3), path="chart")
    assert tree.applications["app"].sources[0].reason == "helm took more than 0 s"


def test_what_did_not_change_is_not_rendered_again(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program(tmp_path / "bin", "helm", f"open({str(count)!r}, 'a').write('x')")
    tools = Tools(path=str(tmp_path / "bin"))
    read(CHART, tools, path="chart")
    read({**CHART, "unrelated.yaml": config_map("x")}, tools, path="chart")
    assert count.read_text() == "x"
    read({**CHART, "chart/values.yaml": "secret: other\n"}, tools, path="chart")
    assert count.read_text() == "xx"


@pytest.mark.parametrize(
    ("helm", "state", "reason"),
    [
        ("valueFiles: [absent.yaml]", "not-rendered", "its values file 'absent.yaml' does not exist"),
        (
            "valueFiles: [https://example.com/v.yaml]",
            "remote",
            "its values file 'https://example.com/v.yaml' is not read",
        ),
        ("valueFiles: [$nobody/v.yaml]", "not-rendered", "does not exist"),
        ("valueFiles: [../../../etc/passwd]", "not-rendered", "does not exist"),
        ("values: '['", "not-rendered", "its inline values are no YAML"),
        ("{valueFiles: [absent.yaml], ignoreMissingValueFiles: true}", "not-rendered", "helm is not on PATH"),
    ],
)
def test_values_that_cannot_be_had(helm: str, state: str, reason: str) -> None:
    extra = f"    helm: {helm}" if helm.startswith("{") else f"    helm:\n      {helm}"
    tree = read(CHART, Tools(path=""), extra, "chart")
    source = tree.applications["app"].sources[0]
    assert source.state == state and reason in source.reason


def test_dependencies_beside_the_chart_are_taken_and_others_are_remote(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program(
        tmp_path / "bin",
        "helm",
        f"pathlib.Path({str(seen)!r}).write_text(repr(sorted(str(p) for p in pathlib.Path('.').rglob('*.yaml'))))",
    )
    tools = Tools(path=str(tmp_path / "bin"))
    beside = {
        **CHART,
        "chart/Chart.yaml": CHART["chart/Chart.yaml"] + "dependencies: [{name: lib, repository: 'file://../lib'}]\n",
        "lib/Chart.yaml": "name: lib\n",
    }
    read(beside, tools, path="chart")
    assert "charts/lib/Chart.yaml" in seen.read_text()
    far = {
        **CHART,
        "chart/Chart.yaml": CHART["chart/Chart.yaml"]
        + "dependencies: [{name: lib, repository: 'https://charts.example.com'}]\n",
    }
    source = read(far, tools, path="chart").applications["app"].sources[0]
    assert source.state == "remote" and "lib (https://charts.example.com)" in source.reason


def test_helm_in_process() -> None:
    pytest.importorskip("helm_python")
    tree = read({**CHART, "store.yaml": STORE}, Tools(path="/nowhere"), path="chart")
    assert tree.applications["app"].sources[0].state == "rendered"
    assert [(need.secret, str(need.where)) for need in tree.needs] == [("from-defaults", "chart/values.yaml:1")]
