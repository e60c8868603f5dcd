"""Who is let in, who is not, and that it is on record: over the wire, with forged tokens and real clients."""

from __future__ import annotations

import base64
import hmac
import json
import socket
import ssl
import time
import uuid
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from joserfc import jwt
from joserfc.jwk import RSAKey

from embedded import API, SECRETS_USER, Embedded, Person
from keyleaf.access import secret_names_condition
from keyleaf.ledger import Filter, Record, connect, query

READ = "Microsoft.KeyVault/vaults/secrets/getSecret/action"


@pytest.fixture(scope="module")
def vault(embedded: Embedded) -> dict[str, Any]:
    made = embedded.vault()
    embedded.put(made, "db", "canary-db")
    embedded.put(made, "dbx", "neighbour")
    return made


@pytest.fixture(scope="module")
def reader(embedded: Embedded, vault: dict[str, Any]) -> Person:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    return person


def records(embedded: Embedded, **wanted: Any) -> list[Record]:
    connection = connect(f"sqlite:///{embedded.state / 'state.db'}", read_only=True)
    try:
        return list(query(connection, Filter(**wanted)))
    finally:
        connection.close()


def decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def hs256(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    signed = f"{encoded(header)}.{encoded(claims)}"
    mac = hmac.new(key, signed.encode(), "sha256").digest()
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_every_forged_or_foreign_token_is_refused(embedded: Embedded, vault: dict[str, Any], reader: Person) -> None:
    good = embedded.token(reader, vault["resource"])
    url = f"{vault['url']}/secrets/db"
    assert embedded.call("GET", url, vault, token=good).status_code == 200
    head, body, signature = good.split(".")
    header, claims = decoded(head), decoded(body)
    keys = embedded.http.get(f"{embedded.connection['authority']}/common/discovery/v2.0/keys").json()["keys"]
    mine = RSAKey.generate_key(2048)
    public = RSAKey.import_key(keys[0]).as_pem(private=False)
    other_vault = embedded.vault()

    def signed(changes: dict[str, object], **head_changes: object) -> str:
        return jwt.encode({**header, **head_changes}, {**claims, **changes}, mine)

    forged = {
        "alg none": f"{encoded({**header, 'alg': 'none'})}.{body}.",
        "alg none, signature kept": f"{encoded({**header, 'alg': 'none'})}.{body}.{signature}",
        "HS256 with the public key": hs256({**header, "alg": "HS256"}, claims, public),
        "another key": signed({}),
        "another key, its own id": signed({}, kid=mine.thumbprint()),
        "key in the header": signed({}, jwk=mine.as_dict(private=False)),
        "altered claims": f"{head}.{encoded({**claims, 'oid': str(uuid.uuid4())})}.{signature}",
        "for another vault": embedded.token(reader, other_vault["resource"]),
        "for Resource Manager": embedded.token(reader, embedded.connection["arm"]),
        "for Graph": embedded.token(reader, "https://graph.microsoft.com"),
        "no signature": f"{head}.{body}",
        "four parts": f"{good}.x",
        "giant": "x" * 30_000,
        "empty claims": f"{head}.{encoded({})}.{signature}",
    }
    for name, token in forged.items():
        answer = embedded.call("GET", url, vault, token=token)
        assert answer.status_code == 401, name
        assert answer.headers["www-authenticate"].startswith("Bearer authorization="), name
        assert answer.json()["error"]["code"] == "Unauthorized"
    assert embedded.call("GET", url, vault, token=good).status_code == 200


def test_a_service_account_token_is_matched_exactly(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person(f"Id-{uuid.uuid4().hex[:8]}")
    endpoint = f"{embedded.connection['authority']}/{embedded.connection['tenant_id']}/oauth2/v2.0/token"

    def ask(assertion: str) -> Any:
        return embedded.http.post(
            endpoint,
            data={
                "grant_type": "client_credentials",
                "client_id": person.client_id,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": assertion,
                "scope": f"{vault['resource']}/.default",
            },
        )

    now = time.time()
    assert ask(embedded.issuer.token("tests", person.name, now=now)).status_code == 200
    assert ask(embedded.issuer.token("tests", person.name, now=now) + "\n").status_code == 200
    refused = {
        "another case": embedded.issuer.token("tests", person.name.lower(), now=now),
        "another name": embedded.issuer.token("tests", f"{person.name}x", now=now),
        "another namespace": embedded.issuer.token("test", person.name, now=now),
        "another audience": embedded.issuer.token("tests", person.name, audience="api://Other", now=now),
        "expired": embedded.issuer.token("tests", person.name, now=now - 100_000),
    }
    for name, assertion in refused.items():
        answer = ask(assertion)
        assert answer.status_code in (400, 401), name
        assert "AADSTS7002" in answer.text or "AADSTS70002" in answer.text, name
    denied = [r for r in records(embedded, operation="TokenIssue") if r.client_id == person.client_id]
    assert len([r for r in denied if r.status == 200]) == 2
    assert len([r for r in denied if r.decision == "unauthenticated"]) == len(refused)


def test_an_expired_token_is_refused(embedded: Embedded, vault: dict[str, Any], reader: Person) -> None:
    # The server signs nothing with other times, so its own verifier is asked about a later moment.
    from keyleaf.identity import PublicKeys, TokenVerifier, Unauthenticated

    token = embedded.token(reader, vault["resource"])
    keys = embedded.http.get(f"{embedded.connection['authority']}/common/discovery/v2.0/keys").json()["keys"]
    verifier = TokenVerifier(
        PublicKeys(lambda: keys),
        authority=embedded.connection["authority"],
        tenants=[embedded.connection["tenant_id"]],
    )
    exp = decoded(token.split(".")[1])["exp"]
    audiences = frozenset({vault["resource"]})
    with pytest.raises(Unauthenticated, match="expired"):
        verifier.verify(token, audiences, exp + 301, lambda _: None)
    other = TokenVerifier(
        PublicKeys(lambda: keys), authority="https://elsewhere", tenants=[embedded.connection["tenant_id"]]
    )
    with pytest.raises(Unauthenticated, match="issuer"):
        other.verify(token, audiences, exp - 10, lambda _: None)


def test_disabling_an_identity_counts_on_tokens_already_issued(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    token = embedded.token(person, vault["resource"])
    url = f"{vault['url']}/secrets/db"
    for _ in range(2):
        assert embedded.call("GET", url, vault, token=token).status_code == 200
    with embedded.client(person, vault) as client:
        assert client.get_secret("db").value == "canary-db"
        embedded.operator.graph("PATCH", f"/servicePrincipals/{person.object_id}", {"accountEnabled": False})
        answer = embedded.call("GET", url, vault, token=token)
        assert answer.status_code == 401
        challenge = answer.headers["www-authenticate"]
        assert 'error="insufficient_claims"' in challenge
        claims = json.loads(base64.b64decode(challenge.split('claims="')[1].rstrip('"')))
        assert claims["access_token"]["nbf"]["essential"] is True
        with pytest.raises(ClientAuthenticationError):
            client.get_secret("db")
        embedded.operator.graph("PATCH", f"/servicePrincipals/{person.object_id}", {"accountEnabled": True})
    assert embedded.call("GET", url, vault, token=token).status_code == 401, "the old token stays revoked"
    with embedded.client(person, vault) as client:
        assert client.get_secret("db").value == "canary-db"


def test_a_grant_ends_where_its_name_ends(embedded: Embedded, vault: dict[str, Any], reader: Person) -> None:
    token = embedded.token(reader, vault["resource"])
    assert embedded.call("GET", f"{vault['url']}/secrets/db", vault, token=token).status_code == 200
    for path in ("dbx", "d", "DBX", "db-2"):
        assert embedded.call("GET", f"{vault['url']}/secrets/{path}", vault, token=token).status_code == 403
    assert (
        embedded.call("PUT", f"{vault['url']}/secrets/db", vault, token=token, json={"value": "x"}).status_code == 403
    )
    assert embedded.call("GET", f"{vault['url']}/secrets/db", vault).json()["value"] == "canary-db"


def test_a_wide_scope_with_a_condition_gives_only_what_it_names(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person()
    condition = secret_names_condition(["db"], vault["name"])
    group = embedded.operator.group()
    embedded.grant(person, group, SECRETS_USER, condition=condition, conditionVersion="2.0")
    with embedded.client(person, vault) as client:
        assert client.get_secret("db").value == "canary-db"
        with pytest.raises(HttpResponseError) as caught:
            client.get_secret("dbx")
        assert caught.value.status_code == 403


def test_access_policies_decide_where_the_vault_has_that_mode(embedded: Embedded) -> None:
    person = embedded.person()
    legacy = embedded.vault(
        enableRbacAuthorization=False,
        accessPolicies=[
            {
                "tenantId": embedded.connection["tenant_id"],
                "objectId": person.object_id,
                "permissions": {"secrets": ["get"]},
            },
        ],
    )
    token = embedded.token(person, legacy["resource"])
    assert embedded.call("GET", f"{legacy['url']}/secrets/none", legacy, token=token).status_code == 404
    refused = embedded.call("PUT", f"{legacy['url']}/secrets/none", legacy, token=token, json={"value": "x"})
    assert refused.status_code == 403
    assert refused.json()["error"]["innererror"]["code"] == "AccessDenied"
    assert embedded.call("GET", f"{legacy['url']}/secrets/none", legacy).status_code == 403, "RBAC does not count here"


def test_every_attempt_is_on_record_with_who_and_why(embedded: Embedded, vault: dict[str, Any], reader: Person) -> None:
    token = embedded.token(reader, vault["resource"])
    marks = {}
    for name, path, status in (("allowed", "db", 200), ("again", "db", 200), ("denied", "dbx", 403)):
        answer = embedded.call("GET", f"{vault['url']}/secrets/{path}", vault, token=token)
        assert answer.status_code == status
        marks[name] = answer.headers["x-ms-request-id"]
    anonymous = embedded.http.get(f"{vault['url']}/secrets/db?{API}")
    marks["anonymous"] = anonymous.headers["x-ms-request-id"]
    missing = embedded.call("GET", f"{vault['url']}/secrets/nobody", vault)
    marks["missing"] = missing.headers["x-ms-request-id"]
    found = {}
    for name, mark in marks.items():
        (found[name],) = records(embedded, request_id=mark)
    for name in ("allowed", "again"):
        record = found[name]
        assert (record.decision, record.status, record.operation) == ("allowed", 200, "SecretGet")
        assert record.identity == reader.object_id
        assert record.application == f"app-{reader.name}"
        assert record.identity_resource == reader.resource_id
        assert record.reason == "Key Vault Secrets User"
        assert "/roleAssignments/" in record.assignment
        assert record.resource == f"{vault['id']}/secrets/db"
        assert len(record.version) == 32
    assert (found["denied"].decision, found["denied"].error) == ("denied", "Forbidden/ForbiddenByRbac")
    assert "would allow it: 'Key Vault Secrets User'" in found["denied"].reason
    assert (found["anonymous"].decision, found["anonymous"].identity) == ("unauthenticated", "")
    assert (found["missing"].decision, found["missing"].status) == ("allowed", 404)


def test_only_our_names_are_answered(embedded: Embedded, vault: dict[str, Any]) -> None:
    token = embedded.operator.token(vault["resource"])
    for host in ("evil.example", "127.0.0.1:1", "127.0.0.1.evil.example", f"[::1]x:{vault['url'].rsplit(':', 1)[1]}"):
        answer = embedded.http.get(
            f"{vault['url']}/secrets/db?{API}", headers={"Host": host, "Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 421, host
        assert "canary" not in answer.text


def test_a_trailer_is_not_a_header(embedded: Embedded, vault: dict[str, Any]) -> None:
    token = embedded.operator.token(vault["resource"])
    port = int(vault["url"].rsplit(":", 1)[1])
    request = (
        f"GET /secrets/db?{API} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nTransfer-Encoding: chunked\r\n"
        f"Connection: close\r\n\r\n0\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    context = ssl.create_default_context(cafile=embedded.connection["ca_bundle"])
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(request.encode())
        answer = b""
        while part := secured.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"canary" not in answer
