"""Who may read what through grants at every scope, over the wire; each grant and its end count at once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from embedded import READER, SECRETS_OFFICER, SECRETS_USER, Embedded, Person
from keyleaf.access import secret_names_condition

GET_SECRET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
READ_METADATA = "Microsoft.KeyVault/vaults/secrets/readMetadata/action"


@pytest.fixture(scope="module")
def vaults(embedded: Embedded) -> list[dict[str, Any]]:
    made = [embedded.vault(), embedded.vault()]
    for vault in made:
        for name in ("db", "api"):
            embedded.put(vault, name, f"{vault['name']}-{name}")
    return made


@pytest.fixture
def person(embedded: Embedded) -> Person:
    return embedded.person()


def readable(embedded: Embedded, person: Person, vaults: list[dict[str, Any]]) -> set[tuple[int, str]]:
    """Which secrets of which vaults the person reads; everything else is a clean 403."""
    found = set()
    for number, vault in enumerate(vaults):
        token = embedded.token(person, vault["resource"])
        for name in ("db", "api"):
            answer = embedded.call("GET", f"{vault['url']}/secrets/{name}", vault, token=token)
            if answer.status_code == 200:
                assert answer.json()["value"] == f"{vault['name']}-{name}"
                found.add((number, name))
            else:
                assert answer.status_code == 403
                assert answer.json()["error"]["innererror"]["code"] == "ForbiddenByRbac"
    return found


EVERYTHING = {(number, name) for number in (0, 1) for name in ("db", "api")}


@pytest.mark.parametrize("scope", ["management group", "subscription", "resource group", "vault", "secret"])
def test_a_grant_holds_at_its_scope_and_below(
    embedded: Embedded, vaults: list[dict[str, Any]], person: Person, scope: str
) -> None:
    tenant, group = embedded.connection["tenant_id"], embedded.operator.group()
    where, expected = {
        "management group": (f"/providers/Microsoft.Management/managementGroups/{tenant}", EVERYTHING),
        "subscription": (group.rsplit("/", 2)[0], EVERYTHING),
        "resource group": (group, EVERYTHING),
        "vault": (vaults[0]["id"], {(0, "db"), (0, "api")}),
        "secret": (f"{vaults[0]['id']}/secrets/db", {(0, "db")}),
    }[scope]
    assert readable(embedded, person, vaults) == set()
    if scope == "management group":
        # The operator is owner of the subscription only: what is above it is not the operator's to give.
        with pytest.raises(SystemExit, match="403"):
            embedded.grant(person, where)
        return
    assignment = embedded.grant(person, where)
    assert readable(embedded, person, vaults) == expected
    embedded.revoke(assignment)
    assert readable(embedded, person, vaults) == set()


def test_another_resource_group_gives_nothing_here(
    embedded: Embedded, vaults: list[dict[str, Any]], person: Person
) -> None:
    other = embedded.operator.group().rsplit("/", 1)[0] + f"/rg-{uuid.uuid4().hex[:8]}"
    embedded.operator.arm("PUT", other, "2021-04-01", {"location": "local"})
    embedded.grant(person, other)
    embedded.grant(person, f"{vaults[0]['id']}/secrets/d")
    embedded.grant(person, f"{vaults[0]['id']}/secrets/dbx")
    embedded.grant(person, vaults[0]["id"], READER)
    assert readable(embedded, person, vaults) == set()


def test_scopes_have_no_case(embedded: Embedded, vaults: list[dict[str, Any]], person: Person) -> None:
    embedded.grant(person, f"{vaults[0]['id'].upper()}/SECRETS/DB")
    assert readable(embedded, person, vaults) == {(0, "db")}


def test_a_custom_role_gives_what_it_names(embedded: Embedded, vaults: list[dict[str, Any]], person: Person) -> None:
    guid, group = str(uuid.uuid4()), embedded.operator.group()
    path = f"{group}/providers/Microsoft.Authorization/roleDefinitions/{guid}"

    def define(*actions: str, without: tuple[str, ...] = ()) -> None:
        body = {
            "properties": {
                "roleName": f"Shop reads its own {guid[:8]}",
                "type": "CustomRole",
                "description": "Lets the shop read what it declares.",
                "permissions": [
                    {"actions": [], "notActions": [], "dataActions": list(actions), "notDataActions": list(without)}
                ],
                "assignableScopes": [group],
            }
        }
        embedded.operator.arm("PUT", path, "2022-04-01", body)

    define(READ_METADATA)
    embedded.grant(person, vaults[0]["id"], guid)
    token = embedded.token(person, vaults[0]["resource"])
    listing = f"{vaults[0]['url']}/secrets"
    assert embedded.call("GET", listing, vaults[0], token=token).status_code == 200
    assert readable(embedded, person, vaults) == set()
    define(GET_SECRET)
    assert readable(embedded, person, vaults) == {(0, "db"), (0, "api")}, "a changed role counts at once"
    assert embedded.call("GET", listing, vaults[0], token=token).status_code == 403
    define("Microsoft.KeyVault/vaults/*", without=(GET_SECRET,))
    assert readable(embedded, person, vaults) == set()


def test_a_condition_narrows_a_wide_scope(embedded: Embedded, vaults: list[dict[str, Any]], person: Person) -> None:
    group = embedded.operator.group()
    condition = secret_names_condition(["db"], vaults[0]["name"])
    assignment = embedded.grant(person, group, SECRETS_USER, condition=condition, conditionVersion="2.0")
    assert readable(embedded, person, vaults) == {(0, "db")}
    embedded.revoke(assignment)
    assert readable(embedded, person, vaults) == set()


def test_a_condition_on_the_requested_name_narrows_writing(
    embedded: Embedded, vaults: list[dict[str, Any]], person: Person
) -> None:
    condition = "@Request[Microsoft.KeyVault/vaults/secrets:name] StringEquals 'mine'"
    guarded = f"(!(ActionMatches{{'Microsoft.KeyVault/vaults/secrets/setSecret/action'}}) OR ({condition}))"
    embedded.grant(person, vaults[0]["id"], SECRETS_OFFICER, condition=guarded, conditionVersion="2.0")
    token = embedded.token(person, vaults[0]["resource"])
    for name, expected in (("mine", 200), ("MINE", 200), ("yours", 403), ("db", 403), ("Mine2", 403)):
        url = f"{vaults[0]['url']}/secrets/{name}"
        assert embedded.call("PUT", url, vaults[0], token=token, json={"value": "v"}).status_code == expected, name
    assert readable(embedded, person, vaults) == {(0, "db"), (0, "api")}


def test_a_condition_that_cannot_be_read_is_refused_when_it_is_made(
    embedded: Embedded, vaults: list[dict[str, Any]], person: Person
) -> None:
    for condition, version in (("((", "2.0"), ("x", "1.0"), ("@Resource[x] StringEquals", "2.0")):
        with pytest.raises(SystemExit, match="400"):
            embedded.grant(person, vaults[0]["id"], SECRETS_USER, condition=condition, conditionVersion=version)
    assert readable(embedded, person, vaults) == set()


def test_access_policies_are_the_whole_truth_of_a_vault_in_that_mode(embedded: Embedded, person: Person) -> None:
    tenant = embedded.connection["tenant_id"]

    def policy(*permissions: str) -> dict[str, Any]:
        return {"tenantId": tenant, "objectId": person.object_id, "permissions": {"secrets": list(permissions)}}

    vault = embedded.vault(enableRbacAuthorization=False, accessPolicies=[policy("Get", "SET")])
    embedded.grant(person, vault["id"], SECRETS_OFFICER)
    token = embedded.token(person, vault["resource"])
    url = f"{vault['url']}/secrets/db"
    assert embedded.call("PUT", url, vault, token=token, json={"value": "v"}).status_code == 200
    assert embedded.call("GET", url, vault, token=token).status_code == 200
    for method, path in (("DELETE", "/secrets/db"), ("GET", "/secrets"), ("POST", "/secrets/db/backup")):
        answer = embedded.call(method, vault["url"] + path, vault, token=token)
        assert (answer.status_code, answer.json()["error"]["innererror"]["code"]) == (403, "AccessDenied")
    embedded.operator.arm(
        "PUT",
        f"{vault['id']}/accessPolicies/remove",
        "2026-05-15",
        {"properties": {"accessPolicies": [policy("get", "set")]}},
    )
    assert embedded.call("GET", url, vault, token=token).status_code == 403
    embedded.operator.arm("PATCH", vault["id"], "2026-05-15", {"properties": {"enableRbacAuthorization": True}})
    assert embedded.call("GET", url, vault, token=token).status_code == 200, "now the role counts"
