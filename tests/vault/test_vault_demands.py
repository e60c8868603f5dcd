"""What each operation demands, and that no spelling of a name gets around a condition."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vault_room import BASE, Room

from keyleaf.core.errors import ServiceError

OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
RESOURCE_NAME = "@Resource[Microsoft.KeyVault/vaults/secrets:name]"
REQUEST_NAME = "@Request[Microsoft.KeyVault/vaults/secrets:name]"
VAULT_NAME = "@Resource[Microsoft.KeyVault/vaults:name]"


@pytest.mark.parametrize(
    ("method", "path", "action", "scope"),
    [
        ("GET", "/secrets/db", "getSecret/action", "/secrets/db"),
        ("GET", "/secrets/db/0123", "getSecret/action", "/secrets/db"),
        ("GET", "/secrets/db/versions", "readMetadata/action", "/secrets/db"),
        ("GET", "/secrets", "readMetadata/action", ""),
        ("PUT", "/secrets/db", "setSecret/action", "/secrets/db"),
        ("PATCH", "/secrets/db/", "update/action", "/secrets/db"),
        ("DELETE", "/secrets/db", "delete", "/secrets/db"),
        ("GET", "/deletedsecrets", "readMetadata/action", ""),
        ("GET", "/deletedsecrets/db", "readMetadata/action", "/secrets/db"),
        ("POST", "/deletedsecrets/db/recover", "recover/action", "/secrets/db"),
        ("DELETE", "/deletedsecrets/db", "purge/action", "/secrets/db"),
        ("POST", "/secrets/db/backup", "backup/action", "/secrets/db"),
        ("POST", "/secrets/restore", "restore/action", ""),
    ],
)
def test_each_operation_demands_its_data_action_at_its_scope(
    room: Room, method: str, path: str, action: str, scope: str
) -> None:
    demand = room.demand(method, path, {"value": "v"})
    assert demand.data
    assert demand.action == f"Microsoft.KeyVault/vaults/secrets/{action}"
    assert demand.scope.path == room.row().resource_id + scope
    assert demand.attributes[VAULT_NAME] == "kv-shop"
    assert (RESOURCE_NAME in demand.attributes) == bool(scope)
    assert (REQUEST_NAME in demand.attributes) == (method == "PUT")


def test_restoring_is_demanded_with_the_name_in_the_blob(room: Room) -> None:
    room.set("Db", "v")
    blob = room.call("POST", "/secrets/db/backup")["value"]
    assert room.demand("POST", "/secrets/restore", {"value": blob}).attributes[REQUEST_NAME] == "Db"
    assert REQUEST_NAME not in room.demand("POST", "/secrets/restore", {"value": blob[:-4]}).attributes


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.booleans(), min_size=7, max_size=7), deleted=st.booleans())
def test_no_spelling_gets_around_a_name_condition(room: Room, flips: list[bool], deleted: bool) -> None:
    spelling = "".join(c.upper() if flip else c for c, flip in zip("prod-db", flips, strict=True))
    bring_about(room, deleted)
    excluded = f"{RESOURCE_NAME} StringNotEquals 'prod-db'"
    requested = f"{REQUEST_NAME} StringNotEquals 'prod-db'"
    for method, path in (
        ("GET", f"/secrets/{spelling}"),
        ("GET", f"/secrets/{spelling}/versions"),
        ("PATCH", f"/secrets/{spelling}"),
        ("DELETE", f"/secrets/{spelling}"),
        ("GET", f"/deletedsecrets/{spelling}"),
        ("POST", f"/deletedsecrets/{spelling}/recover"),
        ("DELETE", f"/deletedsecrets/{spelling}"),
        ("POST", f"/secrets/{spelling}/backup"),
    ):
        assert not room.decide(room.demand(method, path), OFFICER, excluded).allowed, (method, path)
    setting = room.demand("PUT", f"/secrets/{spelling}", {"value": "v"})
    assert not room.decide(setting, OFFICER, excluded).allowed
    assert not room.decide(setting, OFFICER, requested).allowed
    other = room.demand("GET", "/secrets/dev-db")
    assert room.decide(other, OFFICER, excluded).allowed, "the condition holds for one name only"


def bring_about(room: Room, deleted: bool) -> None:
    """``prod-db`` is there, alive or deleted."""
    try:
        room.set("prod-db", "v")
    except ServiceError as error:
        assert error.inner == "ObjectIsDeletedButRecoverable"
        room.call("POST", "/deletedsecrets/prod-db/recover")
    if deleted:
        room.call("DELETE", "/secrets/prod-db")


def test_a_letter_that_folds_to_ascii_is_no_other_spelling(room: Room) -> None:
    room.set("key", "v")
    demand = room.demand("GET", "/secrets/%E2%84%AAey")  # the Kelvin sign, whose lower case is k
    assert demand.attributes[RESOURCE_NAME] == "key"


def test_ids_are_rendered_from_the_authority_that_was_called(room: Room) -> None:
    assert room.set("a", "v")["id"].startswith(f"{BASE}/secrets/a/")
