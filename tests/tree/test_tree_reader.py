"""From files to the tree: nesting, order, roots, duplicates, cycles, and everything that can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from tree_samples import REPOSITORY, access, application, config_map

from keyleaf.core.errors import InputError
from keyleaf.tree import MemoryFiles, Tools, read_tree
from keyleaf.tree.model import AppTree

NO_TOOLS = Tools(path="")


def read(files: dict[str, str | bytes], **more: object) -> AppTree:
    return read_tree(MemoryFiles(files), tools=NO_TOOLS, **more)  # type: ignore[arg-type]


def codes(tree: AppTree) -> list[str]:
    return sorted(finding.code for finding in tree.findings)


def wave(number: str) -> str:
    return f'  annotations:\n    argocd.argoproj.io/sync-wave: "{number}"'


def test_applications_nest_to_any_depth() -> None:
    files: dict[str, str | bytes] = {"root.yaml": application("a0", "l0")}
    for level in range(12):
        files[f"l{level}/next.yaml"] = application(f"a{level + 1}", f"l{level + 1}")
    files["l12/leaf.yaml"] = config_map("leaf")
    tree = read(files)
    assert list(tree.applications) == [f"a{level}" for level in range(13)]
    assert [app.depth for app in tree.applications.values()] == list(range(13))
    assert tree.applications["a7"].parent == "a6"
    assert [(one.name, one.application, one.namespace) for one in tree.manifests] == [("leaf", "a12", "shop")]
    assert not tree.findings


def test_order_is_parents_then_wave_then_name() -> None:
    tree = read(
        {
            "root.yaml": application("root", "apps"),
            "apps/all.yaml": "---\n".join(
                [
                    application("late", "x", meta=wave("5")),
                    application("early", "x", meta=wave("-2")),
                    application("b", "x"),
                    application("a", "x"),
                ]
            ),
            "x/c.yaml": config_map("c"),
        }
    )
    assert list(tree.applications) == ["root", "early", "a", "b", "late"]
    assert [app.key for app in tree.children("")] == ["root"]
    assert "object-shared" in codes(tree)


def test_everything_of_an_application_is_read() -> None:
    body = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: full
  namespace: argocd
  labels: {team: pay}
  annotations: {note: hello}
  finalizers: [resources-finalizer.argocd.argoproj.io]
spec:
  project: payments
  source: {repoURL: "https://user:hidden@git.example.com/shop/tree.git", path: x, targetRevision: main}
  destination: {name: in-cluster, namespace: pay}
  syncPolicy:
    automated: {prune: true, selfHeal: true, allowEmpty: true}
    syncOptions: [CreateNamespace=true]
    retry: {limit: 3}
"""
    tree = read({"full.yaml": body, "x/c.yaml": config_map("c")})
    app = tree.applications["full"]
    assert (app.project, app.destination_server, app.destination_namespace) == ("payments", "in-cluster", "pay")
    assert app.finalizers == ("resources-finalizer.argocd.argoproj.io",)
    policy = app.sync_policy
    assert (policy.automated, policy.prune, policy.self_heal, policy.allow_empty) == (True, True, True, True)
    assert (policy.options, policy.retry_limit) == (("CreateNamespace=true",), 3)
    assert (app.labels, app.annotations) == ({"team": "pay"}, {"note": "hello"})
    assert app.sources[0].repo_url == "https://git.example.com/shop/tree.git"
    assert "hidden" not in repr(app) + repr(tree.findings)
    assert str(app.where) == "full.yaml:1"


def test_automated_can_be_switched_off_in_place() -> None:
    spec = "  syncPolicy:\n    automated:\n      enabled: false\n"
    tree = read({"a.yaml": application("a", "x", spec=spec), "x/c.yaml": config_map("c")})
    assert not tree.applications["a"].sync_policy.automated


def test_keys_carry_the_namespace_outside_of_the_control_plane() -> None:
    tree = read(
        {
            "a.yaml": application("a", "x", meta="  namespace: argocd"),
            "b.yaml": application("b", "x", meta="  namespace: team"),
            "x/c.yaml": config_map("c"),
        }
    )
    assert sorted(tree.applications) == ["a", "team/b"]


def test_a_directory_is_flat_unless_it_recurses() -> None:
    files: dict[str, str | bytes] = {
        "x/one.yaml": config_map("one"),
        "x/deep/two.yaml": config_map("two"),
        "x/deep/skip.yaml": config_map("skip"),
        "x/notes.txt": "no manifest",
        "x/three.json": '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "three"}}',
        "x/hidden.yaml": "# +argocd:skip-file-rendering\n" + config_map("hidden"),
    }

    def names(extra: str) -> list[str]:
        tree = read({"a.yaml": application("a", "x", extra=extra), **files})
        return sorted(one.name for one in tree.of("a"))

    assert names("") == ["one", "three"]
    assert names("    directory: {recurse: true}") == ["one", "skip", "three", "two"]
    assert names("    directory: {recurse: true, exclude: 'deep/s*'}") == ["one", "three", "two"]
    assert names("    directory: {recurse: true, include: '{*two.yaml,one.*}'}") == ["one", "two"]
    # As in Argo CD a star crosses folders.
    assert names("    directory: {recurse: true, include: '*.json'}") == ["three"]


def test_several_sources_make_one_application() -> None:
    body = application("a", "x").replace(
        f"  source:\n    repoURL: {REPOSITORY}\n    path: x\n",
        f"  sources:\n    - {{repoURL: '{REPOSITORY}', path: x}}\n    - {{repoURL: '{REPOSITORY}', path: y}}\n"
        f"    - {{repoURL: '{REPOSITORY}', ref: values}}\n"
        "    - {repoURL: 'https://charts.example.com', chart: redis, targetRevision: 1.2.3}\n",
    )
    tree = read({"a.yaml": body, "x/c.yaml": config_map("same"), "y/c.yaml": config_map("same", "data: {from: y}\n")})
    assert [(s.state, s.tool) for s in tree.applications["a"].sources] == [
        ("rendered", "directory"), ("rendered", "directory"), ("rendered", "none"), ("remote", "helm"),
    ]  # fmt: skip
    assert [one.body.get("data") for one in tree.of("a")] == [{"from": "y"}]
    assert codes(tree) == ["object-repeated", "source-remote"]


def test_what_lives_elsewhere_is_remote_with_its_reason(tmp_path: Path) -> None:
    other = application("a", "x").replace(REPOSITORY, "https://git.example.com/other/repo.git")
    tree = read({"a.yaml": other})
    source = tree.applications["a"].sources[0]
    assert (source.state, source.reason) == (
        "remote", "it lives in https://git.example.com/other/repo.git, another repository",
    )  # fmt: skip
    assert codes(tree) == ["source-remote"]
    (tmp_path / "x").mkdir()
    (tmp_path / "x/c.yaml").write_text(config_map("mapped"))
    mapped = read({"a.yaml": other}, mappings={"git@git.example.com:other/repo": tmp_path})
    assert [one.name for one in mapped.of("a")] == ["mapped"]


def test_a_placeholder_is_unresolved_and_never_guessed() -> None:
    body = application("a", "apps/${ENVIRONMENT}")
    tree = read({"root.yaml": application("root", "x"), "x/a.yaml": body})
    source = tree.applications["a"].sources[0]
    assert source.state == "unresolved" and "${ENVIRONMENT}" in source.reason
    assert codes(tree) == ["source-unresolved"]


def test_a_missing_path_is_named_where_it_is_written() -> None:
    tree = read({"root.yaml": application("root", "apps"), "apps/a.yaml": application("a", "nowhere")})
    finding = next(one for one in tree.findings if one.code == "source-path-missing")
    assert (finding.owner, str(finding.where), finding.severity.name) == ("a", "apps/a.yaml:10", "ERROR")
    assert tree.applications["a"].sources[0].state == "not-rendered"


@pytest.mark.parametrize("path", ["../secrets", "x/../../etc", "/../etc"])
def test_a_path_cannot_leave_the_repository(path: str) -> None:
    tree = read({"root.yaml": application("root", "apps"), "apps/a.yaml": application("a", path)})
    assert tree.applications["a"].sources[0].state == "not-rendered"


def test_cycles_are_cut_and_told() -> None:
    tree = read(
        {
            "one/b.yaml": application("b", "two"),
            "two/a.yaml": application("a", "one"),
            "two/c.yaml": config_map("c"),
        }
    )
    assert {app.key: app.parent for app in tree.applications.values()} == {"a": "", "b": "a"}
    assert codes(tree) == ["application-cycle"]
    assert [one.application for one in tree.manifests] == ["b"]


def test_an_application_may_manage_itself() -> None:
    tree = read(
        {
            "apps/root.yaml": application("root", "apps"),
            "apps/a.yaml": application("a", "x"),
            "x/c.yaml": config_map("c"),
        }
    )
    assert {app.key: app.parent for app in tree.applications.values()} == {"root": "", "a": "root"}
    assert not tree.findings


def test_the_same_application_twice_is_told_at_the_second() -> None:
    tree = read(
        {
            "one.yaml": application("a", "x"),
            "two.yaml": application("a", "y"),
            "x/c.yaml": config_map("c"),
            "y/c.yaml": config_map("d"),
        }
    )
    finding = next(one for one in tree.findings if one.code == "application-duplicate")
    assert str(finding.where) == "two.yaml:1" and "one.yaml:1" in finding.message
    assert tree.applications["a"].sources[0].path == "x"


def test_a_broken_file_is_told_by_its_owner_and_the_rest_is_read() -> None:
    tree = read(
        {
            "root.yaml": application("root", "x"),
            "x/bad.yaml": "a: [\n",
            "x/good.yaml": config_map("good"),
            "x/odd.yaml": "just: data\n",
            "x/anonymous.yaml": "apiVersion: v1\nkind: ConfigMap\n",
            "x/unknown.yaml": "apiVersion: a.example/v9\nkind: Odd\nmetadata: {name: odd}\n",
        }
    )
    assert [(one.kind, one.name) for one in tree.of("root")] == [("ConfigMap", "good"), ("Odd", "odd")]
    assert codes(tree) == ["not-an-object", "object-without-name", "yaml-malformed"]
    assert all(one.owner == "root" for one in tree.findings)


def test_a_source_without_a_repository_is_invalid() -> None:
    tree = read(
        {"a.yaml": application("a", "x").replace(f"    repoURL: {REPOSITORY}\n", ""), "x/c.yaml": config_map("c")}
    )
    assert tree.applications["a"].sources[0].reason == "it names no repository"
    assert codes(tree) == ["application-invalid"]


def test_a_list_is_its_items() -> None:
    body = "apiVersion: v1\nkind: List\nitems:\n" + "".join(
        f"  - apiVersion: v1\n    kind: ConfigMap\n    metadata: {{name: {name}}}\n" for name in ("one", "two")
    )
    tree = read({"root.yaml": application("root", "x"), "x/list.yaml": body})
    assert [(one.name, one.where.line) for one in tree.of("root")] == [("one", 4), ("two", 7)]


def test_what_no_application_renders_belongs_to_none() -> None:
    tree = read({"loose.yaml": config_map("loose"), "a.yaml": application("a", "x"), "x/c.yaml": access("a", "one")})
    assert {one.name: one.application for one in tree.manifests} == {"loose": "", "a": "a"}
    assert [need.application for need in tree.needs] == ["a"]


def test_an_invalid_application_is_kept_with_its_fault() -> None:
    text = "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {name: a}\n"
    nameless = text.replace("{name: a}", "{}")
    tree = read(
        {
            "n.yaml": nameless,
            "a.yaml": text,
            "b.yaml": application("b", "x", meta=wave("soon")),
            "x/c.yaml": config_map("c"),
        }
    )
    assert sorted(tree.applications) == ["a", "b"]
    assert [one.severity.name for one in tree.findings if one.code == "application-invalid"] == ["ERROR", "WARNING"]
    assert codes(tree) == ["application-invalid", "application-invalid", "sync-wave-invalid"]


def test_tools_that_are_missing_are_named_per_application() -> None:
    tree = read(
        {
            "root.yaml": application("root", "apps"),
            "apps/h.yaml": application("h", "chart"),
            "apps/k.yaml": application("k", "overlay"),
            "apps/p.yaml": application("p", "plain", extra="    plugin: {name: tanka}"),
            "apps/j.yaml": application("j", "jsonnet"),
            "chart/Chart.yaml": "name: c\nversion: 1.0.0\n",
            "chart/templates/x.yaml": "{{ .Values.x }}",
            "overlay/kustomization.yaml": "namePrefix: p-\nresources: [c.yaml]\n",
            "overlay/c.yaml": config_map("c"),
            "plain/c.yaml": config_map("c"),
            "jsonnet/main.jsonnet": "{}",
        }
    )
    reasons = {app.key: app.sources[0].reason for app in tree.applications.values() if app.key != "root"}
    assert reasons == {
        "h": "helm is not on PATH",
        "k": "neither kustomize nor kubectl is on PATH",
        "p": "a config management plugin (tanka) renders it, and is not run",
        "j": "jsonnet/main.jsonnet is Jsonnet, which keyleaf does not evaluate",
    }
    told = {one.owner: one.message for one in tree.findings if one.code == "source-not-rendered"}
    assert told["h"] == "h: 'chart' is not rendered: helm is not on PATH"
    assert sorted(told) == ["h", "j", "k", "p"]


def test_charts_that_make_applications_are_told() -> None:
    tree = read(
        {
            "apps/Chart.yaml": "name: apps\nversion: 1.0.0\n",
            "apps/templates/a.yaml": "kind: Application\nname: {{ .Values.x }}\n",
        }
    )
    assert [(one.code, str(one.where)) for one in tree.findings] == [
        ("applications-not-rendered", "apps/templates/a.yaml:1")
    ]


def test_a_folder_of_a_repository_reads_paths_from_there_first(tmp_path: Path) -> None:
    for name, content in {
        "shop/root.yaml": application("root", "apps"),
        "shop/apps/a.yaml": application("a", "lib"),
        "lib/c.yaml": config_map("from-the-top"),
    }.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    (tmp_path / ".git").mkdir()
    tree = read_tree(tmp_path / "shop", tools=NO_TOOLS)
    assert str(tree.applications["root"].where) == "root.yaml:1"


def test_a_place_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for root in (tmp_path / "absent", tmp_path / "file"):
        with pytest.raises(InputError):
            read_tree(root)
    with pytest.raises(InputError, match="revision"):
        read_tree(tmp_path, "main")


def test_links_are_followed_inside_and_refused_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside.yaml"
    outside.write_text(config_map("outside"))
    tree_folder = tmp_path / "tree"
    (tree_folder / "x").mkdir(parents=True)
    (tree_folder / "root.yaml").write_text(application("root", "x"))
    (tree_folder / "common.yaml").write_text(config_map("inside"))
    (tree_folder / "x/in.yaml").symlink_to("../common.yaml")
    (tree_folder / "x/out.yaml").symlink_to(outside)
    (tree_folder / "x/dangling.yaml").symlink_to("nowhere.yaml")
    (tree_folder / "x/loop.yaml").symlink_to("loop.yaml")
    tree = read_tree(tree_folder, tools=NO_TOOLS)
    assert [one.name for one in tree.of("root")] == ["inside"]
    assert [(one.code, str(one.where)) for one in tree.findings] == [("link-leaves-tree", "x/out.yaml")]
