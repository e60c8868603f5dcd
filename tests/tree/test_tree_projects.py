"""AppProjects: their lists are enforced."""

from __future__ import annotations

import pytest
from tree_samples import access, application, config_map

from keyleaf.tree import MemoryFiles, Tools, read_tree

ALL = "  sourceRepos: ['*']\n  destinations: [{server: '*', namespace: '*'}]\n"
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n"


def findings(spec: str, body: str = "", extra: str = "") -> list[str]:
    project = (
        f"apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {{name: pay, namespace: argocd}}\nspec:\n{spec}"
    )
    app = application("a", "x", namespace="pay").replace("project: default", "project: pay")
    files = {"p.yaml": project, "a.yaml": app, "x/c.yaml": body or config_map("c")}
    tree = read_tree(MemoryFiles(files), tools=Tools(path=""))
    assert list(tree.projects) == ["pay"]
    return sorted(one.code.removeprefix("project-forbids-") for one in tree.findings)


@pytest.mark.parametrize(
    ("repositories", "wrong"),
    [
        ("['*']", False),
        ("['https://git.example.com/shop/tree']", False),
        ("['https://git.example.com/shop/*']", False),
        ("['https://git.example.com/*']", True),
        ("['https://git.example.com/**']", False),
        ("['https://git.example.com/other/*']", True),
        ("['*', '!https://git.example.com/shop/tree.git']", True),
        ("[]", True),
        ("['https://git.example.com/${TEAM}/*']", False),
    ],
)
def test_source_repositories(repositories: str, wrong: bool) -> None:
    spec = f"  sourceRepos: {repositories}\n  destinations: [{{server: '*', namespace: '*'}}]\n"
    assert findings(spec) == (["source"] if wrong else [])


@pytest.mark.parametrize(
    ("destinations", "wrong"),
    [
        ("{server: 'https://kubernetes.default.svc', namespace: pay}", False),
        ("{name: in-cluster, namespace: 'p*'}", False),
        ("{server: 'https://other', namespace: '*'}", True),
        ("{server: '*', namespace: other}", True),
        ("{server: '*', namespace: '*'}, {server: '*', namespace: '!pay'}", True),
        ("{server: '*', namespace: '*'}, {server: '!https://kubernetes.default.svc', namespace: '*'}", True),
        ("{server: '*', namespace: '*'}, {server: '*', namespace: '!kube-*'}", False),
    ],
)
def test_destinations(destinations: str, wrong: bool) -> None:
    assert findings(f"  sourceRepos: ['*']\n  destinations: [{destinations}]\n") == (["destination"] if wrong else [])


@pytest.mark.parametrize(
    ("lists", "body", "wrong"),
    [
        ("", NAMESPACE, True),
        ("  clusterResourceWhitelist: [{group: '*', kind: '*'}]\n", NAMESPACE, False),
        ("  clusterResourceWhitelist: [{group: '', kind: Namespace}]\n", NAMESPACE, False),
        ("  clusterResourceWhitelist: [{group: rbac.authorization.k8s.io, kind: ClusterRole}]\n", NAMESPACE, True),
        (
            "  clusterResourceWhitelist: [{group: '*', kind: '*'}]\n"
            "  clusterResourceBlacklist: [{group: '', kind: Namespace}]\n",
            NAMESPACE,
            True,
        ),
        ("  namespaceResourceBlacklist: [{group: '', kind: ConfigMap}]\n", "", True),
        ("  namespaceResourceBlacklist: [{group: apps, kind: ConfigMap}]\n", "", False),
        ("  namespaceResourceWhitelist: []\n", "", True),
        ("  namespaceResourceWhitelist: [{group: keyleaf.dev, kind: '*'}]\n", access("a", "b"), False),
    ],
)
def test_kinds(lists: str, body: str, wrong: bool) -> None:
    assert findings(ALL + lists, body) == (["kind"] if wrong else [])


def test_a_project_that_is_not_there_is_a_note() -> None:
    app = application("a", "x").replace("project: default", "project: elsewhere")
    tree = read_tree(MemoryFiles({"a.yaml": app, "x/c.yaml": config_map("c")}), tools=Tools(path=""))
    assert [(one.code, one.severity.name) for one in tree.findings] == [("project-missing", "NOTE")]
