"""Where the root key comes from, and that only the right one is taken."""

from __future__ import annotations

import base64
import stat
from collections.abc import Mapping

import pytest
from sqlalchemy import select

from keyleaf.core.clock import SeededRandomness
from keyleaf.core.errors import InputError, StateError
from keyleaf.store import Database, Keyring, StateDirectory, schema
from keyleaf.store.rootkey import Provider, open_keyring

KEY = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()


def opening(
    database: Database,
    state: StateDirectory,
    provider: Provider | None = None,
    environment: Mapping[str, str] | None = None,
    typed: str | None = None,
) -> Keyring:
    with database.write() as connection:
        return open_keyring(
            connection,
            state,
            SeededRandomness(len(typed or "")),
            provider=provider,
            environment=environment or {},
            ask=None if typed is None else lambda _prompt: typed,
        )


def test_the_first_start_makes_a_private_file_and_later_ones_read_it(database: Database, state: StateDirectory) -> None:
    sealed = opening(database, state).seal("test", b"v")
    assert stat.S_IMODE(state.root_key.stat().st_mode) == 0o600
    assert len(base64.b64decode(state.root_key.read_bytes())) == 32
    before = state.root_key.read_bytes()
    assert opening(database, state).unseal("test", sealed) == b"v"
    assert opening(database, state, "file").unseal("test", sealed) == b"v"
    assert state.root_key.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o601])
def test_a_file_that_others_may_reach_is_refused(database: Database, state: StateDirectory, mode: int) -> None:
    opening(database, state)
    state.root_key.chmod(mode)
    with pytest.raises(StateError, match="chmod 600"):
        opening(database, state)


def test_a_missing_file_is_never_made_anew(database: Database, state: StateDirectory) -> None:
    opening(database, state)
    state.root_key.unlink()
    with pytest.raises(StateError, match="missing"):
        opening(database, state)
    assert not state.root_key.exists()


@pytest.mark.parametrize("content", ["", "x", base64.b64encode(b"k" * 31).decode(), "k" * 44 + "!", "\x00" * 44])
def test_what_is_no_key_is_refused_without_being_shown(database: Database, state: StateDirectory, content: str) -> None:
    opening(database, state)
    state.root_key.write_text(content)
    with pytest.raises(InputError, match=r"root\.key") as caught:
        opening(database, state)
    assert len(content) < 4 or content not in str(caught.value)


def test_another_key_is_refused_before_anything_changes(database: Database, state: StateDirectory) -> None:
    opening(database, state, "env", {"KEYLEAF_ROOT_KEY": KEY})
    with database.read() as connection:
        before = connection.execute(select(schema.meta)).all()
    with pytest.raises(StateError, match="not the root key of this installation") as caught:
        opening(database, state, None, {"KEYLEAF_ROOT_KEY": OTHER})
    assert OTHER not in str(caught.value)
    with database.read() as connection:
        assert connection.execute(select(schema.meta)).all() == before
    opening(database, state, None, {"KEYLEAF_ROOT_KEY": KEY})


def test_a_key_in_the_environment_leaves_no_file(database: Database, state: StateDirectory) -> None:
    opening(database, state, "env", {"KEYLEAF_ROOT_KEY": f" {KEY}\n"})
    assert list(state.root.iterdir()) == []
    with pytest.raises(StateError, match="KEYLEAF_ROOT_KEY is not set"):
        opening(database, state)
    with pytest.raises(InputError, match="KEYLEAF_ROOT_KEY does not hold a root key"):
        opening(database, state, None, {"KEYLEAF_ROOT_KEY": KEY[:-4]})


def test_a_first_start_that_fails_leaves_nothing(database: Database, state: StateDirectory) -> None:
    with pytest.raises(StateError):
        opening(database, state, "env")
    with pytest.raises(InputError):
        opening(database, state, "passphrase", typed="")
    with database.read() as connection:
        assert connection.execute(select(schema.meta)).all() == []
    assert list(state.root.iterdir()) == []


def test_a_passphrase_comes_from_the_environment_or_a_prompt(database: Database, state: StateDirectory) -> None:
    sealed = opening(database, state, "passphrase", typed="correct horse").seal("test", b"v")
    asked = opening(database, state, typed="correct horse")
    assert asked.unseal("test", sealed) == b"v"
    found = opening(database, state, None, {"KEYLEAF_PASSPHRASE": "correct horse"}, typed="not looked at")
    assert found.unseal("test", sealed) == b"v"
    for wrong in ("correct horse ", "Correct horse"):
        with pytest.raises(StateError, match="not the root key"):
            opening(database, state, typed=wrong)
    with pytest.raises(InputError, match="passphrase is empty"):
        opening(database, state)
    assert list(state.root.iterdir()) == []


def test_a_passphrase_s_parameters_are_kept_and_its_salt_is_its_own(database: Database, state: StateDirectory) -> None:
    opening(database, state, "passphrase", typed="one phrase")
    with database.read() as connection:
        record = connection.execute(select(schema.meta.c.value)).scalar_one()
    assert '"memory_kib":65536' in record
    assert '"iterations":3' in record
    assert '"salt":""' not in record
    assert "one phrase" not in record


def test_the_provider_changes_by_rekey_only(database: Database, state: StateDirectory) -> None:
    opening(database, state)
    with pytest.raises(StateError, match="keyleaf rekey"):
        opening(database, state, "env", {"KEYLEAF_ROOT_KEY": KEY})
