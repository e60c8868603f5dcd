"""Manifests to specs: what runs, what does not and why."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_trees import deployment, manifests, need, tree

from keyleaf.runtime import run_spec
from keyleaf.runtime.specs import Mount, Probe, Variable
from keyleaf.runtime.values import Literal, VaultValue
from keyleaf.tree.model import Unknown


def only(*groups: Any, needs: Any = ()) -> Any:
    spec = run_spec(tree(*groups, needs=needs), "/tree")
    assert not spec.not_run, spec.not_run
    return spec.workloads[0]


def reason(*groups: Any, needs: Any = ()) -> str:
    spec = run_spec(tree(*groups, needs=needs), "/tree")
    assert not spec.workloads
    return spec.not_run[0].reason


def test_a_deployment() -> None:
    container = {
        "args": ["--x", "1"],
        "ports": [{"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}],
        "workingDir": "inner",
        "env": [{"name": "A", "value": "1"}, {"name": "N", "value": 2}],
    }
    spec = only(deployment("web", "pass", container=container, replicas=3, pod={"serviceAccountName": "web"}))
    assert spec.key == "web/Deployment/shop/web"
    assert (spec.replicas, spec.service_account, spec.restart_policy) == (3, "web", "Always")
    (container_spec,) = spec.containers
    assert container_spec.argv == ("python3", "-c", "pass", "--x", "1")
    assert container_spec.working_directory == "/tree/web/inner"
    assert [port.number for port in container_spec.ports] == [8080]
    assert container_spec.variables == (Variable("A", "1"), Variable("N", "2"))


@pytest.mark.parametrize(
    ("kind", "expected"), [("DaemonSet", "no nodes"), ("Pod", "bare Pods"), ("ReplicaSet", "Deployment")]
)
def test_other_kinds_are_named_with_a_reason(kind: str, expected: str) -> None:
    text = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{containers: []}}"
    assert expected in reason(manifests(text))


def test_an_image_without_a_command() -> None:
    assert "gives no command" in reason(deployment("web", "", container={"command": None, "image": "nginx"}))


def test_a_sidecar_that_is_only_an_image_does_not_keep_the_rest_from_running() -> None:
    web = deployment("web", "pass", pod={"containers": [{"name": "main", "command": ["x"]}, {"name": "proxy"}]})
    spec = only(web)
    assert [container.name for container in spec.containers] == ["main"]
    assert spec.not_run[0][0] == "proxy"


def variable(name: str, kind: str, source: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {kind: {"name": source, "key": key}}}


def test_a_secret_on_the_command_line_is_refused() -> None:
    container = {
        "args": ["--password", "$(COPY)"],
        "env": [variable("PASSWORD", "secretKeyRef", "db", "p"), {"name": "COPY", "value": "x-$(PASSWORD)"}],
    }
    needs = (need("db", "kubernetes-secret", "db", "p"),)
    assert "$(COPY), a secret, on its command line" in reason(deployment("web", "x", container=container), needs=needs)
    container["args"] = ["--password", "$$(COPY)"]
    assert only(deployment("web", "x", container=container), needs=needs).containers[0].argv[-1] == "$$(COPY)"


def test_values_come_from_where_they_are_made() -> None:
    more = manifests(
        """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: green}
---
apiVersion: v1
kind: Secret
metadata: {name: inline}
data: {key: aHVudGVyMg==}
"""
    )
    container = {
        "env": [
            variable("COLOUR", "configMapKeyRef", "settings", "colour"),
            variable("KEY", "secretKeyRef", "inline", "key"),
            variable("DB", "secretKeyRef", "external", "password"),
            variable("MEMBER", "secretKeyRef", "whole", "user"),
        ]
    }
    needs = (
        need("db", "kubernetes-secret", "external", "password", refresh_seconds=60),
        need("json", "kubernetes-secret", "whole"),
    )
    web = only(deployment("web", "x", container=container), more, needs=needs)
    assert [v.value for v in web.containers[0].variables] == [
        Literal(b"green"),
        Literal(b"hunter2", private=True),
        VaultValue("shop", "web", "kv-shop", "db", refresh_seconds=60),
        VaultValue("shop", "web", "kv-shop", "json", property="user"),
    ]
    assert "hunter2" not in repr(web)


def test_what_nobody_makes_is_a_reason_unless_optional() -> None:
    env = [variable("X", "secretKeyRef", "nowhere", "k")]
    assert "'nowhere'" in reason(deployment("web", "x", container={"env": env}))
    env[0]["valueFrom"]["secretKeyRef"]["optional"] = True
    assert only(deployment("web", "x", container={"env": env})).containers[0].variables == ()


def test_an_unknown_secret_is_a_reason_with_its_place() -> None:
    needs = (need(Unknown("unresolved", "${NAME}", "nothing fills it in"), "kubernetes-secret", "x", "k"),)  # type: ignore[arg-type]
    found = reason(
        deployment("web", "x", container={"env": [variable("X", "secretKeyRef", "x", "k")]}),
        needs=needs,
    )
    assert "web/all.yaml:1" in found and "nothing fills it in" in found


def test_volumes_and_modes() -> None:
    volumes = [
        {
            "name": "keys",
            "secret": {"secretName": "keys", "defaultMode": 0o777, "items": [{"key": "k", "path": "a/b"}]},
        },
        {"name": "scratch", "emptyDir": {}},
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "me"}}]}},
    ]
    container = {"volumeMounts": [{"name": "keys", "mountPath": "/mnt/keys", "subPath": "a"}]}
    needs = (need("k", "kubernetes-secret", "keys", "k"),)
    spec = only(deployment("web", "x", container=container, pod={"volumes": volumes}), needs=needs)
    keys, scratch, data, token = spec.volumes
    assert (keys.files[0].path, keys.files[0].mode) == ("a/b", 0o550)
    assert (scratch.kind, data.kind, data.claim) == ("empty", "persistent", "data")
    assert token.files[0].content.audience == "me"
    assert spec.containers[0].mounts == (Mount("keys", "/mnt/keys", "a"),)


@pytest.mark.parametrize(
    "volume",
    [
        {"hostPath": {"path": "/etc"}},
        {"csi": {"driver": "disk.csi.azure.com"}},
        {"secret": {"secretName": "nowhere"}},
        {"configMap": {"name": "settings", "items": [{"key": "colour", "path": "../../escape"}]}},
    ],
)
def test_volumes_that_are_not_to_be_had(volume: dict[str, Any]) -> None:
    settings = manifests("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: green}")
    assert "'v'" in reason(deployment("web", "x", pod={"volumes": [{"name": "v", **volume}]}), settings)


@pytest.mark.parametrize("path", ["../etc", "relative", "/a/../../b"])
def test_mounts_that_leave_their_root(path: str) -> None:
    container = {"volumeMounts": [{"name": "v", "mountPath": path}]}
    web = deployment("web", "x", container=container, pod={"volumes": [{"name": "v", "emptyDir": {}}]})
    assert "not a path to mount at" in reason(web)


def test_probes_have_kubernetes_defaults() -> None:
    probes = {
        "readinessProbe": {"httpGet": {"port": "http"}},
        "livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 3},
        "startupProbe": {"exec": {"command": ["true"]}, "failureThreshold": 30},
    }
    container = only(deployment("web", "x", container=probes)).containers[0]
    assert container.readiness == Probe("http", port="http")
    assert (container.liveness.kind, container.liveness.period) == ("tcp", 3)
    assert (container.startup.command, container.startup.failure_threshold) == (("true",), 30)
    assert "'grpc'" in reason(deployment("web", "x", container={"livenessProbe": {"grpc": {"port": 1}}}))


def test_a_working_directory_may_be_named_but_not_outside_the_tree() -> None:
    (body,) = deployment("web", "x")
    body.body["metadata"]["annotations"] = {"keyleaf.dev/working-directory": "programs"}
    assert only((body,)).containers[0].working_directory == "/tree/programs"
    body.body["metadata"]["annotations"] = {"keyleaf.dev/working-directory": "../programs"}
    assert "leaves the tree" in reason((body,))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELD = st.sampled_from(
    ["name", "command", "args", "env", "envFrom", "ports", "volumeMounts", "readinessProbe", "workingDir"]
)


@given(
    st.dictionaries(FIELD, JSON), st.dictionaries(st.sampled_from(["volumes", "initContainers", "restartPolicy"]), JSON)
)
def test_no_manifest_breaks_the_reading(container: dict[str, Any], pod: dict[str, Any]) -> None:
    spec = run_spec(tree(deployment("web", "x", container=container, pod=pod)), "/tree")
    assert len(spec.workloads) + len(spec.not_run) == 1
