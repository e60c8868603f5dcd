"""Changing the root key: everything moves, the old key opens nothing, and no moment to be killed at loses anything."""

from __future__ import annotations

import base64
import os
import signal
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import LargeBinary, insert, select, text, update

from keyleaf.core.clock import SystemRandomness
from keyleaf.core.errors import InputError, StateError
from keyleaf.store import Database, Keyring, StateDirectory, schema
from keyleaf.store.rekeying import RootKeyChange, rekey
from keyleaf.store.rootkey import Provider, open_keyring

KEY = base64.b64encode(b"k" * 32).decode()
VERSION = "0123456789abcdef0123456789abcdef"
VAULTS = ("kv-a", "kv-b", "KV-Mixed")
ENVIRONMENTS: dict[Provider, dict[str, str]] = {
    "file": {},
    "env": {"KEYLEAF_ROOT_KEY": KEY},
    "passphrase": {"KEYLEAF_PASSPHRASE": "correct horse"},
}
NEW_ENVIRONMENTS: dict[Provider, dict[str, str]] = {
    "file": {},
    "env": {"KEYLEAF_NEW_ROOT_KEY": base64.b64encode(b"n" * 32).decode()},
    "passphrase": {"KEYLEAF_NEW_PASSPHRASE": "battery staple"},
}


@dataclass
class Installation:
    """A database in which every kind of sealed thing is, and its state directory."""

    url: str
    state: StateDirectory
    provider: Provider = "file"
    environment: dict[str, str] = field(default_factory=dict)
    versions: dict[str, tuple[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = dict(ENVIRONMENTS[self.provider])
        database = Database.open(self.url)
        database.migrate()
        with database.write() as connection:
            ring = open_keyring(
                connection, self.state, SystemRandomness(), provider=self.provider, environment=self.environment
            )
            connection.execute(insert(schema.tenant).values(id="t", name="t"))
            for name in VAULTS:
                wrapped = ring.new_vault_key("t", name)
                self.versions[name] = ring.seal_version("t", name, wrapped, "db", VERSION, name.encode())
                connection.execute(
                    insert(schema.vault).values(
                        name_key=name.lower(),
                        name=name,
                        resource_id=name,
                        resource_key=name,
                        tenant_id="t",
                        location="",
                        wrapped_key=wrapped,
                        created=0,
                        updated=0,
                    )
                )
            for kid in ("one", "two"):
                connection.execute(
                    insert(schema.signing_key).values(
                        kid=kid,
                        sealed=ring.seal("signing-key", kid.encode()),
                        public="{}",
                        created=0,
                        signs_until=0,
                        published_until=0,
                    )
                )
            blob = ring.seal("backup-key", b"blob").hex()
            connection.execute(insert(schema.meta).values(key="sealed:backup-key", value=blob))
        database.close()

    def rekey(self, to: Provider | None = None, **options: object) -> RootKeyChange:
        """Change the key in a process's manner: open, change, close."""
        database = Database.open(self.url)
        try:
            extra = NEW_ENVIRONMENTS[to or self.provider]
            return rekey(
                database,
                self.state,
                options.get("randomness") or SystemRandomness(),  # type: ignore[arg-type]
                to=to,
                environment={**self.environment, **extra},
                ask=options.get("ask"),  # type: ignore[arg-type]
            )
        finally:
            database.close()

    def changed_over(self, to: Provider) -> None:
        """The user gives the new key where the old one was given."""
        new = NEW_ENVIRONMENTS[to]
        self.environment = {name.replace("_NEW", ""): value for name, value in new.items()}

    def opens(self, environment: Mapping[str, str] | None = None) -> bool:
        """Whether the installation starts; if so, everything in it opens."""
        database = Database.open(self.url)
        try:
            with database.write() as connection:
                given = self.environment if environment is None else environment
                try:
                    ring = open_keyring(connection, self.state, SystemRandomness(), environment=given)
                except (StateError, InputError):
                    return False
                for row in connection.execute(select(schema.vault)):
                    place = ("t", row.name, bytes(row.wrapped_key), "db", VERSION)
                    assert ring.unseal_version(*place, *self.versions[row.name]) == row.name.encode()
                for row in connection.execute(select(schema.signing_key)):
                    assert ring.unseal("signing-key", bytes(row.sealed)) == row.kid.encode()
                for row in connection.execute(select(schema.meta).where(schema.meta.c.key == "sealed:backup-key")):
                    assert ring.unseal("backup-key", bytes.fromhex(row.value)) == b"blob"
                return True
        finally:
            database.close()

    def sealed(self) -> list[bytes]:
        """Every value under the root key, as stored."""
        database = Database.open(self.url)
        with database.read() as connection:
            found = [bytes(one) for one in connection.execute(select(schema.vault.c.wrapped_key)).scalars()]
            found += [bytes(one) for one in connection.execute(select(schema.signing_key.c.sealed)).scalars()]
            found += [
                bytes.fromhex(one)
                for one in connection.execute(
                    select(schema.meta.c.value).where(schema.meta.c.key.like("sealed:%"))
                ).scalars()
            ]
        database.close()
        return found


@pytest.fixture
def installed(database_url: str, state: StateDirectory) -> Installation:
    return Installation(database_url, state)


@pytest.mark.parametrize("to", ["file", "env", "passphrase"])
@pytest.mark.parametrize("before", ["file", "env", "passphrase"])
def test_every_provider_changes_to_every_other(tmp_path: Path, before: Provider, to: Provider) -> None:
    state = StateDirectory.open(tmp_path / "state")
    installed = Installation(f"sqlite:///{state.database}", state, before)
    old_file = state.root_key.read_bytes() if before == "file" else b""
    old = installed.sealed()
    assert installed.rekey(to) == RootKeyChange(before, to, len(VAULTS) + 3)
    assert not set(old) & set(installed.sealed())
    content = b"".join(path.read_bytes() for path in state.root.iterdir())
    assert not [one for one in old if one in content or one.hex().encode() in content], "no old wrapping is left"
    assert not old_file or old_file.strip() not in content, "nor is the old key"
    if to != "file":
        assert not installed.opens(), "what opened it before does so no more"
    installed.changed_over(to)
    assert installed.opens()
    assert state.root_key.exists() == (to == "file")
    assert not state.next_root_key.exists()


def test_both_databases_move_whole(installed: Installation) -> None:
    for _ in range(2):
        before = installed.state.root_key.read_bytes()
        installed.rekey()
        assert installed.opens()
        after = installed.state.root_key.read_bytes()
        assert after != before
        installed.state.root_key.write_bytes(before)
        assert not installed.opens(), "the old key no longer opens it"
        installed.state.root_key.write_bytes(after)


class Killed:
    """Randomness of a process that dies at its n-th use of it."""

    def __init__(self, uses: int) -> None:
        self._left = uses

    def token(self, size: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return os.urandom(size)


def killed_at(installed: Installation, uses: int, to: Provider) -> bool:
    """Whether a process that changes the key was killed before it was done."""
    child = os.fork()
    if child == 0:
        try:
            installed.rekey(to, randomness=Killed(uses))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("to", ["file", "env"])
def test_killed_anywhere_before_the_commit_the_old_key_still_opens_everything(
    installed: Installation, to: Provider
) -> None:
    before = installed.state.root_key.read_bytes()
    for uses in count():
        if not killed_at(installed, uses, to):
            break
        assert installed.opens(), f"killed at use {uses}"
        assert installed.state.root_key.read_bytes() == before
        assert not installed.state.next_root_key.exists(), "the start after it clears away what was left"
    assert uses > len(VAULTS) + 3, "every value was a moment to be killed at"
    installed.changed_over(to)
    assert installed.opens()


def test_killed_between_the_commit_and_the_new_file_the_next_start_takes_the_new_file(installed: Installation) -> None:
    state = installed.state
    old = state.root_key.read_bytes()
    installed.rekey()
    state.root_key.rename(state.next_root_key)
    state.root_key.write_bytes(old)
    state.root_key.chmod(0o600)
    new = state.next_root_key.read_bytes()
    assert installed.opens()
    assert state.root_key.read_bytes() == new
    assert not state.next_root_key.exists()
    state.root_key.rename(state.next_root_key)
    assert installed.opens(), "also where the old file is gone already"
    state.root_key.rename(state.next_root_key)
    installed.rekey()
    assert installed.opens(), "and where the next thing is another change"


def test_a_value_that_does_not_open_stops_the_whole_change(installed: Installation) -> None:
    database = Database.open(installed.url)
    with database.write() as connection:
        connection.execute(update(schema.signing_key).where(schema.signing_key.c.kid == "two").values(sealed=b"x" * 40))
    database.close()
    before = installed.sealed(), installed.state.root_key.read_bytes()
    with pytest.raises(StateError, match="does not decrypt"):
        installed.rekey()
    assert (installed.sealed(), installed.state.root_key.read_bytes()) == before
    assert not installed.state.next_root_key.exists()


def test_the_wrong_old_key_changes_nothing(tmp_path: Path) -> None:
    state = StateDirectory.open(tmp_path / "state")
    installed = Installation(f"sqlite:///{state.database}", state, "env")
    before = installed.sealed()
    installed.environment = {"KEYLEAF_ROOT_KEY": base64.b64encode(b"w" * 32).decode()}
    with pytest.raises(StateError, match="not the root key"):
        installed.rekey("file")
    assert installed.sealed() == before
    assert not state.root_key.exists()
    assert not state.next_root_key.exists()


def test_a_new_key_that_cannot_be_used_changes_nothing(tmp_path: Path) -> None:
    state = StateDirectory.open(tmp_path / "state")
    installed = Installation(f"sqlite:///{state.database}", state, "env")
    before = installed.sealed()
    attempts: list[tuple[Provider, dict[str, str], object, str]] = [
        ("env", {}, None, "KEYLEAF_NEW_ROOT_KEY is not set"),
        ("env", {"KEYLEAF_NEW_ROOT_KEY": "short"}, None, "KEYLEAF_NEW_ROOT_KEY does not hold"),
        ("env", {"KEYLEAF_NEW_ROOT_KEY": KEY}, None, "the new root key is the old one"),
        ("passphrase", {}, None, "KEYLEAF_NEW_PASSPHRASE"),
        ("passphrase", {}, iter(["one", "two"]).__next__, "not the same"),
    ]
    for to, new, ask, message in attempts:
        database = Database.open(installed.url)
        with pytest.raises((InputError, StateError), match=message):
            rekey(
                database,
                state,
                SystemRandomness(),
                to=to,
                environment={**installed.environment, **new},
                ask=None if ask is None else (lambda _prompt, ask=ask: ask()),  # type: ignore[operator,misc]
            )
        database.close()
    assert installed.sealed() == before
    assert installed.opens()


def test_a_passphrase_is_typed_twice(tmp_path: Path) -> None:
    state = StateDirectory.open(tmp_path / "state")
    installed = Installation(f"sqlite:///{state.database}", state)
    prompts: list[str] = []
    database = Database.open(installed.url)
    rekey(
        database,
        state,
        SystemRandomness(),
        to="passphrase",
        environment={},
        ask=lambda prompt: prompts.append(prompt) or "battery staple",  # type: ignore[func-returns-value]
    )
    database.close()
    assert len(prompts) == 2
    assert installed.opens({"KEYLEAF_PASSPHRASE": "battery staple"})


def test_a_database_without_a_root_key_has_nothing_to_change(database_url: str, state: StateDirectory) -> None:
    database = Database.open(database_url)
    with pytest.raises(StateError, match="no root key to change"):
        rekey(database, state, SystemRandomness())
    database.close()
    assert list(state.root.iterdir()) == []


@pytest.fixture
def postgres(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database on Postgres."""
    folder = request.getfixturevalue("postgres_socket")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://postgres@/{name}?host={folder}"


@pytest.mark.postgres
def test_another_process_on_the_same_postgres_stops_the_change(postgres: str, state: StateDirectory) -> None:
    installed = Installation(postgres, state)
    before = installed.sealed()
    server = Database.open(postgres)
    with pytest.raises(StateError, match="another keyleaf is using the database"):
        installed.rekey()
    assert installed.sealed() == before
    with server.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    server.close()
    installed.rekey()
    assert installed.opens()


def test_every_stored_ciphertext_is_accounted_for() -> None:
    """A new binary column has to be moved by a change of the root key, or listed here with what it is."""
    others = {
        "app_credential.digest",  # a salted digest
        "app_credential.certificate",  # public
        "process_binding.digest",
        "secret_version.wrapped_key",  # under the vault's key
        "secret_version.sealed",  # under the version's key
    }
    moved = {"vault.wrapped_key", "signing_key.sealed"}
    found = {
        f"{table.name}.{column.name}"
        for table in schema.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    }
    assert found == others | moved


def test_a_keyring_shows_nothing_of_its_key() -> None:
    ring = Keyring(b"canary-root-key-of-32-bytes-long", SystemRandomness())
    assert "canary" not in repr(ring)
    assert "canary" not in repr(vars(ring))
