"""Orchestrations: what they declare, and what is wrong with them, by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_samples import REPOSITORY, application, commit

from keyleaf.tree import MemoryFiles, Tools, read_tree
from keyleaf.tree.model import AppTree, Orchestration, Unknown

FLOW = """apiVersion: keyleaf.dev/v1alpha1
kind: Orchestration
metadata:
  name: fulfilment
spec:
  module: fulfilment
  path: ../programs
  serviceAccountName: fulfilment
  vault: kv-shop
  payloadKey: payload-key
  purpose: ships orders
  owner: the warehouse
  secrets:
    - payments-api-key
    - {name: mail-token, version: 0123456789abcdef0123456789abcdef, purpose: mails receipts}
  env:
    - {name: PAYMENTS_URL, value: http://provider.shop.svc}
    - {name: EMPTY}
"""
FILES = {"root.yaml": application("app", "x"), "programs/fulfilment.py": "", "x/inner/more.py": ""}


def read(text: str, **more: str) -> AppTree:
    return read_tree(MemoryFiles({**FILES, "x/all.yaml": text, **more}), tools=Tools(path=""))


def only(tree: AppTree) -> Orchestration:
    assert not tree.findings, [finding.message for finding in tree.findings]
    (found,) = tree.orchestrations
    return found


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


def test_an_orchestration() -> None:
    found = only(read(FLOW))
    assert (found.name, found.namespace, found.application) == ("fulfilment", "shop", "app")
    assert (found.module, found.path, found.service_account) == ("fulfilment", "programs", "fulfilment")
    assert (found.vault, found.payload_key, found.orchestrator, found.replicas) == ("kv-shop", "payload-key", "", 1)
    assert (found.purpose, found.owner) == ("ships orders", "the warehouse")
    assert found.variables == (("PAYMENTS_URL", "http://provider.shop.svc"), ("EMPTY", ""))
    assert str(found.where) == "x/all.yaml:1"


def test_its_needs_are_those_of_a_secret_access_and_the_payload_key() -> None:
    tree = read(FLOW)
    assert [(need.vault, need.secret, need.version, need.purpose) for need in tree.needs] == [
        ("kv-shop", "payments-api-key", "", "ships orders"),
        ("kv-shop", "mail-token", "0123456789abcdef0123456789abcdef", "mails receipts"),
        ("kv-shop", "payload-key", "", "encrypts the orchestration's payloads"),
    ]
    assert {need.declared_by for need in tree.needs} == {"Orchestration/fulfilment"}
    assert {(need.service_account, need.delivery.form) for need in tree.needs} == {("fulfilment", "sdk")}
    assert [need.where.line for need in tree.needs] == [
        line_of(FLOW, "payments-api-key"),
        line_of(FLOW, "mail-token"),
        line_of(FLOW, "payloadKey"),
    ]
    assert [(one.name, one.namespace, one.implicit) for one in tree.service_accounts] == [("fulfilment", "shop", True)]


def test_the_smallest_one() -> None:
    tree = read(
        "apiVersion: keyleaf.dev/v1alpha1\nkind: Orchestration\nmetadata: {name: small}\n"
        "spec: {module: shop.small, vaultUrl: 'https://kv-x.vault.azure.net', payloadKey: key, secrets: []}\n"
    )
    found = only(tree)
    assert (found.module, found.path, found.service_account, found.vault) == ("shop.small", "", "default", "kv-x")
    assert [need.secret for need in tree.needs] == ["key"]


def test_the_engine_in_a_secret_is_a_need() -> None:
    tree = read(FLOW + "  orchestratorSecret: engine-url\n  replicas: 3\n")
    assert (only(tree).orchestrator_secret, only(tree).replicas) == ("engine-url", 3)
    assert ("engine-url", "address of the orchestration's engine") in {(n.secret, n.purpose) for n in tree.needs}


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////var/lib/flows.sqlite",
        "postgresql://orders@db.shop.svc:5432/flows",
        "postgresql+psycopg:///flows?host=/run/postgresql",
        "durabletask://localhost:8080",
        "durabletask://shop.westeurope.durabletask.io?taskhub=orders",
    ],
)
def test_engines(url: str) -> None:
    assert only(read(FLOW + f"  orchestrator: {url}\n")).orchestrator == url


@pytest.mark.parametrize(
    ("said", "path"),
    [("../programs", "programs"), ("inner", "x/inner"), ("./inner/", "x/inner"), ("..", "."), ("../x", "x")],
)
def test_the_path_counts_from_the_manifest(said: str, path: str) -> None:
    assert only(read(FLOW.replace("../programs", said))).path == path


@pytest.mark.parametrize(
    ("change", "message", "line"),
    [
        (("  module: fulfilment\n", ""), "spec.module is missing", 6),
        (("module: fulfilment", "module: fulfilment.py.."), "is not the name of a Python module", 6),
        (("module: fulfilment", "module: -m os"), "is not the name of a Python module", 6),
        (("path: ../programs", "path: ../../programs"), "leads out of the repository", 7),
        (("path: ../programs", "path: /etc"), "leads out of the repository", 7),
        (("path: ../programs", "path: ../x/../../other"), "leads out of the repository", 7),
        (("path: ../programs", "path: ../nowhere"), "names no folder with files in it", 7),
        (("path: ../programs", "path: ../programs/fulfilment.py"), "names no folder with files in it", 7),
        (("path: ../programs", "path: 7"), "must be text", 7),
        (("  vault: kv-shop\n", ""), "spec.vault is missing", 6),
        (("vault: kv-shop", "vault: x"), "'x' is not a vault name", 9),
        (("vault: kv-shop", "vault: kv-shop\n  vaultUrl: https://kv-shop.vault.azure.net"), "both vault", 10),
        (("  payloadKey: payload-key\n", ""), "spec.payloadKey is missing", 6),
        (("payloadKey: payload-key", "payloadKey: payload_key"), "'payload_key' is not a secret name", 10),
        (("    - payments-api-key", "    - a_b"), "'a_b' is not a secret name", 14),
        (("    - payments-api-key", "    - [a]"), "neither a name nor a mapping", 14),
        (("purpose: ships orders", "purpos: ships orders"), "has no field 'purpos'", 11),
        (("owner: the warehouse", "replicas: 2"), "a SQLite file is for one worker", 12),
        (("owner: the warehouse", "replicas: -1"), "a number from 0 to 100", 12),
        (("owner: the warehouse", "replicas: true"), "a number from 0 to 100", 12),
        (("owner: the warehouse", "orchestrator: mysql://host/x"), "not the URL of an engine", 12),
        (("owner: the warehouse", "orchestrator: flows.sqlite"), "not the URL of an engine", 12),
        (("owner: the warehouse", "orchestrator: durabletask://host:x"), "not the URL of an engine", 12),
        (("owner: the warehouse", "orchestrator: sqlite:///flows.sqlite"), "names no absolute file", 12),
        (("owner: the warehouse", "orchestrator: 'sqlite://'"), "names no absolute file", 12),
        (("owner: the warehouse", "orchestrator: sqlite:////x\n  replicas: 2"), "a SQLite file is for one worker", 13),
        (
            ("owner: the warehouse", "orchestrator: sqlite:////x\n  orchestratorSecret: url"),
            "names both orchestrator and orchestratorSecret",
            13,
        ),
        (("owner: the warehouse", "orchestratorSecret: a_b"), "'a_b' is not a secret name", 12),
        (("name: PAYMENTS_URL", "name: KEYLEAF_FLOW"), "KEYLEAF_FLOW is set by keyleaf", 17),
        (("name: PAYMENTS_URL", "name: AZURE_CLIENT_ID"), "AZURE_CLIENT_ID is set by keyleaf", 17),
        (("name: PAYMENTS_URL", "name: PAYMENTS-URL"), "is not the name of a variable", 17),
        (("value: http://provider.shop.svc", "valueFrom: {}"), "has no field 'valueFrom'", 17),
        (("value: http://provider.shop.svc", "value: 7"), "must be text", 17),
        (("  name: fulfilment", "  name: ../up"), "metadata.name is not a name", 4),
        (("metadata:", "metadata:\n  namespace: a.b"), "its namespace is not one that Kubernetes takes", 4),
    ],
)
def test_what_is_wrong_is_told_by_line_and_does_not_run(change: tuple[str, str], message: str, line: int) -> None:
    text = FLOW.replace(*change, 1)
    assert text != FLOW
    tree = read(text)
    found = [one for one in tree.findings if message in one.message]
    assert found, [one.message for one in tree.findings]
    assert (found[0].code, found[0].owner) == ("keyleaf-resource-invalid", "app")
    assert str(found[0].where) == f"x/all.yaml:{line}"
    assert found[0].fix and "does not run" in found[0].cause
    assert not tree.orchestrations


def test_without_spec() -> None:
    tree = read("apiVersion: keyleaf.dev/v1alpha1\nkind: Orchestration\nmetadata: {name: x}\n")
    assert [one.message for one in tree.findings] == ["Orchestration/x: spec is missing"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://orders:hunter2@host/flows",
        "postgresql://orders:hunter2/@host/flows",
        "postgresql://orders:12/hunter2@host/flows",
        "postgresql://host/flows?user=orders&password=hunter2",
        "postgresql://host/flows?sslPassword=hunter2",
        "durabletask://:hunter2@host:80",
        "'postgresql://orders:hunter2#@host/flows'",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    tree = read(FLOW + f"  orchestrator: {url}\n")
    (finding,) = tree.findings
    assert "hunter2" not in repr(finding)
    assert "holds a password" in finding.message or "not the URL of an engine" in finding.message
    if "holds a password" in finding.message:
        assert "orchestratorSecret: <name of the secret>" in finding.fix
    assert not tree.orchestrations


@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12))
def test_no_password_gets_through_in_any_spelling(text: str) -> None:
    from keyleaf.tree.keyleaf_fields import FieldReader
    from keyleaf.tree.objects import object_of
    from keyleaf.tree.orchestrations import _orchestrator

    password = f"q{text}q"
    reader = FieldReader(object_of({"kind": "Orchestration", "metadata": {"name": "x"}}, None), "app")
    said = _orchestrator(reader, {"orchestrator": f"postgresql://orders:{password}@host/flows"})
    assert said == "" and reader.wrong
    assert all(f":{password}@" not in repr(finding) for finding in reader.wrong)


def test_what_git_cannot_tell_stays_unknown() -> None:
    tree = read(FLOW.replace("vault: kv-shop", "vault: ${VAULT}") + "  orchestrator: ${ENGINE}\n  replicas: 2\n")
    found = only(tree)
    assert isinstance(found.vault, Unknown) and isinstance(found.orchestrator, Unknown)
    assert all(isinstance(need.vault, Unknown) for need in tree.needs)


def test_a_namespace_has_to_be_said() -> None:
    tree = read_tree(
        MemoryFiles({**FILES, "root.yaml": application("app", "x", namespace='""'), "x/all.yaml": FLOW}),
        tools=Tools(path=""),
    )
    assert any("its namespace is said nowhere" in finding.message for finding in tree.findings)
    assert not tree.orchestrations


def test_programs_of_another_repository_are_not_here(tmp_path: Path) -> None:
    other = "https://git.example.com/other/tree.git"
    write(tmp_path / "mine", {"root.yaml": application("app", "x").replace(REPOSITORY, other)})
    write(tmp_path / "other", {"x/all.yaml": FLOW, "programs/fulfilment.py": ""})
    found = only(read_tree(tmp_path / "mine", mappings={other: tmp_path / "other"}))
    assert isinstance(found.path, Unknown) and found.path.kind == "remote"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize("target", ["/etc", "../../outside"])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "fulfilment.py").touch()
    folder = tmp_path / "tree"
    write(folder, {**FILES, "x/all.yaml": FLOW.replace("../programs", "../linked/deep")})
    (folder / "linked").symlink_to(tmp_path / "outside" if target.startswith("..") else Path(target))
    tree = read_tree(folder)
    assert "through a symbolic link" in next(f.message for f in tree.findings if "spec.path" in f.message)
    assert not tree.orchestrations


def test_a_link_in_a_commit_is_refused_too(tmp_path: Path) -> None:
    commit(tmp_path, {**FILES, "x/all.yaml": FLOW.replace("../programs", "../linked")})
    (tmp_path / "linked").symlink_to("../outside")
    head = commit(tmp_path, {})
    tree = read_tree(tmp_path, head)
    assert any("through a symbolic link" in finding.message for finding in tree.findings)
    assert not tree.orchestrations


def test_a_folder_beside_the_one_that_is_read_is_in_the_repository(tmp_path: Path) -> None:
    head = commit(
        tmp_path,
        {"apps/root.yaml": application("app", "x"), "apps/x/all.yaml": FLOW.replace("..", "../../src"), **FILES}
        | {"src/programs/fulfilment.py": ""},
    )
    for revision in ("", head):
        found = only(read_tree(tmp_path / "apps", revision))
        assert found.path == "../src/programs"


def test_the_example_of_the_page_is_right() -> None:
    page = (Path(__file__).parents[2] / "docs" / "tree.md").read_text("utf-8")
    example = page.split("### Orchestration", 1)[1].split("```yaml\n", 1)[1].split("```", 1)[0]
    files = {
        "root.yaml": application("app", "apps/dev/fulfilment"),
        "apps/dev/fulfilment/flow.yaml": example,
        "programs/fulfilment.py": "",
    }
    tree = read_tree(MemoryFiles(files), tools=Tools(path=""))
    assert only(tree).path == "programs"
    assert [seed.generate for seed in tree.seeds] == [32]
