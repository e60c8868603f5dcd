"""Setting, getting and updating: limits, codes, and what is answered when a request is wrong."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vault_room import BASE, Room, refusal, version_of

from keyleaf.core.errors import ServiceError

BAD = (400, "BadParameter", "")
ON_ONE_ROOM = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def refused(room: Room, method: str, path: str, body: object = None, **query: str) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        room.call(method, path, body, **query)
    return caught.value


def test_a_set_answers_the_whole_bundle_and_a_get_the_same(room: Room) -> None:
    made = room.set(
        "Db-1", "value", contentType="text/plain", tags={"a": "b"}, attributes={"enabled": True, "nbf": 5, "exp": 9}
    )
    version = version_of(made)
    assert made == {
        "id": f"{BASE}/secrets/Db-1/{version}",
        "value": "value",
        "contentType": "text/plain",
        "tags": {"a": "b"},
        "attributes": {
            "enabled": True,
            "nbf": 5,
            "exp": 9,
            "created": int(room.clock.now()),
            "updated": int(room.clock.now()),
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
        },
    }
    assert len(version) == 32
    assert set(version) <= set("0123456789abcdef")
    assert room.get("db-1") == made
    assert room.get("DB-1", version) == made


def test_the_latest_is_the_last_one_set_even_within_one_second(room: Room) -> None:
    versions = [version_of(room.set("a", str(number))) for number in range(12)]
    assert room.get("a")["value"] == "11"
    assert [room.get("a", version)["value"] for version in versions] == [str(number) for number in range(12)]


def test_a_version_of_another_secret_is_not_found(room: Room) -> None:
    version = version_of(room.set("a", "v"))
    room.set("b", "w")
    error = refused(room, "GET", f"/secrets/b/{version}")
    assert refusal(error) == (404, "SecretNotFound", "")
    assert "not found" in error.message


def test_a_vault_sees_its_own_secrets_only(room: Room) -> None:
    room.add_vault("kv-other")
    room.set("a", "mine")
    assert room.call("GET", "/secrets", vault="kv-other")["value"] == []
    with pytest.raises(ServiceError) as caught:
        room.get("a", vault="kv-other")
    assert refusal(caught.value) == (404, "SecretNotFound", "")
    room.set("a", "theirs", vault="kv-other")
    assert room.get("a")["value"] == "mine"


def test_an_unknown_vault_is_not_found(room: Room) -> None:
    with pytest.raises(ServiceError) as caught:
        room.get("a", vault="kv-nowhere")
    assert refusal(caught.value) == (404, "VaultNotFound", "")


def test_only_a_disabled_version_is_blocked(room: Room) -> None:
    first = version_of(room.set("a", "1"))
    room.set("a", "2", attributes={"enabled": False})
    error = refused(room, "GET", "/secrets/a")
    assert refusal(error) == (403, "Forbidden", "SecretDisabled")
    assert error.message == "Operation get is not allowed on a disabled secret."
    assert room.get("a", first)["value"] == "1"
    assert room.call("GET", "/secrets/a/versions")["value"][1]["attributes"]["enabled"] is False
    room.call("PATCH", "/secrets/a", {"attributes": {"enabled": True}})
    assert room.get("a")["value"] == "2"


def test_updating_moves_updated_and_nothing_else_that_is_not_mentioned(room: Room) -> None:
    before = room.set("a", "v", contentType="t", tags={"a": "b"}, attributes={"exp": 4_000_000_000})
    room.clock.advance(5)
    after = room.call("PATCH", "/secrets/a", {})
    assert after.pop("attributes") == before.pop("attributes") | {"updated": int(room.clock.now())}
    assert before.pop("value") == "v"
    assert after == before
    assert room.get("a")["value"] == "v"


def test_updating_with_an_empty_version_changes_the_latest_only(room: Room) -> None:
    first = version_of(room.set("a", "1"))
    room.set("a", "2")
    room.call("PATCH", "/secrets/a/", {"tags": {"which": "latest"}})
    room.call("PATCH", f"/secrets/a/{first}", {"tags": {"which": "first"}})
    assert room.get("a")["tags"] == {"which": "latest"}
    assert room.get("a", first)["tags"] == {"which": "first"}


def test_a_value_cannot_be_updated(room: Room) -> None:
    room.set("a", "v")
    assert "value" not in room.call("PATCH", "/secrets/a", {"value": "other"})
    assert room.get("a")["value"] == "v"


def test_values_up_to_25_kib_are_taken(room: Room) -> None:
    for size in (0, 1, 25_600):
        assert room.set("a", "x" * size)["value"] == "x" * size
        assert room.get("a")["value"] == "x" * size


def test_a_value_over_25_kib_of_utf_8_is_refused_and_not_repeated(room: Room) -> None:
    for value in ("x" * 25_601, "é" * 12_801, "\U0001f511" * 6_401):
        error = refused(room, "PUT", "/secrets/a", {"value": value})
        assert refusal(error) == BAD
        assert value[:20] not in error.message
    assert room.call("GET", "/secrets")["value"] == []


def test_names_that_azure_takes(room: Room) -> None:
    for name in ("a" * 127, "0", "-", "A-b-9"):
        room.set(name, "v")
        assert room.get(name)["value"] == "v"


BAD_NAMES = ("a" * 128, "a_b", "a.b", "%C3%A4", "a%20b", "%E2%84%AA", "~", "%EF%BC%A1")


def test_names_that_azure_refuses(room: Room) -> None:
    for name in BAD_NAMES:
        for method, path in (
            ("PUT", f"/secrets/{name}"),
            ("GET", f"/secrets/{name}"),
            ("PATCH", f"/secrets/{name}"),
            ("DELETE", f"/secrets/{name}"),
            ("GET", f"/secrets/{name}/versions"),
            ("POST", f"/secrets/{name}/backup"),
            ("GET", f"/deletedsecrets/{name}"),
            ("POST", f"/deletedsecrets/{name}/recover"),
            ("DELETE", f"/deletedsecrets/{name}"),
        ):
            assert refusal(refused(room, method, path, {"value": "v"})) == BAD, (method, path)


WRONG_BODIES: list[tuple[object, str]] = [
    ({}, "value"),
    ({"value": None}, "$.value"),
    ({"value": 5}, "$.value"),
    ({"value": ["canary"]}, "$.value"),
    ([], "object"),
    ("canary", "object"),
    (b"", "JSON"),
    (b"{", "JSON"),
    (b'{"value": "canary"', "JSON"),
    (b'{"value": "canary\xff"}', "JSON"),
    (b'{"value": "\\ud800"}', ""),
    (b"[" * 5_000, ""),
    ({"value": "canary", "tags": []}, "$.tags"),
    ({"value": "canary", "tags": {"canary": 5}}, "$.tags"),
    ({"value": "canary", "tags": {"a": None}}, "$.tags"),
    ({"value": "canary", "contentType": 5}, "$.contentType"),
    ({"value": "canary", "attributes": []}, "$.attributes"),
    ({"value": "canary", "attributes": {"exp": "canary"}}, "$.attributes.exp"),
    ({"value": "canary", "attributes": {"enabled": "canary"}}, "$.attributes.enabled"),
    ({"value": "canary", "attributes": {"nbf": 1.5}}, "$.attributes.nbf"),
    ({"value": "canary", "attributes": {"exp": -1}}, "attributes.exp"),
    ({"value": "canary", "attributes": {"exp": 253_402_300_800}}, "attributes.exp"),
    ({"value": "canary", "attributes": {"nbf": 10**30}}, "attributes.nbf"),
    ({"value": "canary", "attributes": {"nbf": 7, "exp": 7}}, "attributes.exp"),
    ({"value": "canary", "contentType": "t" * 256}, "contentType"),
    ({"value": "canary", "contentType": "a\x00b"}, "contentType"),
    ({"value": "canary", "tags": {str(number): "" for number in range(16)}}, "15 tags"),
    ({"value": "canary", "tags": {"n" * 257: ""}}, "tag"),
    ({"value": "canary", "tags": {"n": "v" * 257}}, "tag"),
    ({"value": "canary", "tags": {"": "v"}}, "tag"),
]


def test_a_wrong_body_is_named_by_its_field_and_never_repeated(room: Room) -> None:
    for body, field in WRONG_BODIES:
        error = refused(room, "PUT", "/secrets/a", body)
        assert refusal(error) == BAD, body
        assert field in error.message, body
        assert "canary" not in str(error.body()), body
    assert room.call("GET", "/secrets")["value"] == [], "nothing was stored"


def test_what_is_just_within_the_limits_is_taken(room: Room) -> None:
    tags = {f"{number}".rjust(256, "n"): "v" * 256 for number in range(15)}
    made = room.set(
        "a", "v", tags=tags, contentType="t" * 255, attributes={"nbf": 0, "exp": 253_402_300_799}, unknown={"x": [1]}
    )
    assert made["tags"] == tags
    assert made["attributes"]["exp"] == 253_402_300_799


def test_what_only_the_service_writes_is_ignored_in_a_request(room: Room) -> None:
    given = {"created": 1, "updated": 2, "recoveryLevel": "Purgeable", "recoverableDays": 3}
    made = room.set("a", "v", attributes=given, id="https://elsewhere/secrets/b/1")
    assert made["attributes"]["created"] == int(room.clock.now())
    assert made["attributes"]["recoverableDays"] == 90
    assert made["id"].startswith(f"{BASE}/secrets/a/")


def test_a_parameter_for_certificates_is_tolerated(room: Room) -> None:
    room.set("a", "v")
    assert room.call("GET", "/secrets/a", outcontenttype="PEM")["value"] == "v"


@ON_ONE_ROOM
@given(JSON, st.sampled_from(["PUT", "PATCH"]))
def test_no_json_is_a_fault(room: Room, body: Any, method: str) -> None:
    try:
        room.call(method, "/secrets/fuzz", body)
    except ServiceError as error:
        assert error.status in (400, 404)


@ON_ONE_ROOM
@given(
    value=st.text(max_size=300),
    kind=st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=50),
    tags=st.none() | st.dictionaries(st.text(min_size=1, max_size=9), st.text(max_size=9), max_size=5),
)
def test_every_text_comes_back_as_it_was(room: Room, value: str, kind: str | None, tags: dict[str, str] | None) -> None:
    room.set("text", value, contentType=kind, tags=tags)
    found = room.get("text")
    assert found["value"] == value
    assert found.get("contentType") == kind
    assert found.get("tags") == tags


def test_concurrent_sets_of_one_secret_make_one_version_each(room: Room) -> None:
    failures: list[Exception] = []

    def work(number: int) -> None:
        try:
            for turn in range(6):
                room.set("busy", f"{number}-{turn}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    versions = [version_of(one) for page in room.pages("/secrets/busy/versions", 25) for one in page]
    assert len(versions) == 36
    values = {room.get("busy", version)["value"] for version in versions}
    assert values == {f"{number}-{turn}" for number in range(6) for turn in range(6)}
