"""Tokens that the server's own key has signed, and that do not hold all the same: each claim is looked at."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select

from embedded import API, Embedded, Person
from keyleaf.core.clock import SystemRandomness
from keyleaf.store import Database, Keyring, sqlite_url
from keyleaf.store.schema import signing_key

Claims = dict[str, Any]


@pytest.fixture(scope="module")
def vault(embedded: Embedded) -> dict[str, Any]:
    made = embedded.vault()
    embedded.put(made, "db", "canary-token")
    return made


@pytest.fixture(scope="module")
def reader(embedded: Embedded, vault: dict[str, Any]) -> Person:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    return person


@pytest.fixture(scope="module")
def genuine(embedded: Embedded) -> tuple[str, RSAKey]:
    """The server's signing key, taken out of its state with its root key: what no attacker has."""
    root = base64.b64decode((embedded.state / "root.key").read_bytes())
    database = Database.open(sqlite_url(embedded.state / "state.db"))
    try:
        with database.read() as connection:
            kid, sealed = connection.execute(select(signing_key.c.kid, signing_key.c.sealed)).one()
    finally:
        database.close()
    return kid, RSAKey.import_key(Keyring(root, SystemRandomness()).unseal("signing-key", sealed))


@pytest.fixture(scope="module")
def claims(embedded: Embedded, vault: dict[str, Any], reader: Person) -> Claims:
    """The claims of a token that holds."""
    part = embedded.token(reader, vault["resource"]).split(".")[1]
    found: Claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


@pytest.fixture
def status(
    embedded: Embedded, vault: dict[str, Any], genuine: tuple[str, RSAKey]
) -> Callable[..., tuple[int, dict[str, str]]]:
    """What a read with these claims, signed genuinely, is answered."""

    def ask(claims: Claims, header: Claims | None = None) -> tuple[int, dict[str, str]]:
        kid, key = genuine
        token = jwt.encode(
            {"alg": "RS256", "typ": "JWT", "kid": kid, **(header or {})}, claims, key, algorithms=["RS256", "PS256"]
        )
        answer = embedded.call("GET", f"{vault['url']}/secrets/db", vault, token=token)
        assert (answer.status_code == 200) == ("canary-token" in answer.text)
        return answer.status_code, dict(answer.headers)

    return ask


def test_signed_anew_unchanged_it_holds(status: Callable[..., Any], claims: Claims) -> None:
    assert status(claims)[0] == 200
    now = int(time.time())
    assert status({**claims, "exp": now - 60})[0] == 200, "clocks may differ by five minutes"
    assert status({**claims, "nbf": now + 60})[0] == 200


MISSING = object()


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("exp", lambda now: now - 400),
        ("exp", 0),
        ("exp", -1),
        ("exp", MISSING),
        ("exp", "never"),
        ("exp", None),
        ("exp", True),
        ("nbf", lambda now: now + 400),
        ("nbf", MISSING),
        ("nbf", 2**70),
        ("iat", MISSING),
        ("iat", []),
        ("aud", "https://management.azure.com"),
        ("aud", "https://0.0.1"),
        ("aud", "https://0.0.1:1"),
        ("aud", "HTTPS://VAULT.AZURE.NET"),
        ("aud", "https://vault.azure.net.evil.example"),
        ("aud", " https://vault.azure.net"),
        ("aud", ["https://vault.azure.net"]),
        ("aud", ""),
        ("aud", MISSING),
        ("iss", "https://sts.windows.net/common/"),
        ("iss", "https://evil.example"),
        ("iss", ""),
        ("iss", MISSING),
        ("tid", "2e64ffba-9bbe-4c7f-aa10-871dafb69d38"),
        ("tid", MISSING),
        ("oid", "99bcc719-e358-402a-8b1b-9addd3b5bdff"),
        ("oid", ""),
        ("oid", MISSING),
        ("oid", "' OR 1=1 --"),
        ("oid", "\x00"),
        ("oid", 7),
        ("azp", "c7ac3750-d376-4247-bfb9-37775c2b26a2"),
        ("azp", MISSING),
        ("ver", "1.0"),
    ],
)
def test_each_claim_is_looked_at(status: Callable[..., Any], claims: Claims, claim: str, value: Any) -> None:
    changed = {**claims, claim: value(int(time.time())) if callable(value) else value}
    if value is MISSING:
        del changed[claim]
    code, headers = status(changed)
    assert code == 401
    assert headers["www-authenticate"].startswith('Bearer authorization="https://')
    assert 'resource="https://' in headers["www-authenticate"]


def test_another_tenants_issuer_is_refused_even_with_its_tid(status: Callable[..., Any], claims: Claims) -> None:
    other = str(uuid.uuid4())
    assert status({**claims, "iss": claims["iss"].replace(claims["tid"], other), "tid": other})[0] == 401


def test_another_identity_in_a_genuine_token_reads_only_what_it_may(
    embedded: Embedded, status: Callable[..., Any], claims: Claims
) -> None:
    other = embedded.person()
    assert status({**claims, "oid": other.object_id})[0] == 401, "oid and azp belong together"
    assert status({**claims, "oid": other.object_id, "azp": other.client_id})[0] == 403


@pytest.mark.parametrize(
    "header",
    [{"typ": "at+jwt"}, {"typ": ""}, {"kid": ""}, {"kid": "another"}, {"kid": "../../issuer"}, {"alg": "PS256"}],
)
def test_each_header_is_looked_at(status: Callable[..., Any], claims: Claims, header: Claims) -> None:
    assert status(claims, header)[0] == 401


@pytest.mark.parametrize("scheme", ["Basic", "PoP", "Token", "", "BearerX", "Bearer Bearer"])
def test_another_scheme_is_no_token(embedded: Embedded, vault: dict[str, Any], reader: Person, scheme: str) -> None:
    token = embedded.token(reader, vault["resource"])
    url = f"{vault['url']}/secrets/db?{API}"
    answer = embedded.http.get(url, headers={"Authorization": f"{scheme} {token}".strip()})
    assert answer.status_code == 401
    assert embedded.http.get(url, headers={"Authorization": f"bearer   {token}"}).status_code == 200


@pytest.mark.parametrize("place", ["query", "cookie", "body", "other header"])
def test_a_token_anywhere_else_is_none(embedded: Embedded, vault: dict[str, Any], reader: Person, place: str) -> None:
    token = embedded.token(reader, vault["resource"])
    url = f"{vault['url']}/secrets/db?{API}"
    if place == "query":
        answer = embedded.http.get(f"{url}&access_token={token}&Authorization=Bearer%20{token}")
    elif place == "cookie":
        answer = embedded.http.get(url, headers={"Cookie": f"Authorization=Bearer {token}"})
    elif place == "body":
        answer = embedded.http.request("GET", url, data={"access_token": token})
    else:
        answer = embedded.http.get(url, headers={"X-Authorization": f"Bearer {token}", "Proxy-Authorization": token})
    assert answer.status_code == 401


def test_a_service_account_token_is_no_access_token(embedded: Embedded, vault: dict[str, Any], reader: Person) -> None:
    for audience in ("api://AzureADTokenExchange", vault["resource"]):
        token = embedded.issuer.token("tests", reader.name, audience=audience, now=time.time())
        answer = embedded.call("GET", f"{vault['url']}/secrets/db", vault, token=token)
        assert answer.status_code == 401
