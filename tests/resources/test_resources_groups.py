"""Subscriptions and resource groups, and what all of ARM has in common."""

from __future__ import annotations

from typing import Any

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
TENANT = "99999999-0000-0000-0000-000000000000"
HERE = f"/subscriptions/{SUBSCRIPTION}"
READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"


def ids(answer: Any) -> list[str]:
    return [found["id"] for found in answer.json()["value"]]


def test_subscriptions_are_those_in_which_one_holds_a_role(host: Any) -> None:
    assert ids(host.send("GET", "/subscriptions")) == [HERE, f"/subscriptions/{OTHER_SUBSCRIPTION}"]
    nobody = host.principal("id-nobody")
    assert ids(host.send("GET", "/subscriptions", object_id=nobody)) == []
    host.grant(f"{HERE}/resourceGroups/shop", READER, nobody)
    assert ids(host.send("GET", "/subscriptions", object_id=nobody)) == [HERE]
    assert host.send("GET", HERE).json()["tenantId"] == TENANT
    assert host.send("GET", HERE, object_id=nobody).status_code == 403


def test_groups_are_made_read_and_listed(host: Any) -> None:
    path = f"{HERE}/resourceGroups/Team.Data_(1)"
    made = [host.send("PUT", path, {"location": "local", "tags": {"a": str(i)}}) for i in range(2)]
    assert [answer.status_code for answer in made] == [201, 200]
    assert host.send("GET", path.lower()).json()["tags"] == {"a": "1"}
    assert host.send("GET", path).json()["properties"] == {"provisioningState": "Succeeded"}
    assert ids(host.send("GET", f"{HERE}/resourceGroups")) == [f"{HERE}/resourceGroups/shop", path]


def test_deleting_a_group_deletes_what_is_in_it(host: Any) -> None:
    app = host.principal("id-app")
    properties = {"tenantId": TENANT, "sku": {"name": "standard", "family": "A"}}
    given = {"location": "local", "properties": properties}
    host.vaults().vaults.begin_create_or_update("shop", "kv-shop", given).result()
    host.grant(f"{HERE}/resourceGroups/shop", READER, app)
    host.grant(HERE, READER, app)
    assert host.send("DELETE", f"{HERE}/resourceGroups/shop").status_code == 200
    assert host.send("GET", f"{HERE}/resourceGroups/shop").status_code == 404
    resources = host.send("GET", f"{HERE}/resources")
    assert resources.json() == {"value": []}
    assert [vault.name for vault in host.vaults().vaults.list_deleted()] == ["kv-shop"]
    mine = f"principalId eq '{app}'"
    assert [a.scope for a in host.rbac().role_assignments.list_for_subscription(filter=mine)] == [HERE]


def test_the_right_to_delete_a_group_does_not_reach_into_it(host: Any) -> None:
    cleaner = host.principal("id-cleaner")
    role = "aaaaaaaa-0000-0000-0000-00000000000a"
    permission = {"actions": ["Microsoft.Resources/subscriptions/resourceGroups/*"]}
    properties = {
        "roleName": "Group cleaner",
        "description": "Removes empty groups.",
        "assignableScopes": [HERE],
        "permissions": [permission],
    }
    definition = f"{HERE}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    assert host.send("PUT", definition, {"properties": properties}).status_code == 201
    host.grant(HERE, role, cleaner)
    refused = host.send("DELETE", f"{HERE}/resourceGroups/shop", object_id=cleaner)
    assert refused.json()["error"]["code"] == "LinkedAuthorizationFailed"
    assert host.send("PUT", f"{HERE}/resourceGroups/bare", {"location": "local"}).status_code == 201
    assert host.send("DELETE", f"{HERE}/resourceGroups/bare", object_id=cleaner).status_code == 200


ERRORS: list[Any] = [
    ("PUT", f"{HERE}/resourceGroups/ends.", 400, "InvalidResourceGroup"),
    ("GET", f"{HERE}/resourceGroups/none", 404, "ResourceGroupNotFound"),
    ("GET", f"/subscriptions/{TENANT}", 404, "SubscriptionNotFound"),
    ("GET", "/subscriptions/mine", 400, "InvalidSubscriptionId"),
    ("GET", f"{HERE}/resourceGroups/a%2Fb", 400, "InvalidResourceName"),
    ("GET", f"{HERE}/resourceGroups/a%00", 400, "InvalidResourceName"),
    ("GET", f"{HERE}/resourceGroups/%2e%2e", 400, "MissingSubscription"),
    ("GET", f"{HERE}/resources?$filter=owner eq 'me'", 400, "InvalidFilterInQueryString"),
]


def test_errors(host: Any) -> None:
    for method, path, status, code in ERRORS:
        answer = host.send(method, path, {"location": "local"} if method == "PUT" else None)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_resources_of_every_kind_are_listed_and_filtered(host: Any) -> None:
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    assert ids(host.send("GET", f"{HERE}/resources")) == [f"{HERE}/resourceGroups/shop/providers/{kind}/operator"]
    assert ids(host.send("GET", f"{HERE}/resources?$filter=resourceType eq '{kind.lower()}'"))
    assert ids(host.send("GET", f"{HERE}/resources?$filter=resourceType eq 'Microsoft.KeyVault/vaults'")) == []
