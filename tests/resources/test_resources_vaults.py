"""Vaults, through azure-mgmt-keyvault."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from keyleaf.vault import find_vault

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
TENANT = "99999999-0000-0000-0000-000000000000"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-shop"
USER = "4633458b-17de-408a-b874-0445c86b69e6"
CONTRIBUTOR = "f25e0fa2-a7c8-4377-a976-54943a77a395"
SOMEBODY = "aaaaaaaa-0000-0000-0000-000000000001"


def body(tags: dict[str, str] | None = None, location: str = "local", **more: Any) -> Any:
    properties = {"tenantId": TENANT, "sku": {"name": "standard", "family": "A"}, **more}
    return {"location": location, "tags": tags or {}, "properties": properties}


def make(host: Any, name: str = "kv-shop", **more: Any) -> Any:
    return host.vaults().vaults.begin_create_or_update("shop", name, body(**more)).result()


def policy(*verbs: str) -> Any:
    return {"tenantId": TENANT, "objectId": SOMEBODY, "permissions": {"secrets": list(verbs)}}


def test_make_read_change_and_list(host: Any) -> None:
    api = host.vaults().vaults
    made = make(host, tags={"a": "b"}, enablePurgeProtection=None)
    assert made.id == VAULT
    assert made.properties.vault_uri == "https://kv-shop.vault.test:8443/"
    assert made.properties.provisioning_state == "Succeeded"
    assert made.properties.enable_rbac_authorization is True
    assert made.properties.soft_delete_retention_in_days == 90
    assert make(host, tags={"c": "d"}).tags == {"c": "d"}
    assert api.update("shop", "kv-shop", {"properties": {"sku": {"name": "premium", "family": "A"}}}).tags == {"c": "d"}
    assert api.get("SHOP", "KV-shop").properties.sku.name == "premium"
    assert [found.name for found in api.list_by_resource_group("shop")] == ["kv-shop"]
    assert [found.name for found in api.list_by_subscription()] == ["kv-shop"]
    assert [(found.name, found.type) for found in api.list()] == [("kv-shop", "Microsoft.KeyVault/vaults")]


def test_statuses_are_azures(host: Any) -> None:
    assert [host.send("PUT", VAULT, body()).status_code for _ in range(2)] == [201, 200]
    assert [host.send("DELETE", VAULT).status_code for _ in range(2)] == [200, 204]


def test_delete_recover_and_purge(host: Any) -> None:
    api = host.vaults().vaults
    make(host, tags={"a": "b"})
    app = host.principal("id-app")
    host.grant(VAULT, USER, app)
    host.grant(f"{VAULT}/secrets/db", USER, app)
    host.grant(f"{VAULT}-2", USER, app)
    host.grant(GROUP, USER, app)
    api.delete("shop", "kv-shop")
    with pytest.raises(ResourceNotFoundError):
        api.get("shop", "kv-shop")
    with pytest.raises(ResourceExistsError):
        make(host)
    deleted = api.get_deleted("kv-shop", "Local")
    assert deleted.properties.vault_id == VAULT
    assert (deleted.properties.scheduled_purge_date - deleted.properties.deletion_date).days == 90
    assert [found.name for found in api.list_deleted()] == ["kv-shop"]

    recovered = make(host, createMode="recover")
    assert recovered.tags == {"a": "b"}
    mine = f"principalId eq '{app}'"
    left = {found.scope for found in host.rbac().role_assignments.list_for_subscription(filter=mine)}
    assert left == {GROUP, f"{VAULT}-2"}

    api.delete("shop", "kv-shop")
    api.begin_purge_deleted("kv-shop", "local").result()
    assert list(api.list_deleted()) == []
    with pytest.raises(ResourceNotFoundError, match="DeletedVaultNotFound"):
        make(host, createMode="recover")
    assert make(host).tags == {}


def test_a_vault_is_recovered_only_where_it_was(host: Any) -> None:
    api = host.vaults().vaults
    make(host)
    api.delete("shop", "kv-shop")
    other = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other"
    assert host.send("PUT", other, {"location": "local"}).status_code == 201
    with pytest.raises(ResourceNotFoundError, match="DeletedVaultNotFound"):
        api.begin_create_or_update("other", "kv-shop", body(createMode="recover")).result()
    assert make(host, createMode="recover").id == VAULT


def test_purge_protection_only_goes_on(host: Any) -> None:
    api = host.vaults().vaults
    make(host)
    api.update("shop", "kv-shop", {"properties": {"enablePurgeProtection": True}})
    with pytest.raises(HttpResponseError, match="irreversible"):
        api.update("shop", "kv-shop", {"properties": {"enablePurgeProtection": False}})
    api.delete("shop", "kv-shop")
    with pytest.raises(ResourceExistsError, match="protected"):
        api.begin_purge_deleted("kv-shop", "local").result()


REFUSALS: list[Any] = [
    ("2short", body(), "VaultNameNotValid"),
    ("kv-a", body(tenantId=SOMEBODY), "BadRequest"),
    ("kv-a", body(sku=None), "BadRequest"),
    ("kv-a", body(sku={"name": "gold"}), "BadRequest"),
    ("kv-a", body(softDeleteRetentionInDays=5), "BadRequest"),
    ("kv-a", body(enableSoftDelete=False), "BadRequest"),
    ("kv-a", body(enableRbacAuthorization=False), "BadRequest"),
    ("kv-a", body(publicNetworkAccess="Disabled"), "BadRequest"),
    ("kv-a", body(networkAcls={"defaultAction": "Deny"}), "BadRequest"),
    ("kv-a", body(accessPolicies=[{**policy("get"), "objectId": "me"}]), "BadRequest"),
    ("kv-a", body(accessPolicies=[policy("peek")]), "BadRequest"),
    ("kv-a", body(tags={"keyleaf-policy-refuse-expired": "maybe"}), "BadRequest"),
    ("kv-a", body(location=""), "LocationRequired"),
]


def test_refusals(host: Any) -> None:
    for name, given, code in REFUSALS:
        answer = host.send("PUT", f"{GROUP}/providers/Microsoft.KeyVault/vaults/{name}", given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_what_is_fixed_at_creation(host: Any) -> None:
    make(host)
    assert make(host, softDeleteRetentionInDays=90).name == "kv-shop"
    with pytest.raises(HttpResponseError, match="can't be modified"):
        make(host, softDeleteRetentionInDays=10)
    with pytest.raises(ResourceExistsError, match="InvalidResourceLocation"):
        make(host, location="westeurope")


def test_names_are_global(host: Any) -> None:
    make(host)
    api = host.vaults().vaults
    kind = "Microsoft.KeyVault/vaults"

    def ask(name: str) -> Any:
        return api.check_name_availability({"name": name, "type": kind})

    assert ask("kv-other").name_available
    assert ask("KV-shop").reason == "AlreadyExists"
    assert ask("1").reason == "AccountNameInvalid"
    assert (
        host.send("PUT", f"/subscriptions/{SUBSCRIPTION}/resourceGroups/other", {"location": "local"}).status_code
        == 201
    )
    with pytest.raises(ResourceExistsError, match="VaultAlreadyExists"):
        api.begin_create_or_update("other", "kv-shop", body()).result()


def test_access_policies(host: Any) -> None:
    api = host.vaults().vaults
    make(host, enableRbacAuthorization=False, accessPolicies=[])

    def verbs(operation: str, *given: str) -> list[list[str]]:
        parameters = {"properties": {"accessPolicies": [policy(*given)]}}
        answer = api.update_access_policy("shop", "kv-shop", operation, parameters)
        return [entry.permissions.secrets for entry in answer.properties.access_policies]

    assert verbs("add", "get") == [["get"]]
    assert verbs("add", "Get", "list") == [["get", "list"]]
    assert verbs("replace", "set") == [["set"]]
    assert verbs("add", "get") == [["set", "get"]]
    assert verbs("remove", "set") == [["get"]]
    assert verbs("remove", "get", "list") == []
    answer = host.send("PUT", f"{VAULT}/accessPolicies/shuffle", {"properties": {"accessPolicies": []}})
    assert answer.status_code == 400


def test_changing_what_decides_asks_for_the_right_to_assign_roles(host: Any) -> None:
    make(host)
    contributor = host.principal("id-contributor")
    host.grant(GROUP, CONTRIBUTOR, contributor)
    change = {"properties": {"enableRbacAuthorization": False, "accessPolicies": [policy("all")]}}
    with pytest.raises(HttpResponseError, match="LinkedAuthorizationFailed"):
        host.vaults(contributor).vaults.update("shop", "kv-shop", change)
    assert host.vaults(contributor).vaults.update("shop", "kv-shop", {"tags": {"a": "b"}}).tags == {"a": "b"}
    assert host.vaults().vaults.update("shop", "kv-shop", change).properties.enable_rbac_authorization is False


def test_stricter_rules_are_asked_for_by_tags(host: Any) -> None:
    make(host)

    def rules() -> tuple[bool, bool]:
        with host.database.read() as conn:
            vault = find_vault(conn, "kv-shop")
        assert vault is not None
        return vault.policy.refuse_expired, vault.policy.refuse_placeholders

    assert rules() == (False, False)
    tags = {"keyleaf-policy-refuse-expired": "true", "Keyleaf-Policy-Refuse-Placeholders": "True"}
    host.vaults().vaults.update("shop", "kv-shop", {"tags": tags})
    assert rules() == (True, True)
    host.vaults().vaults.update("shop", "kv-shop", {"properties": {}})
    assert rules() == (True, True)
    make(host)
    assert rules() == (False, False)
