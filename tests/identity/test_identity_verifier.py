"""Bearer tokens: what holds, and everything that must not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identity_support import TENANT, VAULT, Installation, issue
from joserfc import jws
from joserfc.jwk import RSAKey

from keyleaf.core.clock import ManualClock
from keyleaf.identity import Revoked, Unauthenticated, delete_managed_identity, revoke_sessions, set_enabled
from keyleaf.identity.compact_jwt import MAXIMUM_TOKEN, MalformedToken, read_compact_jwt
from keyleaf.identity.verifier import SKEW

AUDIENCES = frozenset({VAULT})


class Forge:
    """Tokens signed with the installation's own key, and others that only look so."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        with installation.database.read() as conn:
            self.key = installation.signing_keys.current(conn, installation.clock.now())

    def header(self, **changes: Any) -> dict[str, Any]:
        return changed({"alg": "RS256", "typ": "JWT", "kid": self.key.kid}, changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now, row = int(self.installation.clock.now()), self.installation.identity
        base = {
            "aud": VAULT,
            "iss": f"{self.installation.base}/{TENANT}/v2.0",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "oid": row.object_id,
            "sub": row.object_id,
            "tid": TENANT,
            "azp": row.client_id,
            "ver": "2.0",
        }
        return changed(base, changes)

    def sign(self, header: bytes, claims: bytes, key: RSAKey | None = None) -> str:
        signing_input = encode(header) + "." + encode(claims)
        algorithm = jws.JWSRegistry(algorithms=["RS256"]).get_alg("RS256")
        signature = algorithm.sign(signing_input.encode(), key or self.key.key)
        return signing_input + "." + encode(signature)

    def token(self, header: dict[str, Any] | None = None, key: RSAKey | None = None, **claims: Any) -> str:
        return self.sign(json.dumps(header or self.header()).encode(), json.dumps(self.claims(**claims)).encode(), key)


ABSENT = object()


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in (base | changes).items() if v is not ABSENT}


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture
def forge(installation: Installation) -> Forge:
    return Forge(installation)


def test_the_forge_makes_tokens_that_hold(forge: Forge) -> None:
    assert forge.installation.verify(forge.token()).object_id == forge.installation.identity.object_id


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "https://management.azure.com"}, "AKV10022"),
        ({"aud": VAULT + "/"}, "AKV10022"),
        ({"aud": [VAULT]}, "aud is not one string"),
        ({"aud": [VAULT, "https://evil.example"]}, "aud is not one string"),
        ({"aud": ABSENT}, "aud is not one string"),
        ({"iss": "https://login.example/99999999-2222-4333-8444-555555555555/v2.0"}, "AKV10032"),
        ({"iss": f"https://evil.example/{TENANT}/v2.0"}, "AKV10032"),
        ({"iss": f"https://login.example/{TENANT}"}, "AKV10032"),
        ({"iss": ABSENT}, "AKV10032"),
        ({"iss": ["https://login.example"]}, "AKV10032"),
        ({"tid": "99999999-2222-4333-8444-555555555555"}, "tid"),
        ({"exp": "9999999999"}, "'exp' is not a time"),
        ({"exp": True}, "'exp' is not a time"),
        ({"exp": None}, "'exp' is not a time"),
        ({"exp": 1e300}, "'exp' is not a time"),
        ({"exp": [9999999999]}, "'exp' is not a time"),
        ({"exp": ABSENT}, "missing"),
        ({"nbf": ABSENT}, "missing"),
        ({"iat": {}}, "'iat' is not a time"),
        ({"nbf": "0"}, "'nbf' is not a time"),
        ({"oid": 7}, "oid is not one string"),
        ({"azp": ABSENT}, "azp is not one string"),
        ({"azp": "99999999-2222-4333-8444-555555555555"}, "does not belong"),
    ],
)
def test_claims_that_do_not_hold(forge: Forge, claims: dict[str, Any], words: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        forge.installation.verify(forge.token(**claims))
    assert words in refused.value.message
    assert refused.value.status == 401


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "PS256"},
        {"alg": "RS512"},
        {"alg": ["RS256"]},
        {"alg": ABSENT},
        {"typ": "at+jwt"},
        {"typ": ABSENT},
        {"kid": ABSENT},
        {"kid": ""},
        {"kid": 7},
        {"kid": "unknown-unknown-unknown-unknown"},
        {"crit": ["exp"]},
        {"b64": False},
    ],
)
def test_headers_that_do_not_hold(forge: Forge, header: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        forge.installation.verify(forge.token(forge.header(**header)))


def test_a_header_that_brings_its_own_key_changes_nothing(forge: Forge) -> None:
    own = RSAKey.generate_key(2048)
    header = forge.header(jwk=own.as_dict(private=False), jku="https://evil.example/keys", x5u="https://evil.example")
    with pytest.raises(Unauthenticated, match="signature does not hold"):
        forge.installation.verify(forge.token(header, own))


def test_another_key_under_a_known_id(forge: Forge) -> None:
    with pytest.raises(Unauthenticated, match="signature does not hold"):
        forge.installation.verify(forge.token(key=RSAKey.generate_key(2048)))


@pytest.mark.parametrize("alg", ["HS256", "none", "None", "nOnE"])
def test_the_public_key_as_a_shared_secret(forge: Forge, alg: str) -> None:
    public = forge.key.key.as_pem(private=False)
    signing_input = (
        encode(json.dumps(forge.header(alg=alg)).encode()) + "." + encode(json.dumps(forge.claims()).encode())
    )
    mac = hmac.new(public, signing_input.encode(), hashlib.sha256).digest()
    for signature in (encode(mac), ""):
        with pytest.raises(Unauthenticated):
            forge.installation.verify(f"{signing_input}.{signature}")


def test_duplicate_members_are_refused(forge: Forge) -> None:
    claims = json.dumps(forge.claims())
    twice = claims[:-1] + f', "oid": "{TENANT}"}}'
    with pytest.raises(Unauthenticated, match="occurs twice"):
        forge.installation.verify(forge.sign(json.dumps(forge.header()).encode(), twice.encode()))
    header = json.dumps(forge.header())[:-1] + ', "alg": "none"}'
    with pytest.raises(Unauthenticated, match="occurs twice"):
        forge.installation.verify(forge.sign(header.encode(), claims.encode()))


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"null", b"{", b"\xff", b"[" * 8000, b'{"exp": NaN}', b'{"exp": Infinity}', b'{"a": ' + b"9" * 5000 + b"}"],
)
def test_payloads_that_are_no_object(forge: Forge, payload: bytes) -> None:
    with pytest.raises(Unauthenticated):
        forge.installation.verify(forge.sign(json.dumps(forge.header()).encode(), payload))


def test_a_huge_token_is_refused_before_it_is_read(forge: Forge) -> None:
    with pytest.raises(Unauthenticated, match="longer than"):
        forge.installation.verify(forge.token(padding="x" * MAXIMUM_TOKEN))


@pytest.mark.parametrize("token", ["", ".", "..", "...", "a.b.c", "a.b", "Bearer", "\ud800", "é.é.é", "e30.e30.e30="])
def test_text_that_is_no_token(installation: Installation, token: str) -> None:
    with pytest.raises(Unauthenticated):
        installation.verify(token)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_changed_character_is_always_noticed(forge: Forge, data: st.DataObject) -> None:
    good = forge.token()
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.characters().filter(lambda c: c != good[place]))
    with pytest.raises(Unauthenticated):
        forge.installation.verify(good[:place] + other + good[place + 1 :])


@given(text=st.text(max_size=200), padded=st.booleans())
def test_reading_never_fails_otherwise(text: str, padded: bool) -> None:
    with pytest.raises(MalformedToken):
        read_compact_jwt(text, allow_padding=padded)


def test_times(forge: Forge, clock: ManualClock) -> None:
    token = forge.token()
    verify = forge.installation.verify
    clock.advance(-SKEW - 1)
    with pytest.raises(Unauthenticated, match="not valid yet"):
        verify(token)
    clock.advance(1)
    verify(token)
    clock.advance(3600 + 2 * SKEW - 1)
    verify(token)
    clock.advance(1)
    for _ in range(2):
        with pytest.raises(Unauthenticated, match="expired"):
            verify(token)


class TestCache:
    @pytest.fixture
    def asked(self, installation: Installation) -> Iterator[list[str]]:
        asked: list[str] = []
        original = installation.published
        installation.verifier._keys._read = lambda: asked.append("keys") or original()  # type: ignore[func-returns-value]
        yield asked

    def test_the_same_row_gives_the_same_principal(self, forge: Forge) -> None:
        token, row = forge.token(), forge.installation.identity
        verifier, now = forge.installation.verifier, forge.installation.clock.now()
        first = verifier.verify(token, AUDIENCES, now, lambda _: row)
        assert verifier.verify(token, AUDIENCES, now, lambda _: row) is first

    def test_the_audience_is_checked_on_every_look(self, forge: Forge) -> None:
        token = forge.token()
        forge.installation.verify(token)
        with pytest.raises(Unauthenticated, match="AKV10022"):
            forge.installation.verify(token, frozenset({"https://graph.microsoft.com"}))

    def test_unknown_key_ids_of_another_form_do_not_reach_the_database(self, forge: Forge, asked: list[str]) -> None:
        with pytest.raises(Unauthenticated, match="AKV10046"):
            forge.installation.verify(forge.token(forge.header(kid="short")))
        assert asked == []

    def test_the_bound_holds(self, forge: Forge) -> None:
        forge.installation.verifier._capacity = 5
        for n in range(20):
            forge.installation.verify(forge.token(uti=str(n)))
        assert len(forge.installation.verifier._verified) == 5

    def test_refused_tokens_are_not_remembered(self, forge: Forge) -> None:
        for n in range(5):
            with pytest.raises(Unauthenticated):
                forge.installation.verify(forge.token(aud="https://other.example", uti=str(n)))
        assert len(forge.installation.verifier._verified) == 0


class TestRevocation:
    @pytest.fixture
    def token(self, installation: Installation) -> str:
        reply = issue(installation)
        installation.verify(reply)
        return reply

    def check_revoked(self, installation: Installation, token: str, valid_from: int) -> None:
        with pytest.raises(Revoked) as refused:
            installation.verify(token)
        document = json.loads(base64.b64decode(refused.value.claims))
        assert document == {"access_token": {"nbf": {"essential": True, "value": str(valid_from)}}}
        assert "=" not in refused.value.claims
        assert "," not in refused.value.claims
        assert (refused.value.status, refused.value.error) == (401, "insufficient_claims")

    def test_sessions(self, installation: Installation, token: str) -> None:
        now = int(installation.clock.now())
        with installation.database.write() as conn:
            assert revoke_sessions(conn, installation.identity.object_id, now) == now + 1
        self.check_revoked(installation, token, now + 1)
        # Asked again in the same second, the new one holds.
        installation.verify(issue(installation))

    def test_disabled_and_enabled_again(self, installation: Installation, token: str) -> None:
        object_id, now = installation.identity.object_id, int(installation.clock.now())
        with installation.database.write() as conn:
            set_enabled(conn, object_id, False, now)
        self.check_revoked(installation, token, now + 1)
        with installation.database.write() as conn:
            set_enabled(conn, object_id, True, now)
        self.check_revoked(installation, token, now + 1)

    def test_deleted(self, installation: Installation, token: str) -> None:
        with installation.database.write() as conn:
            assert delete_managed_identity(conn, installation.identity.object_id, installation.clock.now())
        self.check_revoked(installation, token, int(installation.clock.now()))

    def test_unknown_to_the_directory(self, installation: Installation, token: str) -> None:
        with pytest.raises(Revoked):
            installation.verifier.verify(token, AUDIENCES, installation.clock.now(), lambda _: None)
