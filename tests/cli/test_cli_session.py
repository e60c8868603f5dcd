"""Settings, tree ids and the state directory: what is asked, in which order, and what is said when it is missing."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from keyleaf.cli.session import (
    OperatorToken,
    Options,
    connect,
    read_connection,
    read_settings_file,
    remember_tree,
    remembered_tree,
    tree_id,
)
from keyleaf.core.clock import ManualClock
from keyleaf.core.errors import InputError, StateError
from keyleaf.core.location import Location
from keyleaf.tree.model import Application, AppTree

SUBSCRIPTION = "0a0a0a0a-0000-4000-8000-00000000000a"


def tree(root: str, *names: str) -> AppTree:
    applications = {
        name: Application(name, name, "argocd", "default", (), "", name, Location(f"{name}.yaml", 1)) for name in names
    }
    return AppTree(root, "", applications, (), (), (), (), ())


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AZURE_SUBSCRIPTION_ID",
        "KEYLEAF_RESOURCE_GROUP",
        "KEYLEAF_LOCATION",
        "KEYLEAF_ISSUER",
        "KEYLEAF_STATE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("said", "root", "names", "expected"),
    [
        ("mine", "/x/shop", ("root",), "mine"),
        ("", "/x/shop", ("root",), "root"),
        ("", "/x/shop", ("a", "b"), "shop"),
        ("", "https://git.example/team/shop.git", (), "shop"),
        ("", "https://git.example/team/shop.git/", ("a", "b"), "shop"),
        ("", "/x/my shop!", (), "my-shop"),
        ("", "/", (), "tree"),
    ],
)
def test_tree_id(said: str, root: str, names: tuple[str, ...], expected: str) -> None:
    assert tree_id(said, tree(root, *names)) == expected


@pytest.mark.parametrize("said", ["two words", "-x", "a" * 65, "a\nb"])
def test_bad_tree_id_is_refused(said: str) -> None:
    with pytest.raises(InputError, match="is not a tree id"):
        tree_id(said, tree("/x"))


def test_no_azure_at_all_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"no subscription is named \(start one with keyleaf up"):
        connect()


def test_option_before_environment_before_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    written = (
        f'subscription = "{SUBSCRIPTION}"\nresource-group = "rg-file"\nlocation = "file"\nissuer = "https://file"\n'
    )
    (tmp_path / "keyleaf.toml").write_text(written + 'bind = "vault"\n')
    monkeypatch.setenv("KEYLEAF_LOCATION", "environment")
    monkeypatch.setenv("KEYLEAF_ISSUER", "https://environment")
    settings = connect(options=Options(issuer="https://option")).settings(tree("/x", "root"))
    assert settings.resource_group == "rg-file"
    assert (settings.location, settings.issuer, settings.bind) == ("environment", "https://option", "vault")
    assert (settings.subscription, settings.tree, settings.create_vaults) == (SUBSCRIPTION, "root", False)


def test_missing_setting_names_each_place_where_it_may_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", SUBSCRIPTION)
    with pytest.raises(InputError) as caught:
        connect().settings(tree("/x"))
    assert (
        caught.value.hint
        == '--resource-group, $KEYLEAF_RESOURCE_GROUP, or resource-group = "…" in keyleaf.toml beside the tree'
    )


def test_unknown_bind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Options(None, False, "", SUBSCRIPTION, "rg", "x", "https://i", "subscription")
    with pytest.raises(InputError, match="one of: secret, vault, resource-group"):
        connect(options=everything).settings(tree("/x"))


@pytest.mark.parametrize(("text", "message"), [("tre = 1", "unknown setting 'tre'"), ("= 1", "cannot be read")])
def test_settings_file_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "keyleaf.toml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_settings_file(str(tmp_path))
    assert str(caught.value.where).endswith("keyleaf.toml")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"authority": "x"}'])
def test_connection_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "connection.json").write_text(text)
    with pytest.raises(StateError, match=r"connection\.json"):
        read_connection(tmp_path)


def test_no_connection_is_no_error(tmp_path: Path) -> None:
    assert read_connection(tmp_path / "nowhere") is None


def test_last_tree_is_remembered(tmp_path: Path) -> None:
    assert remembered_tree(tmp_path) is None
    (tmp_path / "shop").mkdir()
    remember_tree(tmp_path, "shop", "main")
    assert remembered_tree(tmp_path) == (str(tmp_path / "shop"), "main")
    remember_tree(tmp_path, "https://git.example/shop.git", "")
    assert remembered_tree(tmp_path) == ("https://git.example/shop.git", "")
    (tmp_path / "tree.json").write_text(json.dumps({"path": 1}))
    assert remembered_tree(tmp_path) is None
    assert remembered_tree(None) is None


def test_operator_token_is_private_and_renewed_at_half_its_life(tmp_path: Path) -> None:
    clock = ManualClock()
    minted = iter(["first", "second"])
    file = tmp_path / "run" / "operator.token"
    token = OperatorToken(file, lambda: next(minted), 3600.0, clock)
    token.write_when_due()
    token.write_when_due()
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("first", 0o600)
    clock.advance(1799)
    token.write_when_due()
    assert file.read_text() == "first"
    clock.advance(1)
    token.write_when_due()
    assert file.read_text() == "second"
    assert [path.name for path in file.parent.iterdir()] == ["operator.token"]


def test_stopped_server_is_told_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"https://127.0.0.1:{taken.getsockname()[1]}"
    names = ("authority", "tenant_id", "subscription_id", "resource_group", "location", "ca_bundle", "issuer")
    connection = {**dict.fromkeys((*names, "operator_client_id"), "x"), "arm": url}
    (tmp_path / "connection.json").write_text(json.dumps(connection))
    with pytest.raises(StateError, match="is not running"):
        connect(tmp_path)
