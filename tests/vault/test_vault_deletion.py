"""Soft delete, recovery, purge, and time."""

from __future__ import annotations

import pytest
from vault_room import BASE, Room, refusal, version_of

from keyleaf.core.errors import ServiceError
from keyleaf.vault import find_vault, purge_due, soft_delete_vault

DAY = 86_400
GONE = (404, "SecretNotFound", "")


def refused(room: Room, method: str, path: str, body: object = None, vault: str = "") -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        room.call(method, path, body, vault)
    return caught.value


def purge_now(room: Room) -> int:
    with room.database.write() as connection:
        return purge_due(connection, room.clock.now())


def test_deleting_hides_every_version_everywhere(room: Room) -> None:
    versions = [version_of(room.set("Db", value)) for value in "123"]
    room.clock.advance(10)
    deleted = room.call("DELETE", "/secrets/db")
    now = int(room.clock.now())
    assert deleted["id"] == f"{BASE}/secrets/Db/{versions[2]}"
    assert deleted["recoveryId"] == f"{BASE}/deletedsecrets/Db"
    assert (deleted["deletedDate"], deleted["scheduledPurgeDate"]) == (now, now + 90 * DAY)
    assert "value" not in deleted
    for version in ("", *versions):
        assert refusal(refused(room, "GET", f"/secrets/db/{version}")) == GONE
        assert refusal(refused(room, "PATCH", f"/secrets/db/{version}", {})) == GONE
    assert refusal(refused(room, "POST", "/secrets/db/backup")) == GONE
    assert refusal(refused(room, "DELETE", "/secrets/db")) == GONE
    assert room.call("GET", "/secrets")["value"] == []
    assert room.call("GET", "/secrets/db/versions")["value"] == []
    listed = room.call("GET", "/deletedsecrets")["value"]
    assert [one["id"] for one in listed] == [f"{BASE}/secrets/Db"]
    assert room.call("GET", "/deletedsecrets/DB") == deleted


def test_the_texts_that_tools_look_for(room: Room) -> None:
    assert "not found" in refused(room, "GET", "/secrets/none").message
    assert "not found" in refused(room, "GET", "/deletedsecrets/none").message
    room.set("a", "v")
    room.call("DELETE", "/secrets/a")
    assert "deleted but recoverable state" in refused(room, "PUT", "/secrets/A", {"value": "w"}).message


def test_a_living_secret_is_not_among_the_deleted(room: Room) -> None:
    room.set("a", "v")
    for method, path in (
        ("GET", "/deletedsecrets/a"),
        ("POST", "/deletedsecrets/a/recover"),
        ("DELETE", "/deletedsecrets/a"),
    ):
        assert refusal(refused(room, method, path)) == GONE
    assert room.get("a")["value"] == "v"


def test_recovering_brings_everything_back_as_it_was(room: Room) -> None:
    versions = [version_of(room.set("a", value, tags={"n": value})) for value in "12"]
    room.call("PATCH", f"/secrets/a/{versions[0]}", {"attributes": {"enabled": False, "exp": 9}})
    before = room.call("GET", "/secrets/a/versions")
    room.clock.advance(DAY)
    room.call("DELETE", "/secrets/a")
    room.clock.advance(DAY)
    recovered = room.call("POST", "/deletedsecrets/A/recover")
    assert "deletedDate" not in recovered
    assert room.call("GET", "/secrets/a/versions") == before
    assert room.get("a")["value"] == "2"
    assert refusal(refused(room, "GET", f"/secrets/a/{versions[0]}"))[2] == "SecretDisabled"
    assert room.call("GET", "/deletedsecrets")["value"] == []


def test_purging_frees_the_name_and_leaves_nothing(room: Room) -> None:
    old = version_of(room.set("A", "1"))
    room.call("DELETE", "/secrets/a")
    room.call("DELETE", "/deletedsecrets/a")
    assert refusal(refused(room, "GET", "/deletedsecrets/a")) == GONE
    assert room.set("a", "2")["id"].startswith(f"{BASE}/secrets/a/"), "the spelling is free too"
    assert len(room.call("GET", "/secrets/a/versions")["value"]) == 1
    assert refusal(refused(room, "GET", f"/secrets/a/{old}")) == GONE


def test_purge_protection_leaves_it_to_time(room: Room) -> None:
    room.add_vault("kv-safe", purge_protection=True, retention_days=7)
    made = room.set("a", "v", "kv-safe")
    assert made["attributes"]["recoveryLevel"] == "CustomizedRecoverable"
    room.call("DELETE", "/secrets/a", vault="kv-safe")
    assert refused(room, "DELETE", "/deletedsecrets/a", vault="kv-safe").status == 403
    assert room.call("GET", "/deletedsecrets/a", vault="kv-safe")["id"]
    room.clock.advance(7 * DAY)
    assert purge_now(room) == 1
    assert room.call("GET", "/deletedsecrets", vault="kv-safe")["value"] == []


def test_time_purges_to_the_second(room: Room) -> None:
    room.add_vault("kv-week", retention_days=7)
    for name in ("a", "b"):
        room.set(name, "v", "kv-week")
    room.set("a", "v")
    room.call("DELETE", "/secrets/a", vault="kv-week")
    room.clock.advance(7 * DAY - 1)
    room.call("DELETE", "/secrets/b", vault="kv-week")
    room.call("DELETE", "/secrets/a")
    assert purge_now(room) == 0
    room.clock.advance(1)
    assert purge_now(room) == 1
    assert [one["id"] for one in room.call("GET", "/deletedsecrets", vault="kv-week")["value"]] == [f"{BASE}/secrets/b"]
    assert room.call("GET", "/deletedsecrets/a")["recoveryId"], "the other vault keeps its for 90 days"


def test_a_recovered_secret_is_not_purged_later(room: Room) -> None:
    room.set("a", "v")
    room.call("DELETE", "/secrets/a")
    room.call("POST", "/deletedsecrets/a/recover")
    room.clock.advance(400 * DAY)
    assert purge_now(room) == 0
    assert room.get("a")["value"] == "v"


def test_time_purges_vaults_with_everything_in_them(room: Room) -> None:
    room.set("a", "v")
    room.set("b", "v")
    room.call("DELETE", "/secrets/b")
    with room.database.write() as connection:
        soft_delete_vault(connection, room.vault, now=room.clock.now())
    assert refusal(refused(room, "GET", "/secrets/a"))[:2] == (404, "VaultNotFound")
    room.clock.advance(90 * DAY)
    assert purge_now(room) == 2
    with room.database.read() as connection:
        assert find_vault(connection, room.vault, deleted=None) is None
    room.add_vault(room.vault)
    assert room.call("GET", "/secrets")["value"] == []
    assert room.call("GET", "/deletedsecrets")["value"] == []


@pytest.mark.parametrize(
    ("days", "protected", "level"),
    [
        (90, False, "Recoverable+Purgeable"),
        (90, True, "Recoverable"),
        (7, False, "CustomizedRecoverable+Purgeable"),
        (89, True, "CustomizedRecoverable"),
    ],
)
def test_the_level_of_recovery_follows_from_the_vault(room: Room, days: int, protected: bool, level: str) -> None:
    room.add_vault("kv-level", retention_days=days, purge_protection=protected)
    found = room.set("a", "v", "kv-level")["attributes"]
    assert (found["recoveryLevel"], found["recoverableDays"]) == (level, days)
