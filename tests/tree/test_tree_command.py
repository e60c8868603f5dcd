"""``keyleaf tree``: for people, for programs, and where there is no terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from tree_samples import REPOSITORY, access, application, config_map
from typer.testing import CliRunner

from keyleaf.cli.tree import tree
from keyleaf.core.errors import InputError

COMMAND = typer.Typer()
COMMAND.command()(tree)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {
        "root.yaml": application("root", "apps"),
        "apps/pay.yaml": application("pay", "pay", namespace="payments"),
        "pay/access.yaml": access("pay", "db-password", "${NAME}"),
    }.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    return tmp_path


def test_plain_text_where_there_is_no_terminal(folder: Path) -> None:
    result = CliRunner().invoke(COMMAND, [str(folder)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "\x1b" not in result.output and "│" not in result.output
    assert any(line.startswith("  root  project default, wave 0") for line in lines)
    assert any(line.startswith("    pay  project default, wave 0, to payments on https://kubernetes") for line in lines)
    assert "      needs kv-shop/db-password as payments/pay, SecretAccess/pay  pay/access.yaml:9" in lines
    assert "      needs kv-shop/?${NAME} as payments/pay, SecretAccess/pay  pay/access.yaml:10" in lines
    assert lines[-1] == "2 applications, 2 sources (0 not rendered), 2 secrets, 0 errors, 0 warnings, 0 notes."


def test_json_holds_everything(folder: Path) -> None:
    result = CliRunner().invoke(COMMAND, [str(folder), "--json"])
    data = json.loads(result.output)
    root, pay = data["applications"]
    assert (root["key"], pay["parent"], pay["depth"]) == ("root", "root", 1)
    assert pay["sources"][0]["state"] == "rendered"
    assert pay["needs"][0]["secret"] == "db-password"
    assert pay["needs"][1]["secret"]["unknown"] == "unresolved"
    assert data["findings"] == []


def test_orchestrations_are_told_with_their_engine(folder: Path) -> None:
    (folder / "pay/flow.yaml").write_text(
        "apiVersion: keyleaf.dev/v1alpha1\nkind: Orchestration\nmetadata: {name: flow}\n"
        "spec: {module: flow, vault: kv-shop, payloadKey: flow-key}\n"
    )
    lines = CliRunner().invoke(COMMAND, [str(folder)]).output.splitlines()
    assert "      needs kv-shop/flow-key as payments/default, Orchestration/flow  pay/flow.yaml:4" in lines
    assert "      runs Orchestration/flow, module flow, on a SQLite file of its own  pay/flow.yaml:1" in lines
    (flow,) = json.loads(CliRunner().invoke(COMMAND, [str(folder), "--json"]).output)["orchestrations"]
    assert (flow["application"], flow["module"], flow["payload_key"]) == ("pay", "flow", "flow-key")


def test_an_error_in_the_tree_is_the_exit_code(folder: Path) -> None:
    (folder / "pay/bad.yaml").write_text("a: [\n")
    result = CliRunner().invoke(COMMAND, [str(folder)])
    assert result.exit_code == 1
    assert "error yaml-malformed pay/bad.yaml:2" in result.output
    data = json.loads(CliRunner().invoke(COMMAND, [str(folder), "--json"]).output)
    assert data["findings"][0]["owner"] == "pay"


def test_markup_in_manifests_is_not_markup(folder: Path) -> None:
    (folder / "apps/pay.yaml").write_text(application("pay", "'[red]x[/red]'"))
    assert "[red]x[/red]" in CliRunner().invoke(COMMAND, [str(folder)]).output


def test_another_repository_can_be_mapped(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "x").mkdir()
    (other / "x/c.yaml").write_text(config_map("c"))
    address = "https://git.example.com/other/repo.git"
    (folder / "apps/far.yaml").write_text(application("far", "x").replace(REPOSITORY, address))
    assert "source remote" in CliRunner().invoke(COMMAND, [str(folder)]).output
    mapped = CliRunner().invoke(COMMAND, [str(folder), "--map", f"{address}={other}"])
    assert "source remote" not in mapped.output
    wrong = CliRunner().invoke(COMMAND, [str(folder), "--map", "nothing"])
    assert isinstance(wrong.exception, InputError)
