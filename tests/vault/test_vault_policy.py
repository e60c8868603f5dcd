"""keyleaf's stricter rules: on, they refuse; off, the vault is Azure's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vault_room import Room, refusal

from keyleaf.core.errors import ServiceError
from keyleaf.vault import VaultPolicy, check_times, update_vault
from keyleaf.vault.policy import check_value

PLACEHOLDERS = (
    "",
    " ",
    "\t\r\n ",
    "\x00",
    "secret\x00",
    "\ufeffsecret",
    "secret\n",
    "secret\r\n",
    "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/db)",
    "@microsoft.keyvault(VaultName=kv;SecretName=db)",
    "${DATABASE_URL}",
    "$(DATABASE_URL)",
    "{{ .Values.password }}",
    "<password>",
    "<your secret here>",
    "%PASSWORD%",
    "changeme",
    "CHANGE-ME",
    "Change_Me",
    "replace me",
    "TODO",
    "tbd",
    "xxxx",
    "null",
    "None",
    "undefined",
)
REAL = (
    "hunter2",
    "Server=tcp:db;Password=p@ss<w>rd;",
    "postgres://u:${x}@h/db",
    "a <b> c",
    "<html><body>x</body></html>",
    "-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----",
    '{"user": "u"}',
    "100%",
    "x",
    "changeme2",
    " padded ",
    "ünïcödé",
)
STRICT = VaultPolicy(refuse_placeholders=True)


def test_what_is_no_secret_is_refused_by_a_strict_vault_only(room: Room) -> None:
    room.add_vault("kv-strict", policy=STRICT)
    for value in PLACEHOLDERS:
        with pytest.raises(ServiceError) as caught:
            room.set("a", value, "kv-strict")
        assert refusal(caught.value) == (400, "BadParameter", "KeyleafPlaceholderValue"), value
        assert len(value.strip()) < 6 or value.strip() not in caught.value.message
        assert room.set("a", value)["value"] == value
    assert room.call("GET", "/secrets", vault="kv-strict")["value"] == []


def test_real_values_pass_a_strict_vault(room: Room) -> None:
    room.add_vault("kv-strict", policy=STRICT)
    for value in REAL:
        assert room.set("a", value, "kv-strict")["value"] == value


@given(st.text())
def test_a_lax_policy_takes_every_value(value: str) -> None:
    check_value(VaultPolicy(), value)


@given(st.text(st.characters(categories=["Zs", "Cc"])))
def test_white_space_is_never_a_secret(value: str) -> None:
    blank = "".join(character for character in value if character.isspace())
    with pytest.raises(ServiceError):
        check_value(STRICT, blank)


TIMES = st.none() | st.integers(0, 100)


@given(nbf=TIMES, exp=TIMES, now=st.floats(0, 100))
def test_times_are_checked_to_the_moment_and_only_where_asked(nbf: int | None, exp: int | None, now: float) -> None:
    check_times(VaultPolicy(), nbf, exp, now)
    within = (nbf is None or nbf <= now) and (exp is None or now < exp)
    try:
        check_times(VaultPolicy(refuse_expired=True), nbf, exp, now)
        allowed = True
    except ServiceError as error:
        allowed = False
        assert refusal(error)[:2] == (403, "Forbidden")
        assert error.inner in ("KeyleafSecretExpired", "KeyleafSecretNotYetValid")
    assert allowed == within


def test_expiry_follows_the_clock_and_the_policy(room: Room) -> None:
    now = int(room.clock.now())
    room.set("a", "v", attributes={"nbf": now + 10, "exp": now + 20})
    assert room.get("a")["value"] == "v"

    def policy(**rules: bool) -> None:
        with room.database.write() as connection:
            update_vault(connection, room.vault, now=room.clock.now(), policy=VaultPolicy(**rules))

    policy(refuse_expired=True)
    expected = ["KeyleafSecretNotYetValid", "", "KeyleafSecretExpired"]
    for inner in expected:
        if inner:
            with pytest.raises(ServiceError) as caught:
                room.get("a")
            assert refusal(caught.value) == (403, "Forbidden", inner)
        else:
            assert room.get("a")["value"] == "v"
        assert room.call("GET", "/secrets/a/versions")["value"], "what is no value is still shown"
        room.clock.advance(10)
    policy()
    assert room.get("a")["value"] == "v"
