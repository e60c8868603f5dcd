"""Backup and restore: what a blob holds, and where it opens."""

from __future__ import annotations

import base64

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vault_room import SUBSCRIPTION, Room, refusal, version_of

from keyleaf.core.errors import ServiceError

ELSEWHERE = "22222222-2222-2222-2222-222222222222"
BAD = (400, "BadParameter", "")
ON_ONE_ROOM = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refused(room: Room, body: object, vault: str = "") -> tuple[int, str, str]:
    with pytest.raises(ServiceError) as caught:
        room.call("POST", "/secrets/restore", body, vault)
    assert "canary" not in str(caught.value.body())
    return refusal(caught.value)


def blob_of(room: Room, name: str) -> str:
    return str(room.call("POST", f"/secrets/{name}/backup")["value"])


def test_a_restored_secret_is_the_same_in_another_vault(room: Room) -> None:
    first = version_of(room.set("Db", "canary-1", contentType="t", attributes={"exp": 9}))
    room.clock.advance(100)
    second = version_of(room.set("db", "canary-2", tags={"a": "b"}))
    room.call("PATCH", f"/secrets/db/{first}", {"attributes": {"enabled": False}})
    before = room.call("GET", "/secrets/db/versions")
    blob = blob_of(room, "db")
    assert set(blob) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert b"canary" not in base64.urlsafe_b64decode(blob + "==")
    room.add_vault("kv-other")
    room.clock.advance(100)
    restored = room.call("POST", "/secrets/restore", {"value": blob}, "kv-other")
    assert version_of(restored) == second
    assert "value" not in restored
    assert room.call("GET", "/secrets/db/versions", vault="kv-other") == before
    assert room.get("db", vault="kv-other")["value"] == "canary-2"
    room.call("PATCH", f"/secrets/db/{first}", {"attributes": {"enabled": True}}, "kv-other")
    assert room.get("db", first, "kv-other")["value"] == "canary-1"
    room.set("db", "3", "kv-other")
    assert room.get("db", vault="kv-other")["value"] == "3", "the restored history goes on"


def test_a_name_that_is_taken_is_not_overwritten(room: Room) -> None:
    room.set("Db", "old")
    blob = blob_of(room, "db")
    room.set("db", "new")
    assert refused(room, {"value": blob}) == (409, "Conflict", "")
    room.call("DELETE", "/secrets/db")
    assert refused(room, {"value": blob}) == (409, "Conflict", "ObjectIsDeletedButRecoverable")
    room.call("DELETE", "/deletedsecrets/db")
    room.set("dB", "another spelling")
    assert refused(room, {"value": blob}) == (409, "Conflict", "")
    assert room.get("db")["value"] == "another spelling"


def test_a_purged_secret_comes_back_from_its_backup(room: Room) -> None:
    made = room.set("a", "v")
    blob = blob_of(room, "a")
    room.call("DELETE", "/secrets/a")
    room.call("DELETE", "/deletedsecrets/a")
    room.clock.advance(100)
    room.call("POST", "/secrets/restore", {"value": blob})
    assert room.get("a") == made


def test_a_blob_opens_in_its_own_subscription_only(room: Room) -> None:
    room.add_vault("kv-near", SUBSCRIPTION)
    room.add_vault("kv-far", ELSEWHERE)
    room.set("a", "v")
    blob = blob_of(room, "a")
    assert refused(room, {"value": blob}, "kv-far") == BAD
    room.call("POST", "/secrets/restore", {"value": blob}, "kv-near")


def test_two_backups_of_one_secret_look_different(room: Room) -> None:
    room.set("a", "v")
    assert blob_of(room, "a") != blob_of(room, "a")


def test_a_disabled_secret_can_be_backed_up_and_stays_disabled(room: Room) -> None:
    room.set("a", "v", attributes={"enabled": False})
    blob = blob_of(room, "a")
    room.add_vault("kv-other")
    assert room.call("POST", "/secrets/restore", {"value": blob}, "kv-other")["attributes"]["enabled"] is False


def test_what_is_no_blob_is_refused(room: Room) -> None:
    for body in ({}, {"value": 5}, {"value": ""}, {"value": "canary"}, {"value": "ä"}, {"value": "A" * 4_000}, []):
        assert refused(room, body) == BAD, body


@ON_ONE_ROOM
@given(data=st.data())
def test_an_altered_blob_restores_nothing(room: Room, data: st.DataObject) -> None:
    if not room.call("GET", "/secrets")["value"]:
        room.set("a", "v", tags={"k": "v"})
        room.add_vault("kv-other")
    raw = bytearray(base64.urlsafe_b64decode(blob_of(room, "a") + "=="))
    kind = data.draw(st.sampled_from(["flip", "cut", "longer", "other"]))
    if kind == "flip":
        at = data.draw(st.integers(0, 8 * len(raw) - 1))
        raw[at // 8] ^= 1 << at % 8
    elif kind == "cut":
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    elif kind == "longer":
        raw += data.draw(st.binary(min_size=1, max_size=20))
    else:
        raw = bytearray(data.draw(st.binary(max_size=200)))
    altered = base64.urlsafe_b64encode(bytes(raw)).decode()
    assert refused(room, {"value": altered}, "kv-other") == BAD
    assert room.call("GET", "/secrets", vault="kv-other")["value"] == []
