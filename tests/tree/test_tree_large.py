"""The generated tree of bench/, in small: complete, equal from disk and from Git, and quick."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest
from tree_samples import commit

from keyleaf.tree import Tools, read_tree

BENCH = Path(__file__).parents[2] / "bench" / "generate_tree.py"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    specification = importlib.util.spec_from_file_location("generate_tree", BENCH)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("generated")
    module.generate(folder, 120)
    return folder


def test_it_is_complete(generated: Path) -> None:
    tree = read_tree(generated, tools=Tools(path=""))
    assert len(tree.applications) == 120 + 3 + 1
    assert len(tree.needs) == 480
    assert {need.auth for need in tree.needs} == {"workload-identity"}
    assert all(isinstance(need.vault, str) and need.vault.startswith("kv-team-") for need in tree.needs)
    assert not tree.findings
    for need in tree.needs:
        line = (generated / need.where.file).read_text().splitlines()[need.where.line - 1]
        assert line.strip().split()[-1] == need.secret


def test_a_commit_of_it_reads_the_same(generated: Path) -> None:
    from_disk = read_tree(generated, tools=Tools(path=""))
    commit(generated, {})
    from_git = read_tree(generated, "main", tools=Tools(path=""))
    assert from_git.needs == from_disk.needs
    assert list(from_git.applications.values()) == list(from_disk.applications.values())
    assert from_git.manifests == from_disk.manifests


def test_reading_grows_with_the_number_of_applications_not_its_square(generated: Path) -> None:
    """1,000 applications take about ten times these 124; a reading of more than 2 s here would mean minutes there."""
    started = time.perf_counter()
    read_tree(generated, tools=Tools(path=""))
    assert time.perf_counter() - started < 2.0
