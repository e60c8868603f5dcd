"""The secrets data plane over the wire: what the SDKs' own tests leave open, rule by rule."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from embedded import SECRETS_OFFICER, Embedded


@pytest.fixture(scope="module")
def vault(embedded: Embedded) -> dict[str, Any]:
    return embedded.vault(softDeleteRetentionInDays=7)


def name() -> str:
    return f"s-{uuid.uuid4().hex[:10]}"


def error_of(answer: Any) -> tuple[int, str, str]:
    error = answer.json()["error"]
    assert set(error) <= {"code", "message", "innererror"}
    assert isinstance(error["message"], str)
    assert error["message"]
    return answer.status_code, error["code"], error.get("innererror", {}).get("code", "")


def test_the_first_request_without_a_token_is_challenged_before_anything_else(
    embedded: Embedded, vault: dict[str, Any]
) -> None:
    tenant = embedded.connection["tenant_id"]
    expected = f'Bearer authorization="{embedded.connection["authority"]}/{tenant}", resource="{vault["resource"]}"'
    for method, path in (("GET", "/secrets/x"), ("PUT", "/secrets/!bad!"), ("POST", "/nowhere"), ("GET", "/")):
        answer = embedded.http.request(method, vault["url"] + path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == expected
        assert error_of(answer)[1] == "Unauthorized"


def test_set_get_by_version_and_latest(embedded: Embedded, vault: dict[str, Any]) -> None:
    secret = name()
    first = embedded.put(vault, secret, "one")
    second = embedded.put(vault, secret, "two")
    versions = [one["id"].rsplit("/", 1)[1] for one in (first, second)]
    assert versions[0] != versions[1]
    assert all(len(v) == 32 and v == v.lower() for v in versions)
    base = f"{vault['url']}/secrets/{secret}"
    assert embedded.call("GET", base, vault).json()["value"] == "two"
    assert embedded.call("GET", f"{base}/", vault).json()["value"] == "two"
    assert embedded.call("GET", f"{base}//", vault).json()["value"] == "two"
    assert embedded.call("GET", f"{base}/{versions[0]}", vault).json()["value"] == "one"
    assert error_of(embedded.call("GET", f"{base}/{'0' * 32}", vault))[:2] == (404, "SecretNotFound")


def test_times_are_whole_seconds(embedded: Embedded, vault: dict[str, Any]) -> None:
    before = int(time.time())
    made = embedded.put(vault, name(), "v")["attributes"]
    assert before <= made["created"] <= time.time() + 1
    assert isinstance(made["created"], int)
    assert made["updated"] == made["created"]
    assert (made["recoveryLevel"], made["recoverableDays"]) == ("CustomizedRecoverable+Purgeable", 7)


def test_a_list_names_each_secret_once_without_its_version(embedded: Embedded) -> None:
    vault = embedded.vault()
    for secret in ("b", "a", "c"):
        embedded.put(vault, secret, "1")
        embedded.put(vault, secret, "2")
    listed = embedded.call("GET", f"{vault['url']}/secrets", vault).json()
    assert [item["id"] for item in listed["value"]] == [f"{vault['url']}/secrets/{s}" for s in "abc"]
    assert all("value" not in item for item in listed["value"])
    assert listed["nextLink"] is None


def test_paging_sees_everything_once(embedded: Embedded) -> None:
    vault = embedded.vault()
    for number in range(7):
        embedded.put(vault, f"s{number}", "v")
    url, seen, pages = f"{vault['url']}/secrets?maxresults=3", [], 0
    token = embedded.operator.token(vault["resource"])
    while url:
        page = (
            embedded.call("GET", url, vault)
            if pages == 0
            else embedded.http.get(url, headers={"Authorization": f"Bearer {token}"})
        ).json()
        seen += [item["id"].rsplit("/", 1)[1] for item in page["value"]]
        url = page["nextLink"]
        pages += 1
        if pages == 1:
            embedded.put(vault, "a-new-one-before", "v")
    assert seen == [f"s{number}" for number in range(7)]
    assert pages == 3
    for bad in ("0", "26", "-1", "x", "1e1"):
        answer = embedded.call("GET", f"{vault['url']}/secrets?maxresults={bad}", vault)
        assert error_of(answer)[:2] == (400, "BadParameter")
    answer = embedded.call("GET", f"{vault['url']}/secrets?$skiptoken=forged", vault)
    assert error_of(answer)[:2] == (400, "BadParameter")


def test_a_disabled_secret_cannot_be_read(embedded: Embedded, vault: dict[str, Any]) -> None:
    secret = name()
    embedded.put(vault, secret, "v")
    url = f"{vault['url']}/secrets/{secret}"
    assert embedded.call("GET", url, vault).status_code == 200
    patched = embedded.call("PATCH", url, vault, json={"attributes": {"enabled": False}})
    assert patched.json()["attributes"]["enabled"] is False
    assert error_of(embedded.call("GET", url, vault)) == (403, "Forbidden", "SecretDisabled")
    embedded.call("PATCH", url, vault, json={"attributes": {"enabled": True}})
    assert embedded.call("GET", url, vault).status_code == 200


def test_expiry_informs_and_does_not_block(embedded: Embedded, vault: dict[str, Any]) -> None:
    secret = name()
    embedded.put(vault, secret, "v", attributes={"exp": 1000})
    assert embedded.call("GET", f"{vault['url']}/secrets/{secret}", vault).json()["value"] == "v"
    later = name()
    embedded.put(vault, later, "v", attributes={"nbf": 4_000_000_000})
    assert embedded.call("GET", f"{vault['url']}/secrets/{later}", vault).status_code == 200


def test_a_stricter_policy_is_ours_and_off_unless_asked_for(embedded: Embedded) -> None:
    strict = embedded.operator.arm(
        "PUT",
        f"{embedded.operator.group()}/providers/Microsoft.KeyVault/vaults/kv-strict",
        "2026-05-15",
        {
            "location": "local",
            "tags": {"keyleaf-policy-refuse-expired": "true", "keyleaf-policy-refuse-placeholders": "true"},
            "properties": {
                "tenantId": embedded.connection["tenant_id"],
                "sku": {"family": "A", "name": "standard"},
                "enableRbacAuthorization": True,
            },
        },
    )
    url = strict["properties"]["vaultUri"].rstrip("/")
    strict |= {"url": url, "resource": "https://0.0.1:" + url.rsplit(":", 1)[1]}
    for value in ("", " ", "changeme", "${DB}", "<password>", "v\n", "@Microsoft.KeyVault(SecretUri=x)"):
        answer = embedded.call("PUT", f"{url}/secrets/a", strict, json={"value": value})
        assert error_of(answer) == (400, "BadParameter", "KeyleafPlaceholderValue"), value
        assert len(value) < 3 or value not in answer.text
    embedded.put(strict, "old", "real", attributes={"exp": 1000})
    for _ in range(2):
        answer = embedded.call("GET", f"{url}/secrets/old", strict)
        assert error_of(answer) == (403, "Forbidden", "KeyleafSecretExpired")


def test_update_keeps_what_it_does_not_mention(embedded: Embedded, vault: dict[str, Any]) -> None:
    secret = name()
    embedded.put(vault, secret, "v", contentType="text/plain", tags={"a": "b"})
    url = f"{vault['url']}/secrets/{secret}"
    changed = embedded.call("PATCH", url, vault, json={"attributes": {"exp": 4_000_000_000}}).json()
    assert (changed["contentType"], changed["tags"]) == ("text/plain", {"a": "b"})
    assert "value" not in changed
    changed = embedded.call("PATCH", url, vault, json={"tags": {}}).json()
    assert not changed.get("tags")
    assert changed["attributes"]["exp"] == 4_000_000_000
    assert error_of(embedded.call("PATCH", f"{vault['url']}/secrets/{name()}", vault, json={}))[0] == 404


def test_a_deleted_name_is_taken_until_purged(embedded: Embedded, vault: dict[str, Any]) -> None:
    secret = name()
    embedded.put(vault, secret, "1")
    embedded.put(vault, secret, "2")
    url = f"{vault['url']}/secrets/{secret}"
    deleted = embedded.call("DELETE", url, vault).json()
    assert deleted["recoveryId"] == f"{vault['url']}/deletedsecrets/{secret}"
    assert deleted["scheduledPurgeDate"] - deleted["deletedDate"] == 7 * 86400
    assert "value" not in deleted
    assert error_of(embedded.call("GET", url, vault))[:2] == (404, "SecretNotFound")
    assert error_of(embedded.call("PUT", url, vault, json={"value": "x"})) == (
        409,
        "Conflict",
        "ObjectIsDeletedButRecoverable",
    )
    gone = f"{vault['url']}/deletedsecrets/{secret}"
    assert embedded.call("GET", gone, vault).status_code == 200
    assert embedded.call("POST", f"{gone}/recover", vault).status_code == 200
    listed = embedded.call("GET", f"{url}/versions", vault).json()["value"]
    assert len(listed) == 2, "recovering brings every version back"
    assert embedded.call("GET", url, vault).json()["value"] == "2"
    embedded.call("DELETE", url, vault)
    purged = embedded.call("DELETE", gone, vault)
    assert (purged.status_code, purged.content) == (204, b"")
    assert error_of(embedded.call("GET", gone, vault))[0] == 404
    assert embedded.call("PUT", url, vault, json={"value": "x"}).status_code == 200
    assert len(embedded.call("GET", f"{url}/versions", vault).json()["value"]) == 1


def test_purge_protection(embedded: Embedded) -> None:
    vault = embedded.vault(enablePurgeProtection=True)
    made = embedded.put(vault, "a", "v")
    assert made["attributes"]["recoveryLevel"] == "Recoverable"
    embedded.call("DELETE", f"{vault['url']}/secrets/a", vault)
    assert error_of(embedded.call("DELETE", f"{vault['url']}/deletedsecrets/a", vault))[:2] == (403, "Forbidden")
    assert embedded.call("GET", f"{vault['url']}/deletedsecrets/a", vault).status_code == 200


def test_backup_and_restore(embedded: Embedded, vault: dict[str, Any]) -> None:
    secret = name()
    embedded.put(vault, secret, "canary-backup", tags={"t": "1"})
    embedded.put(vault, secret, "two")
    url = f"{vault['url']}/secrets/{secret}"
    before = embedded.call("GET", f"{url}/versions", vault).json()["value"]
    blob = embedded.call("POST", f"{url}/backup", vault).json()["value"]
    assert "canary" not in blob
    restore = f"{vault['url']}/secrets/restore"
    assert error_of(embedded.call("POST", restore, vault, json={"value": blob}))[0] == 409
    other = embedded.vault()
    restored = embedded.call("POST", f"{other['url']}/secrets/restore", other, json={"value": blob})
    assert restored.status_code == 200
    after = embedded.call("GET", f"{other['url']}/secrets/{secret}/versions", other).json()["value"]
    keep = ("created", "updated")
    assert [[v["attributes"][k] for k in keep] for v in after] == [[v["attributes"][k] for k in keep] for v in before]
    assert [v["id"].rsplit("/", 1)[1] for v in after] == [v["id"].rsplit("/", 1)[1] for v in before]
    flipped = blob[:40] + ("A" if blob[40] != "A" else "B") + blob[41:]
    assert error_of(embedded.call("POST", f"{other['url']}/secrets/restore", other, json={"value": flipped}))[0] == 400


def test_what_was_backed_up_can_be_restored_however_large(embedded: Embedded) -> None:
    vault, other = embedded.vault(), embedded.vault()
    for number in range(50):
        embedded.put(vault, "large", f"{number:05}" * 5_000)
    blob = embedded.call("POST", f"{vault['url']}/secrets/large/backup", vault).json()["value"]
    assert len(blob) > 1024 * 1024
    restored = embedded.call("POST", f"{other['url']}/secrets/restore", other, json={"value": blob})
    assert restored.status_code == 200
    assert embedded.call("GET", f"{other['url']}/secrets/large", other).json()["value"] == "00049" * 5_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/secrets/a_b", {"value": "v"}),
        ("/secrets/" + "x" * 128, {"value": "v"}),
        ("/secrets/big", {"value": "x" * 25601}),
        ("/secrets/tags", {"value": "v", "tags": {str(n): "x" for n in range(16)}}),
        ("/secrets/tag", {"value": "v", "tags": {"n": "x" * 257}}),
        ("/secrets/number", {"value": 5}),
        ("/secrets/none", {}),
        ("/secrets/list", []),
        ("/secrets/attr", {"value": "v", "attributes": {"exp": "tomorrow"}}),
        ("/secrets/order", {"value": "v", "attributes": {"nbf": 20, "exp": 10}}),
    ],
)
def test_what_azure_refuses_is_refused_and_stores_nothing(
    embedded: Embedded, vault: dict[str, Any], path: str, body: object
) -> None:
    answer = embedded.call("PUT", vault["url"] + path, vault, json=body)
    assert error_of(answer)[:2] == (400, "BadParameter")
    assert "xxxxxxxxxxxxxxxxxxxx" not in answer.text or path.count("x") > 100
    assert embedded.call("GET", vault["url"] + path, vault).status_code in (400, 404)


def test_names_have_no_case_and_keep_it(embedded: Embedded, vault: dict[str, Any]) -> None:
    stem = name()
    embedded.put(vault, f"{stem}-MiXed", "1")
    embedded.put(vault, f"{stem}-mixed", "2")
    got = embedded.call("GET", f"{vault['url']}/secrets/{stem}-MIXED", vault).json()
    assert got["value"] == "2"
    assert f"/secrets/{stem}-MiXed/" in got["id"]


@pytest.mark.parametrize("version", ["7.0", "7.6", "2025-07-01", "2026-04-01", "2031-01-01-preview", "7.6-preview.1"])
def test_every_well_formed_api_version_is_taken(embedded: Embedded, vault: dict[str, Any], version: str) -> None:
    token = embedded.operator.token(vault["resource"])
    answer = embedded.http.get(
        f"{vault['url']}/secrets?api-version={version}", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("query", ["", "api-version=", "api-version=latest", "api-version=1", "api-version=7.6%00"])
def test_a_missing_or_malformed_api_version_is_400(embedded: Embedded, vault: dict[str, Any], query: str) -> None:
    token = embedded.operator.token(vault["resource"])
    answer = embedded.http.get(f"{vault['url']}/secrets?{query}", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 400


def test_only_the_granted_secret_is_readable_through_the_sdk(embedded: Embedded, vault: dict[str, Any]) -> None:
    mine, other = name(), name()
    embedded.put(vault, mine, "mine")
    embedded.put(vault, other, "other")
    person = embedded.person()
    assignment = embedded.grant(person, f"{vault['id']}/secrets/{mine}")
    with embedded.client(person, vault) as client:
        assert client.get_secret(mine).value == "mine"
        for refused in (
            lambda: client.get_secret(other),
            lambda: client.set_secret(mine, "x"),
            lambda: list(client.list_properties_of_secrets()),
            lambda: client.begin_delete_secret(mine),
            lambda: client.get_secret(name()),
        ):
            with pytest.raises(HttpResponseError) as caught:
                refused()
            assert caught.value.status_code == 403
            assert "ForbiddenByRbac" in str(caught.value.error.innererror if caught.value.error else "")
        embedded.revoke(assignment)
        with pytest.raises(HttpResponseError) as caught:
            client.get_secret(mine)
        assert caught.value.status_code == 403, "a revocation counts at once"
        embedded.grant(person, vault["id"], SECRETS_OFFICER)
        assert client.get_secret(other).value == "other"
        with pytest.raises(ResourceNotFoundError):
            client.get_secret(name())


def test_the_text_that_tools_parse(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person()
    answer = embedded.call("GET", f"{vault['url']}/secrets/x", vault, token=embedded.token(person, vault["resource"]))
    assert error_of(answer) == (403, "Forbidden", "ForbiddenByRbac")
    lines = answer.json()["error"]["message"].split("\r\n")
    assert lines[0] == "Caller is not authorized to perform action on resource."
    assert lines[2].startswith(f"Caller: appid={person.client_id};oid={person.object_id};iss=https://")
    assert lines[3] == "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'"
    assert lines[5] == "Assignment: (not found)"
