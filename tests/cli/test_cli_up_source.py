"""The tree that ``keyleaf up`` follows: where the programs of its Orchestrations lie, and that saving them is seen."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from keyleaf.cli.up_source import SourceTree

APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: app}
spec:
  source: {repoURL: https://git.example/tree.git, path: x}
  destination: {server: https://kubernetes.default.svc, namespace: shop}
"""
FLOW = """apiVersion: keyleaf.dev/v1alpha1
kind: Orchestration
metadata: {name: flow}
spec: {module: flow, path: ../../src/deep, vault: kv-shop, payloadKey: key}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose tree is in ``apps`` and whose programs are in ``src``, beside it."""
    files = {"apps/root.yaml": APPLICATION, "apps/x/flow.yaml": FLOW, "src/deep/flow.py": "x = 1\n", "unrelated": ""}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        who = ["-c", "user.name=Sample", "-c", "user.email=sample@example.com", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, "-C", str(tmp_path), *command], check=True)
    return tmp_path


def test_programs_beside_the_tree_are_laid_out_with_it(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = tmp_path_factory.mktemp("state")
    for _ in range(2):  # the second reading finds what the first laid out
        tree, root = SourceTree(str(repository / "apps"), "main", state).read()
        (flow,) = tree.orchestrations
        assert (root / "x" / "flow.yaml").read_text() == FLOW
        programs = (root / str(flow.path)).resolve()
        assert (programs / "flow.py").read_text() == "x = 1\n"
        assert programs.is_relative_to(state) and not (root.parent / "unrelated").exists()


def test_without_them_only_the_tree_is_laid_out(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    flow = repository / "apps" / "x" / "flow.yaml"
    flow.unlink()
    who = ["-c", "user.name=Sample", "-c", "user.email=sample@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "-C", str(repository), "commit", "-q", "-a", "-m", "second"], check=True)
    _, root = SourceTree(str(repository / "apps"), "main", tmp_path_factory.mktemp("state")).read()
    assert [path.name for path in root.rglob("*")] == ["root.yaml"]


@pytest.mark.asyncio
async def test_saving_a_program_beside_the_tree_is_a_change(repository: Path, tmp_path: Path) -> None:
    source = SourceTree(str(repository / "apps"), "", tmp_path / ".keyleaf")
    _, root = source.read()
    assert root == (repository / "apps").resolve()
    changes = source.changes()
    seen = asyncio.ensure_future(anext(changes))
    for number in range(100):
        # It is not told when the watching has begun.
        (repository / "src" / "deep" / "flow.py").write_text(f"x = {number}\n")
        done, _ = await asyncio.wait({seen}, timeout=0.1)
        if done:
            break
    assert seen.done() and seen.exception() is None
    await changes.aclose()  # type: ignore[attr-defined]
