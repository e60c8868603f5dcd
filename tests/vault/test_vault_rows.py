"""Vaults as rows: made, found, changed, deleted, recovered, purged."""

from __future__ import annotations

from typing import Any

import pytest
from vault_room import SUBSCRIPTION, TENANT, Room, refusal

from keyleaf.core.errors import ServiceError
from keyleaf.vault import (
    VaultPolicy,
    find_vault,
    find_vault_by_resource,
    list_vaults,
    purge_vault,
    recover_vault,
    soft_delete_vault,
    update_vault,
)

DAY = 86_400


def write(room: Room, function: Any, *arguments: Any, **options: Any) -> Any:
    with room.database.write() as connection:
        return function(connection, *arguments, **options)


def read(room: Room, function: Any, *arguments: Any, **options: Any) -> Any:
    with room.database.read() as connection:
        return function(connection, *arguments, **options)


def test_a_vault_is_found_by_name_and_id_in_any_case(room: Room) -> None:
    made = room.add_vault("Kv-Mixed", tags={"a": "b"}, policy=VaultPolicy(refuse_expired=True))
    assert read(room, find_vault, "kv-MIXED") == made
    assert read(room, find_vault_by_resource, made.resource_id.upper()) == made
    assert (made.name, made.key, made.subscription, made.tenant_id) == ("Kv-Mixed", "kv-mixed", SUBSCRIPTION, TENANT)
    assert made.scope.path == made.resource_id
    assert made.policy.refuse_expired
    assert read(room, find_vault, "none") is None
    assert read(room, find_vault_by_resource, "/none") is None


def test_names_are_global_and_kept_by_deleted_vaults(room: Room) -> None:
    elsewhere = "22222222-2222-2222-2222-222222222222"
    with pytest.raises(ServiceError) as caught:
        room.add_vault("KV-shop", elsewhere)
    assert refusal(caught.value)[:2] == (409, "VaultAlreadyExists")
    write(room, soft_delete_vault, "kv-shop", now=room.clock.now())
    with pytest.raises(ServiceError) as caught:
        room.add_vault("kv-shop", elsewhere)
    assert refusal(caught.value)[:2] == (409, "ConflictError")


def test_changes_leave_the_rest_alone(room: Room) -> None:
    before = room.row()
    room.clock.advance(5)
    policies = [{"tenantId": TENANT, "objectId": "x", "permissions": {"secrets": ["get"]}}]
    after = write(
        room, update_vault, "KV-SHOP", now=room.clock.now(), tags={"c": "d"}, access_policies=policies, rbac=False
    )
    assert (after.tags, list(after.access_policies), after.rbac) == ({"c": "d"}, policies, False)
    assert (after.sku, after.policy, after.wrapped_key) == (before.sku, before.policy, before.wrapped_key)
    assert (after.created, after.updated) == (before.created, before.updated + 5)


def test_purge_protection_only_goes_on(room: Room) -> None:
    now = room.clock.now()
    assert write(room, update_vault, "kv-shop", now=now, purge_protection=False).purge_protection is False
    assert write(room, update_vault, "kv-shop", now=now, purge_protection=True).purge_protection is True
    with pytest.raises(ServiceError) as caught:
        write(room, update_vault, "kv-shop", now=now, purge_protection=False)
    assert caught.value.status == 400
    assert room.row().purge_protection


def test_a_deleted_vault_comes_back_with_its_secrets(room: Room) -> None:
    room.set("a", "v")
    now = room.clock.now()
    deleted = write(room, soft_delete_vault, "kv-shop", now=now)
    assert (deleted.deleted, deleted.purge_at) == (int(now), int(now) + 90 * DAY)
    assert read(room, find_vault, "kv-shop") is None
    assert read(room, find_vault, "kv-shop", deleted=True) == deleted
    assert read(room, list_vaults) == []
    assert read(room, list_vaults, deleted=True) == [deleted]
    with pytest.raises(ServiceError):
        room.get("a")
    recovered = write(room, recover_vault, "KV-shop", now=now)
    assert (recovered.deleted, recovered.purge_at) == (None, None)
    assert room.get("a")["value"] == "v"


def test_purging_takes_a_deleted_vault_and_everything_in_it(room: Room) -> None:
    room.set("a", "v")
    with pytest.raises(ServiceError) as caught:
        write(room, purge_vault, "kv-shop")
    assert caught.value.status == 404
    write(room, soft_delete_vault, "kv-shop", now=room.clock.now())
    write(room, purge_vault, "kv-shop")
    old = room.add_vault("kv-shop")
    assert room.call("GET", "/secrets")["value"] == []
    assert old.deleted is None


def test_a_protected_vault_is_not_purged(room: Room) -> None:
    room.add_vault("kv-safe", purge_protection=True)
    write(room, soft_delete_vault, "kv-safe", now=room.clock.now())
    with pytest.raises(ServiceError) as caught:
        write(room, purge_vault, "kv-safe")
    assert caught.value.status == 409
    assert read(room, find_vault, "kv-safe", deleted=True) is not None


@pytest.mark.parametrize("function", [update_vault, soft_delete_vault, recover_vault])
def test_what_is_not_there_is_not_found(room: Room, function: Any) -> None:
    with pytest.raises(ServiceError) as caught:
        write(room, function, "kv-none", now=0.0)
    assert refusal(caught.value)[:2] == (404, "VaultNotFound")


def test_vaults_are_listed_by_name_below_a_scope(room: Room) -> None:
    other = "22222222-2222-2222-2222-222222222222"
    room.add_vault("kv-b", other)
    room.add_vault("kv-a")
    assert [one.name for one in read(room, list_vaults)] == ["kv-a", "kv-b", "kv-shop"]
    assert [one.name for one in read(room, list_vaults, below=f"/SUBSCRIPTIONS/{other}")] == ["kv-b"]


def test_each_vault_has_a_key_of_its_own(room: Room) -> None:
    assert room.add_vault("kv-a").wrapped_key != room.add_vault("kv-b").wrapped_key
