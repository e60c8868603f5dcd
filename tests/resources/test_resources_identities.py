"""Managed identities and federated credentials, through azure-mgmt-msi."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
KIND = "Microsoft.ManagedIdentity/userAssignedIdentities"
ISSUER = "https://127.0.0.1:8443/oidc/local"
SUBJECT = "system:serviceaccount:shop:payments"
AUDIENCE = "api://AzureADTokenExchange"
CREDENTIAL = {"issuer": ISSUER, "subject": SUBJECT, "audiences": [AUDIENCE]}


def body(tags: dict[str, str] | None = None, location: str = "local") -> Any:
    return {"location": location, "tags": tags or {}}


def test_make_read_change_list_and_delete_an_identity(host: Any) -> None:
    api = host.identities().user_assigned_identities
    made = api.create_or_update("shop", "id-payments", body({"keyleaf-application": "payments"}))
    assert made.name == "id-payments"
    assert made.id.endswith(
        "/resourceGroups/shop/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-payments"
    )
    assert made.type == "Microsoft.ManagedIdentity/userAssignedIdentities"
    assert len({made.principal_id, made.client_id}) == 2

    again = api.create_or_update("shop", "ID-Payments", body({"a": "b"}))
    assert (again.principal_id, again.client_id, again.name) == (made.principal_id, made.client_id, "id-payments")
    assert again.tags == {"a": "b"}
    assert api.update("shop", "id-payments", {"tags": {"c": "d"}}).tags == {"c": "d"}
    assert api.get("SHOP", "id-payments").tags == {"c": "d"}
    assert "id-payments" in [found.name for found in api.list_by_resource_group("shop")]
    assert "id-payments" in [found.name for found in api.list_by_subscription()]

    api.delete("shop", "id-payments")
    api.delete("shop", "id-payments")
    with pytest.raises(ResourceNotFoundError, match=r"ResourceNotFound.*was not found"):
        api.get("shop", "id-payments")
    reborn = api.create_or_update("shop", "id-payments", body())
    assert reborn.principal_id != made.principal_id


def test_statuses_are_azures(host: Any) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop/providers/{KIND}/x-y-z"
    assert [host.send("PUT", path, body()).status_code for _ in range(2)] == [201, 200]
    credential = f"{path}/federatedIdentityCredentials/local"
    assert [host.send("PUT", credential, {"properties": CREDENTIAL}).status_code for _ in range(2)] == [201, 200]
    assert [host.send("DELETE", credential).status_code for _ in range(2)] == [200, 204]
    assert [host.send("DELETE", path).status_code for _ in range(2)] == [200, 204]


REFUSALS: list[Any] = [
    ("nowhere", "id-a", body(), 404, "ResourceGroupNotFound"),
    ("shop", "-a-", body(), 400, "InvalidResourceName"),
    ("shop", "id-a", {"tags": {}}, 400, "LocationRequired"),
    ("shop", "id-a", {"location": 3}, 400, "InvalidRequestContent"),
    ("shop", "operator", body(location="West Europe"), 409, "InvalidResourceLocation"),
    ("shop", "id-a", body({f"t{i}": "" for i in range(51)}), 400, "InvalidTagNameOrValue"),
]


def test_refusals(host: Any) -> None:
    for group, name, given, status, code in REFUSALS:
        path = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{group}/providers/{KIND}/{name}"
        answer = host.send("PUT", path, given)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_federated_credentials(host: Any) -> None:
    client = host.identities()
    client.user_assigned_identities.create_or_update("shop", "id-payments", body())
    api = client.federated_identity_credentials
    made = api.create_or_update("shop", "id-payments", "shop-payments", CREDENTIAL)
    assert (made.issuer, made.subject, made.audiences) == (ISSUER, SUBJECT, [AUDIENCE])
    assert made.id.endswith("/userAssignedIdentities/id-payments/federatedIdentityCredentials/shop-payments")
    assert api.get("shop", "id-payments", "shop-payments").subject == SUBJECT
    with pytest.raises(ResourceExistsError, match="Issuer and subject combination already exists"):
        api.create_or_update("shop", "id-payments", "other", CREDENTIAL)
    moved = api.create_or_update("shop", "id-payments", "shop-payments", {**CREDENTIAL, "subject": f"{SUBJECT}2"})
    assert moved.subject == f"{SUBJECT}2"
    assert [found.name for found in api.list("shop", "id-payments")] == ["shop-payments"]
    api.delete("shop", "id-payments", "shop-payments")
    assert list(api.list("shop", "id-payments")) == []
    with pytest.raises(ResourceNotFoundError, match="ResourceNotFound"):
        api.get("shop", "id-payments", "shop-payments")
    with pytest.raises(ResourceNotFoundError):
        api.create_or_update("shop", "id-nobody", "shop-payments", CREDENTIAL)


def test_who_may_not_write_is_told_in_azures_words(host: Any) -> None:
    nobody = host.principal("id-nobody")
    with pytest.raises(HttpResponseError) as refused:
        host.identities(nobody).user_assigned_identities.create_or_update("shop", "id-a", body())
    assert refused.value.status_code == 403
    assert refused.value.error.code == "AuthorizationFailed"
    assert f"with object id '{nobody}' does not have authorization to perform action" in refused.value.error.message
    assert "'Microsoft.ManagedIdentity/userAssignedIdentities/write' over scope" in refused.value.error.message


def test_deleting_an_identity_leaves_its_grants_orphaned(host: Any) -> None:
    gone = host.principal("id-gone")
    host.grant(f"/subscriptions/{SUBSCRIPTION}", "acdd72a7-3385-48ef-bd42-f606fba81ae7", gone)
    host.identities().user_assigned_identities.delete("shop", "id-gone")
    left = list(host.rbac().role_assignments.list_for_subscription(filter=f"principalId eq '{gone}'"))
    assert [found.principal_id for found in left] == [gone]
