"""Refusals and answers of the token endpoint, by their documented numbers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_support import AUDIENCE, SUBJECT, TENANT, VAULT, ExternalIssuer, Installation
from joserfc import jws
from joserfc.jwk import RSAKey

from keyleaf.core.clock import ManualClock
from keyleaf.identity import (
    FederatedCredential,
    TokenError,
    add_client_secret,
    create_application,
    put_federated_credential,
    set_enabled,
)
from keyleaf.identity.client_credentials import ASSERTION_TYPE, Mismatch, match_federated_credential

ISSUER = "https://issuer.example/cluster"


@pytest.fixture
def secret(installation: Installation) -> dict[str, str]:
    now = installation.clock.now()
    with installation.database.write() as conn:
        row = create_application(conn, tenant_id=TENANT, name="app", randomness=installation.randomness, now=now)
        made, value = add_client_secret(
            conn, row.object_id, display_name="", randomness=installation.randomness, now=now, ends=int(now) + 100
        )
    assert value.reveal() not in repr(made)
    assert value.reveal().encode() not in made.digest
    return {"client_id": row.client_id, "client_secret": value.reveal()}


@pytest.fixture
def trusted(installation: Installation) -> ExternalIssuer:
    """An issuer that the identity trusts; its documents cannot be fetched, so refusals come before the fetch."""
    with installation.database.write() as conn:
        put_federated_credential(conn, installation.identity.object_id, "local", ISSUER, SUBJECT, [AUDIENCE])
    return ExternalIssuer(ISSUER)


def refused(installation: Installation, **form: str) -> TokenError:
    with pytest.raises(TokenError) as caught:
        installation.token(**form)
    return caught.value


def assertion_refused(installation: Installation, assertion: str) -> TokenError:
    return refused(installation, client_assertion=assertion, client_assertion_type=ASSERTION_TYPE)


def test_an_answer(installation: Installation, secret: dict[str, str]) -> None:
    reply = installation.token(**secret)
    body: Any = reply.body
    assert set(body) == {"token_type", "expires_in", "ext_expires_in", "access_token"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    assert reply.principal is not None
    assert reply.principal.client_id == secret["client_id"]
    assert reply.resource == VAULT
    assert "no-store" in reply.headers["Cache-Control"]


def test_version_1_answers_with_the_resource(installation: Installation, secret: dict[str, str]) -> None:
    form = {"grant_type": "client_credentials", "resource": "https://management.azure.com/"} | secret
    body: Any = installation.call("POST", f"/{TENANT}/oauth2/token", form=form).body
    assert body["resource"] == "https://management.azure.com/"
    assert int(body["expires_on"]) == int(installation.clock.now()) + 3600
    installation.verify(body["access_token"], frozenset({"https://management.azure.com/"}))


def test_basic_credentials(installation: Installation, secret: dict[str, str]) -> None:
    value = base64.b64encode(f"{secret['client_id']}:{secret['client_secret']}".encode()).decode()
    form = {"grant_type": "client_credentials", "scope": f"{VAULT}/.default"}
    reply = installation.call(
        "POST", f"/{TENANT}/oauth2/v2.0/token", form=form, headers={"authorization": f"Basic {value}"}
    )
    assert reply.status == 200


@pytest.mark.parametrize(
    ("form", "number", "status"),
    [
        ({"grant_type": ""}, 900144, 400),
        ({"grant_type": "password"}, 70003, 400),
        ({"client_id": ""}, 900144, 400),
        ({"client_id": TENANT}, 700016, 400),
        ({"client_secret": "wrong"}, 7000215, 401),
        ({"client_secret": ""}, 7000216, 401),
        ({"client_assertion": "x.y.z"}, 9002313, 400),
        ({"client_assertion": "x.y.z", "client_assertion_type": ASSERTION_TYPE}, 50027, 400),
        ({"scope": ""}, 900144, 400),
        ({"scope": VAULT}, 1002012, 400),
        ({"scope": "/.default"}, 1002012, 400),
        ({"scope": f"{VAULT}/.default openid"}, 28000, 400),
        ({"scope": "https://other.example/.default"}, 500011, 400),
        ({"scope": f"{VAULT}//.default"}, 500011, 400),
        ({"claims": "{"}, 9002313, 400),
        ({"claims": "[]"}, 9002313, 400),
    ],
)
def test_refusals(
    installation: Installation, secret: dict[str, str], form: dict[str, str], number: int, status: int
) -> None:
    error = refused(installation, **(secret | form))
    assert (error.number, error.status) == (number, status)
    body: Any = error.body()
    assert body["error_codes"] == [number]
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert {"error", "timestamp", "trace_id", "correlation_id"} <= set(body)
    assert secret["client_secret"] not in json.dumps(body)
    assert error.client_id == (secret | form)["client_id"]


def test_an_expired_secret(installation: Installation, secret: dict[str, str], clock: ManualClock) -> None:
    clock.advance(100)
    assert refused(installation, **secret).number == 7000222


def test_a_parameter_given_twice(installation: Installation) -> None:
    with pytest.raises(TokenError, match="more than once"):
        installation.call("POST", f"/{TENANT}/oauth2/v2.0/token", body=b"client_id=a&client_id=b")


@pytest.mark.parametrize("body", [b"\xff", b"&" * 70_000, b"&".join(b"a%d=1" % n for n in range(60)), b"a=%ff"])
def test_a_body_that_is_no_form(installation: Installation, body: bytes) -> None:
    with pytest.raises(TokenError, match="AADSTS9002313"):
        installation.call("POST", f"/{TENANT}/oauth2/v2.0/token", body=body)


def test_an_unknown_tenant(installation: Installation) -> None:
    for tenant in ("99999999-2222-4333-8444-555555555555", "nowhere.example"):
        with pytest.raises(TokenError, match="AADSTS90002"):
            installation.call("POST", f"/{tenant}/oauth2/v2.0/token", form={})


def test_a_disabled_client_is_named_for_the_audit(installation: Installation) -> None:
    with installation.database.write() as conn:
        set_enabled(conn, installation.identity.object_id, False, installation.clock.now())
    error = refused(installation)
    assert (error.number, error.object_id) == (7000112, installation.identity.object_id)


def test_the_capability_is_granted_only_as_it_is_known(installation: Installation, secret: dict[str, str]) -> None:
    for claims, expected in (
        ({"access_token": {"xms_cc": {"values": ["CP1", "CP9"]}}}, ["CP1"]),
        ({"access_token": {"xms_cc": {"values": "CP1"}}}, None),
        ({"access_token": 7}, None),
        ({}, None),
    ):
        body: Any = installation.token(claims=json.dumps(claims), **secret).body
        part = body["access_token"].split(".")[1]
        assert json.loads(base64.urlsafe_b64decode(part + "==")).get("xms_cc") == expected


class TestFederated:
    @pytest.mark.parametrize(
        ("claims", "number", "near"),
        [
            ({"iss": ISSUER + "/"}, 700211, False),
            ({"iss": ISSUER.replace("cluster", "Cluster")}, 700211, True),
            ({"iss": 7}, 700211, False),
            ({"sub": SUBJECT + "x"}, 700213, False),
            ({"sub": SUBJECT.replace("shop", "Shop")}, 700213, True),
            ({"sub": None}, 700213, False),
            ({"aud": "api://other"}, 700212, False),
            ({"aud": [AUDIENCE.lower()]}, 700212, True),
            ({"aud": [AUDIENCE, 7]}, 700212, False),
            ({"aud": {}}, 700212, False),
        ],
    )
    def test_what_does_not_match(
        self, installation: Installation, trusted: ExternalIssuer, claims: dict[str, Any], number: int, near: bool
    ) -> None:
        error = assertion_refused(installation, trusted.assertion(installation.clock.now(), **claims))
        assert error.number == number
        assert ("upper and lower case" in error.message) == near
        if near:
            assert str(next(iter(claims.values()))).strip("[']") in error.message

    def test_times(self, installation: Installation, trusted: ExternalIssuer, clock: ManualClock) -> None:
        early = trusted.assertion(clock.now() + 1000)
        assert assertion_refused(installation, early).number == 700024
        old = trusted.assertion(clock.now() - 1000)
        assert assertion_refused(installation, old).number == 700024
        forever = trusted.assertion(clock.now(), exp=None)
        assert assertion_refused(installation, forever).number == 50027

    def test_an_issuer_that_cannot_be_reached(self, installation: Installation) -> None:
        with installation.database.write() as conn:
            put_federated_credential(
                conn, installation.identity.object_id, "dead", "http://127.0.0.1:9/none", SUBJECT, [AUDIENCE]
            )
        dead = ExternalIssuer("http://127.0.0.1:9/none").assertion(installation.clock.now())
        assert assertion_refused(installation, dead).number == 501661

    def test_control_characters_are_not_repeated(self, installation: Installation, trusted: ExternalIssuer) -> None:
        error = assertion_refused(installation, trusted.assertion(installation.clock.now(), sub="a\r\nX: b\x1b[2J"))
        assert error.message.isprintable()

    def test_an_assertion_signed_by_the_client_without_a_certificate(self, installation: Installation) -> None:
        claims = {"iss": installation.identity.client_id, "exp": int(installation.clock.now()) + 60}
        text = jws.serialize_compact(
            {"alg": "RS256", "typ": "JWT"}, json.dumps(claims).encode(), RSAKey.generate_key(2048), algorithms=["RS256"]
        )
        assert assertion_refused(installation, text).number == 700027


TEXT = st.text(alphabet="aAbB:/.ß", min_size=1, max_size=6)
CREDENTIALS = st.lists(
    st.builds(lambda i, s, a: FederatedCredential("id", "o", "n", i, s, (a,)), TEXT, TEXT, TEXT), max_size=5
)


@given(credentials=CREDENTIALS, issuer=TEXT, subject=TEXT, audiences=st.lists(TEXT, max_size=3))
def test_matching_is_exact(
    credentials: list[FederatedCredential], issuer: str, subject: str, audiences: list[str]
) -> None:
    found = match_federated_credential(credentials, issuer, subject, audiences)
    exact = [
        c for c in credentials if c.issuer == issuer and c.subject == subject and set(c.audiences) & set(audiences)
    ]
    assert isinstance(found, Mismatch) == (not exact)
    if not isinstance(found, Mismatch):
        assert found in exact


@given(credentials=CREDENTIALS.filter(bool), data=st.data())
def test_another_case_never_matches_and_is_said(credentials: list[FederatedCredential], data: st.DataObject) -> None:
    chosen = data.draw(st.sampled_from(credentials))
    other = chosen.subject.swapcase()
    found = match_federated_credential([chosen], chosen.issuer, other, list(chosen.audiences))
    if other == chosen.subject:
        assert found == chosen
    else:
        assert isinstance(found, Mismatch)
        assert (found.claim, found.case_only) == ("subject", True)


def test_discovery_documents(installation: Installation) -> None:
    for path, issuer in (
        (f"/{TENANT}/v2.0/.well-known/openid-configuration", f"https://login.example/{TENANT}/v2.0"),
        (f"/{TENANT}/.well-known/openid-configuration", f"https://login.example/{TENANT}/"),
        ("/common/v2.0/.well-known/openid-configuration", "https://login.example/{tenantid}/v2.0"),
        ("/adfs/.well-known/openid-configuration", f"https://login.example/{TENANT}/"),
    ):
        body: Any = installation.call("GET", path).body
        assert body["issuer"] == issuer
        keys: Any = installation.call("GET", body["jwks_uri"].removeprefix(installation.base)).body
        assert len(keys["keys"]) == 1
        assert installation.find("POST", body["token_endpoint"].removeprefix(installation.base)) is not None


def test_instance_discovery(installation: Installation) -> None:
    query = {"authorization_endpoint": f"https://login.example/{TENANT}/oauth2/v2.0/authorize"}
    body: Any = installation.call("GET", "/common/discovery/instance", query=query).body
    path = body["tenant_discovery_endpoint"].removeprefix(installation.base)
    assert installation.call("GET", path).status == 200
    with pytest.raises(TokenError):
        installation.call(
            "GET", "/common/discovery/instance", query={"authorization_endpoint": "https://evil.example/x"}
        )
