"""``plan`` and ``apply`` as a person and a program see them, on an Azure in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
import typer
from plan_trees import SUBSCRIPTION, app, need, tree
from typer.testing import CliRunner

import keyleaf.cli.apply as apply_module
import keyleaf.cli.plan as plan_module
from keyleaf.cli.session import Options, Session
from keyleaf.cloud import FakeAzure
from keyleaf.core.errors import InputError
from keyleaf.plan import SecretState
from keyleaf.tree.model import AppTree

SHOP = tree(app("root"), app("pay", "root", 1), needs=(need("pay", "kv-one", "db"),))
RUNNER = CliRunner()


class World:
    """One Azure and one tree that the commands find instead of the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.azure = FakeAzure(SUBSCRIPTION)
        self.tree: AppTree = SHOP
        self.app = typer.Typer()
        self.app.command()(plan_module.plan)
        self.app.command()(apply_module.apply)
        for module in (plan_module, apply_module):
            monkeypatch.setattr(module, "connect", self._connect)
            monkeypatch.setattr(module, "read_tree", lambda path, revision: self.tree)

    def _connect(self, *, options: Options, path: str) -> Session:
        named = {"subscription": SUBSCRIPTION, "resource-group": "rg", "location": "westeurope", "issuer": "https://i"}
        return Session(self.azure, options, None, named)  # type: ignore[arg-type]

    def run(self, *arguments: str) -> Any:
        return RUNNER.invoke(self.app, arguments, env={"NO_COLOR": "1"})


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def with_secret(world: World) -> None:
    world.azure.set_secret(SecretState("kv-one", "db"))


def test_plan_shows_each_change_with_its_place(world: World) -> None:
    result = world.run("plan", "shop", "--create-vaults")
    assert result.exit_code == 10
    assert "+ vault kv-one  pay/access.yaml:7  Git names it and it does not exist" in result.stdout
    assert "+ managed identity id-pay  apps/pay.yaml:1" in result.stdout
    assert "+ role assignment Key Vault Secrets User on kv-one/db  pay/access.yaml:7" in result.stdout
    assert "4 to create, 0 to update, 0 to delete; no findings." in result.stdout
    assert "\x1b" not in result.stdout


def test_errors_come_with_cause_and_fix_and_decide_the_exit_code(world: World) -> None:
    result = world.run("plan", "shop")
    assert result.exit_code == 1
    assert "error vault-missing pay/access.yaml:7: the vault 'kv-one' does not exist" in result.stdout
    assert "why: SecretAccess/pay reads from it" in result.stdout
    assert "fix: keyleaf apply --create-vaults, or: az keyvault create --name kv-one" in result.stdout


def test_apply_converges_and_then_there_is_nothing_to_do(world: World) -> None:
    with_secret(world)
    result = world.run("apply", "shop", "--yes", "--create-vaults")
    assert result.exit_code == 0, result.output
    assert f"id-pay  client id {world.azure.identities()[0].client_id}" in result.stdout
    assert "Azure is what Git declares." in result.stdout
    again = world.run("plan", "shop")
    assert (again.exit_code, again.stdout) == (0, "Nothing to change; no findings.\n")


def test_apply_tells_what_is_still_wrong(world: World) -> None:
    result = world.run("apply", "shop", "--yes", "--create-vaults")
    assert result.exit_code == 1
    assert "error secret-missing" in result.stdout
    assert "fix: keyleaf secret set kv-one/db" in result.stdout


def test_json_of_plan(world: World) -> None:
    result = world.run("plan", "shop", "--create-vaults", "--json", "--bind", "vault")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["tree"], document["bind"]) == (10, "root", "vault")
    last = document["changes"][-1]
    assert (last["kind"], last["application"], last["where"]) == ("role assignment", "pay", "pay/access.yaml:7")
    assert last["after"]["secrets"] == ["kv-one/db"]
    assert "StringEquals 'kv-one'" in last["after"]["condition"]
    assert last["before"] is None


def test_json_of_apply_is_one_document(world: World) -> None:
    with_secret(world)
    result = world.run("apply", "shop", "--create-vaults", "--yes", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (len(document["applied"]["changes"]), document["remaining"]["changes"]) == (4, [])
    assert set(document["client_ids"]) == {"id-pay"}


def test_apply_asks_and_nobody_there_is_a_no(world: World) -> None:
    result = world.run("apply", "shop", "--create-vaults")
    assert isinstance(result.exception, InputError)
    assert "--yes" in result.exception.hint
    assert world.azure.identities() == ()
