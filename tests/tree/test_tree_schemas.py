"""The CustomResourceDefinitions, and that the reader and they agree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import keyleaf.tree
from keyleaf.tree.secrets_keyleaf import API_VERSION
from keyleaf.tree.yamlsource import parse

FOLDER = Path(keyleaf.tree.__file__).parent / "crds"
FILES = sorted(FOLDER.glob("*.yaml"))


def schema(file: Path) -> dict[str, Any]:
    body = parse(file.read_bytes(), file.name)[0][0].value
    found: dict[str, Any] = body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_definitions_are_well_formed(file: Path) -> None:
    documents, findings = parse(file.read_bytes(), file.name)
    assert not findings and len(documents) == 1
    body = documents[0].value
    assert body == yaml.safe_load(file.read_text())
    names, group = body["spec"]["names"], body["spec"]["group"]
    assert body["metadata"]["name"] == f"{names['plural']}.{group}"
    assert f"{group}/{body['spec']['versions'][0]['name']}" == API_VERSION
    assert names["kind"].lower() == file.stem


def structural(node: dict[str, Any], path: str = "") -> list[str]:
    """Where a schema breaks the rule that every level has a type or keeps unknown fields.

    Rule: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
    """
    wrong = [] if "type" in node or node.get("x-kubernetes-preserve-unknown-fields") else [path or "/"]
    for name, inner in node.get("properties", {}).items():
        wrong += structural(inner, f"{path}/{name}")
    if "items" in node:
        wrong += structural(node["items"], f"{path}/items")
    return wrong


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_schemas_are_structural(file: Path) -> None:
    assert structural(schema(file)) == []


def test_the_reader_and_the_schemas_know_the_same_fields() -> None:
    from keyleaf.tree import secrets_keyleaf as reader

    access = schema(FOLDER / "secretaccess.yaml")["properties"]["spec"]["properties"]
    assert set(access) == reader._ACCESS
    seed = schema(FOLDER / "secretseed.yaml")["properties"]["spec"]["properties"]
    assert set(seed) == reader._SEED
    entry = seed["secrets"]["items"]["properties"]
    assert set(entry) == reader._SEED_SECRET
    assert (entry["generate"]["minimum"], entry["generate"]["maximum"]) == (8, 1024)


def test_the_reader_and_the_schema_of_orchestrations_know_the_same() -> None:
    from keyleaf.tree import orchestrations as reader

    spec = schema(FOLDER / "orchestration.yaml")["properties"]["spec"]["properties"]
    assert set(spec) == reader._FIELDS
    assert set(spec["env"]["items"]["properties"]) == reader._VARIABLE
    assert (spec["replicas"]["minimum"], spec["replicas"]["maximum"]) == (0, reader._MOST_REPLICAS)
    for name in ("fulfilment", "shop.fulfilment", "_x", "a.b_2", "", ".a", "a.", "a-b", "2a", "a b"):
        assert bool(re.search(spec["module"]["pattern"], name)) == bool(reader._MODULE.match(name)), name


def test_patterns_accept_what_the_reader_accepts() -> None:
    pattern = schema(FOLDER / "secretaccess.yaml")["properties"]["spec"]["properties"]["vault"]["pattern"]
    for name in ("kv-shop", "a1b", "k"):
        assert re.search(pattern, name)
    for name in ("-kv", "kv-", "a--b", "1kv", "kv_shop"):
        assert not re.search(pattern, name)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not on PATH")
def test_kustomize_takes_the_definitions(tmp_path: Path) -> None:
    for file in FILES:
        shutil.copy(file, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(json.dumps({"resources": [file.name for file in FILES]}))
    done = subprocess.run(["kubectl", "kustomize", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kind: CustomResourceDefinition") == len(FILES) == 3
