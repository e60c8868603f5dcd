"""ApplicationSets: what they make, and what Git cannot tell."""

from __future__ import annotations

import pytest
from tree_samples import REPOSITORY, application, config_map

from keyleaf.tree import MemoryFiles, Tools, read_tree
from keyleaf.tree.model import AppTree


def application_set(generators: str, name: str, path: str = "x", spec: str = "", labels: str = "") -> str:
    return f"""apiVersion: argoproj.io/v1alpha1
kind: ApplicationSet
metadata:
  name: set
  namespace: argocd
spec:
{spec}
  generators:
{generators}
  template:
    metadata:
      name: '{name}'
{labels}
    spec:
      project: default
      source:
        repoURL: {REPOSITORY}
        path: '{path}'
      destination:
        server: https://kubernetes.default.svc
        namespace: shop
"""


GO = "  goTemplate: true"
GIT = f"    - git:\n        repoURL: {REPOSITORY}\n"


def read(text: str, **files: str) -> AppTree:
    common = {
        "root.yaml": application("root", "sets"),
        "sets/set.yaml": text,
        "x/c.yaml": config_map("c"),
        "apps/one/c.yaml": config_map("one"),
        "apps/two/c.yaml": config_map("two"),
        "apps/two/deep/c.yaml": config_map("deep"),
        "apps/.hidden/c.yaml": config_map("hidden"),
        "clusters/dev/config.yaml": "cluster: {name: dev, size: 1}\nzones: [a, b]\n",
        "clusters/prod/config.json": '{"cluster": {"name": "prod", "size": 3}, "zones": ["c"]}',
    }
    return read_tree(MemoryFiles({**common, **files}), tools=Tools(path=""))


def made(tree: AppTree) -> dict[str, str]:
    return {app.key: app.sources[0].path for app in tree.applications.values() if app.generated_by == "set"}


def test_lists() -> None:
    tree = read(
        application_set(
            "    - list:\n        elements: [{name: a, values: {p: apps/one}}, {name: b, values: {p: x}}]",
            "l-{{name}}",
            "{{values.p}}",
        )
    )
    assert made(tree) == {"l-a": "apps/one", "l-b": "x"}
    app = tree.applications["l-a"]
    assert (app.parent, app.depth, app.generated_by) == ("root", 1, "set")
    assert app.finalizers == ("resources-finalizer.argocd.argoproj.io",)
    assert [one.name for one in tree.of("l-a")] == ["one"]
    assert [one.name for one in tree.application_sets] == ["set"]


def test_lists_with_go_templates() -> None:
    tree = read(
        application_set(
            "    - list:\n        elements: [{name: A, deep: {p: apps/one}}]",
            "l-{{ .name | lower }}",
            "{{ .deep.p }}",
            GO,
        )
    )
    assert made(tree) == {"l-a": "apps/one"}


def test_git_directories() -> None:
    text = application_set(
        GIT + "        directories: [{path: 'apps/*'}, {path: apps/two, exclude: true}]",
        "d-{{path.basename}}",
        "{{path}}",
    )
    assert made(read(text)) == {"d-one": "apps/one"}
    text = application_set(
        GIT + "        directories: [{path: 'apps/**'}]",
        "d-{{ index .path.segments 1 }}-{{ .path.basename }}",
        "{{ .path.path }}",
        GO,
    )
    assert made(read(text)) == {"d-one-one": "apps/one", "d-two-two": "apps/two", "d-two-deep": "apps/two/deep"}


def test_git_directories_with_values_and_prefix() -> None:
    text = application_set(
        GIT + "        pathParamPrefix: mine\n        directories: [{path: 'apps/one'}]\n"
        "        values: {full: 'v-{{mine.path.basename}}'}",
        "{{values.full}}",
        "{{mine.path}}",
    )
    assert made(read(text)) == {"v-one": "apps/one"}


def test_git_files() -> None:
    text = application_set(
        GIT + "        files: [{path: 'clusters/**/config.*'}]", "f-{{cluster.name}}-{{path.basename}}-{{zones.0}}", "x"
    )
    assert sorted(made(read(text))) == ["f-dev-dev-a", "f-prod-prod-c"]
    text = application_set(
        GIT + "        files: [{path: 'clusters/*/config.json'}]",
        "f-{{ .cluster.name }}-{{ .path.filename | trimSuffix `.json` }}",
        "x",
        GO,
    )
    assert sorted(made(read(text))) == ["f-prod-config"]


def test_matrix_and_merge() -> None:
    matrix = (
        "    - matrix:\n        generators:\n          - list: {elements: [{env: dev}, {env: prod}]}\n"
        f"          - git:\n              repoURL: {REPOSITORY}\n              directories: [{{path: 'apps/*'}}]"
    )
    tree = read(application_set(matrix, "m-{{env}}-{{path.basename}}", "{{path}}"))
    assert sorted(made(tree)) == ["m-dev-one", "m-dev-two", "m-prod-one", "m-prod-two"]
    dependent = (
        "    - matrix:\n        generators:\n          - list: {elements: [{env: dev}, {env: prod}]}\n"
        f"          - git:\n              repoURL: {REPOSITORY}\n"
        f"              files: [{{path: 'clusters/{{{{env}}}}/config.*'}}]"
    )
    tree = read(application_set(dependent, "m-{{env}}-{{cluster.size}}", "x"))
    assert sorted(made(tree)) == ["m-dev-1", "m-prod-3"]
    merge = (
        "    - merge:\n        mergeKeys: [env]\n        generators:\n"
        "          - list: {elements: [{env: dev, p: x}, {env: prod, p: x}]}\n"
        "          - list: {elements: [{env: prod, p: apps/one}, {env: other, p: y}]}"
    )
    assert made(read(application_set(merge, "g-{{env}}", "{{p}}"))) == {"g-dev": "x", "g-prod": "apps/one"}


def test_selectors_and_patches() -> None:
    selected = (
        "    - list: {elements: [{name: a, tier: x}, {name: b, tier: y}]}\n      selector: {matchLabels: {tier: x}}"
    )
    assert sorted(made(read(application_set(selected, "s-{{name}}")))) == ["s-a"]
    patch = "  goTemplate: true\n  templatePatch: |\n    spec:\n      project: p-{{ .name }}"
    tree = read(application_set("    - list: {elements: [{name: a}]}", "s-{{ .name }}", spec=patch))
    assert tree.applications["s-a"].project == "p-a"


@pytest.mark.parametrize(
    "name", ["clusters", "scmProvider", "pullRequest", "plugin", "clusterDecisionResource", "somethingNew"]
)
def test_what_asks_the_world_is_dynamic(name: str) -> None:
    tree = read(application_set(f"    - {name}: {{}}\n    - list: {{elements: [{{name: a}}]}}", "w-{{name}}"))
    assert sorted(made(tree)) == ["w-a"]
    finding = next(one for one in tree.findings if one.code == "generator-dynamic")
    assert name in finding.message and str(finding.where) == "sets/set.yaml:9"


def test_other_repositories_and_placeholders_are_not_guessed() -> None:
    other = "    - git: {repoURL: 'https://git.example.com/other/repo.git', directories: [{path: '*'}]}"
    assert "generator-remote" in [one.code for one in read(application_set(other, "o-{{path}}")).findings]
    unknown = "    - git: {repoURL: 'https://git.example.com/${TEAM}/x.git', directories: [{path: '*'}]}"
    assert "generator-unresolved" in [one.code for one in read(application_set(unknown, "o-{{path}}")).findings]
    unfilled = application_set("    - list: {elements: [{name: a}]}", "l-{{ .absent }}", spec=GO)
    assert "generator-unresolved" in [one.code for one in read(unfilled).findings]


@pytest.mark.parametrize(
    "generators",
    [
        "    []",
        "    - {}",
        "    - list: 1",
        "    - git: []",
        "    - matrix: {generators: [1]}",
        "    - merge: {}",
        "    - 7",
        "    - matrix: {generators: [{matrix: {generators: [{matrix: {generators: [{matrix: {}}, {}]}}, {}]}}, {}]}",
    ],
)
def test_odd_generators_are_findings_at_most(generators: str) -> None:
    tree = read(application_set(generators, "x"))
    assert list(tree.applications) == ["root"]


def test_a_set_that_nobody_renders_has_roots() -> None:
    files = {
        "set.yaml": application_set("    - list: {elements: [{name: a}]}", "r-{{name}}"),
        "x/c.yaml": config_map("c"),
    }
    tree = read_tree(MemoryFiles(files), tools=Tools(path=""))
    assert [(app.key, app.parent, app.generated_by) for app in tree.applications.values()] == [("r-a", "", "set")]
