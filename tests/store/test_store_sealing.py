"""Every ciphertext opens in its own place, with its own key, unaltered; and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, update

from keyleaf.core.clock import SeededRandomness, SystemRandomness
from keyleaf.core.errors import StateError
from keyleaf.store import Database, Keyring
from keyleaf.store.envelope import bind
from keyleaf.store.schema import secret, secret_version, tenant
from keyleaf.store.schema import vault as vault_table
from keyleaf.vault import VaultRow, create_vault, find_vault
from keyleaf.vault.bundles import SetRequest
from keyleaf.vault.reader import load_secret
from keyleaf.vault.secrets import set_secret

ROOT = bytes(range(32))


@dataclass(frozen=True)
class Place:
    """Where one value is kept."""

    tenant: str
    vault: str
    name: str
    version: str


short = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_categories=["Cs"]), max_size=6)
places = st.builds(Place, tenant=short, vault=short, name=short, version=short)


def keyring(root: bytes = ROOT) -> Keyring:
    return Keyring(root, SystemRandomness())


@dataclass(frozen=True)
class Sealed:
    """The three ciphertexts of one value."""

    vault_key: bytes
    key: bytes
    value: bytes


def sealed_at(place: Place, value: bytes) -> Sealed:
    ring = keyring()
    vault_key = ring.new_vault_key(place.tenant, place.vault)
    return Sealed(vault_key, *ring.seal_version(place.tenant, place.vault, vault_key, place.name, place.version, value))


def opened(place: Place, sealed: Sealed, ring: Keyring | None = None) -> bytes:
    return (ring or keyring()).unseal_version(
        place.tenant, place.vault, sealed.vault_key, place.name, place.version, sealed.key, sealed.value
    )


def same(one: Place, other: Place) -> bool:
    folded = [replace(p, vault=p.vault.lower(), name=p.name.lower()) for p in (one, other)]
    return folded[0] == folded[1]


@given(place=places, value=st.binary(max_size=64))
def test_a_value_opens_in_its_place(place: Place, value: bytes) -> None:
    sealed = sealed_at(place, value)
    assert opened(place, sealed) == value
    assert opened(replace(place, vault=place.vault.lower(), name=place.name.lower()), sealed) == value
    assert len(value) < 8 or value not in sealed.value + sealed.key + sealed.vault_key


@settings(max_examples=200)
@given(place=places, other=places, parts=st.sets(st.sampled_from(["tenant", "vault", "name", "version"]), min_size=1))
def test_a_value_opens_in_no_other_place(place: Place, other: Place, parts: set[str]) -> None:
    moved = replace(place, **{part: getattr(other, part) for part in parts})
    assume(not same(place, moved))
    with pytest.raises(StateError):
        opened(moved, sealed_at(place, b"value"))


@settings(max_examples=200)
@given(part=st.sampled_from(["vault_key", "key", "value"]), at=st.integers(0, 1000), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(part: str, at: int, bit: int) -> None:
    place = Place("t", "v", "n", "1")
    sealed = sealed_at(place, b"a value of some length")
    changed = bytearray(getattr(sealed, part))
    changed[at % len(changed)] ^= 1 << bit
    with pytest.raises(StateError):
        opened(place, replace(sealed, **{part: bytes(changed)}))


@given(part=st.sampled_from(["vault_key", "key", "value"]), size=st.integers(0, 40))
def test_nothing_can_be_cut_off(part: str, size: int) -> None:
    place = Place("t", "v", "n", "1")
    sealed = sealed_at(place, b"a value of some length")
    with pytest.raises(StateError):
        opened(place, replace(sealed, **{part: getattr(sealed, part)[:size]}))


@given(root=st.binary(min_size=32, max_size=32))
def test_no_other_root_key_opens_it(root: bytes) -> None:
    assume(root != ROOT)
    place = Place("t", "v", "n", "1")
    with pytest.raises(StateError):
        opened(place, sealed_at(place, b"value"), keyring(root))


@given(size=st.integers(0, 64).filter(lambda n: n != 32))
def test_a_root_key_has_32_bytes(size: int) -> None:
    with pytest.raises(StateError, match="32 bytes"):
        Keyring(b"k" * size, SystemRandomness())


@given(purpose=short, other=short, plain=st.binary(max_size=40))
def test_a_blob_opens_for_its_purpose_only(purpose: str, other: str, plain: bytes) -> None:
    sealed = keyring().seal(purpose, plain)
    assert keyring().unseal(purpose, sealed) == plain
    if other != purpose:
        with pytest.raises(StateError):
            keyring().unseal(other, sealed)


@given(st.lists(short, max_size=4), st.lists(short, max_size=4))
def test_two_places_never_have_the_same_encoding(one: list[str], other: list[str]) -> None:
    assert (bind(*one) == bind(*other)) == (one == other)


def test_the_same_value_is_never_sealed_alike() -> None:
    place = Place("t", "v", "n", "1")
    sealed = {sealed_at(place, b"value").value for _ in range(50)}
    assert len(sealed) == 50


def test_a_wrapped_vault_key_moves_to_a_new_root_key_and_leaves_the_old() -> None:
    old, new = keyring(), keyring(b"n" * 32)
    wrapped = old.new_vault_key("t", "v")
    key, value = old.seal_version("t", "v", wrapped, "n", "1", b"value")
    moved = old.rewrap_vault_key("t", "v", wrapped, new)
    assert new.unseal_version("t", "v", moved, "n", "1", key, value) == b"value"
    with pytest.raises(StateError):
        keyring().unseal_version("t", "v", moved, "n", "1", key, value)


def test_errors_show_no_value() -> None:
    place = Place("t", "v", "n", "1")
    sealed = sealed_at(place, b"canary-value")
    with pytest.raises(StateError) as caught:
        opened(place, replace(sealed, value=sealed.value[:-1]))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


class TestRows:
    """Rows that somebody with access to the database copies to another place."""

    @pytest.fixture
    def furnished(self, database_url: str) -> Iterator[tuple[Database, Keyring]]:
        database = Database.open(database_url)
        database.migrate()
        ring = keyring()
        with database.write() as connection:
            for number in (1, 2):
                connection.execute(tenant.insert().values(id=f"t{number}", name="t"))
                vault = create_vault(
                    connection,
                    ring,
                    name=f"kv-{number}",
                    resource_id=f"/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv-{number}",
                    tenant_id=f"t{number}",
                    location="l",
                    now=1,
                )
                for name in ("a", "b"):
                    for value in (f"{number}{name}old", f"{number}{name}new"):
                        set_secret(connection, ring, SeededRandomness(hash(value)), vault, name, SetRequest(value), 1)
        yield database, ring
        database.close()

    @staticmethod
    def read(database: Database, vault: str, name: str, version: str | None = None) -> bytes:
        with database.read() as connection:
            row = find_vault(connection, vault)
            assert row is not None
            return TestRows.value(row, load_secret(connection, vault, name, version))

    @staticmethod
    def value(row: VaultRow, found: object) -> bytes:
        from keyleaf.vault import StoredSecret

        assert isinstance(found, StoredSecret)
        return keyring().unseal_version(
            row.tenant_id, row.name, row.wrapped_key, found.name, found.version, found.wrapped_key, found.sealed
        )

    @staticmethod
    def copy(database: Database, source: tuple[str, str, int], target: tuple[str, str, int]) -> None:
        def of(vault: str, name: str) -> object:
            return select(secret.c.id).where(secret.c.vault_key == vault, secret.c.name == name).scalar_subquery()

        with database.write() as connection:
            found = connection.execute(
                select(secret_version.c.wrapped_key, secret_version.c.sealed).where(
                    secret_version.c.secret_id == of(*source[:2]), secret_version.c.ordinal == source[2]
                )
            ).one()
            connection.execute(
                update(secret_version)
                .where(secret_version.c.secret_id == of(*target[:2]), secret_version.c.ordinal == target[2])
                .values(wrapped_key=found.wrapped_key, sealed=found.sealed)
            )

    def test_each_opens_where_it_was_made(self, furnished: tuple[Database, Keyring]) -> None:
        database, _ = furnished
        for number in (1, 2):
            for name in ("a", "b"):
                assert self.read(database, f"kv-{number}", name) == f"{number}{name}new".encode()

    @pytest.mark.parametrize(
        ("source", "target"),
        [
            (("kv-1", "a", 2), ("kv-1", "b", 2)),
            (("kv-1", "a", 1), ("kv-1", "a", 2)),
            (("kv-1", "a", 2), ("kv-2", "a", 2)),
        ],
        ids=["another name", "an old version as the latest", "another vault and tenant"],
    )
    def test_a_copied_row_does_not_open(
        self, furnished: tuple[Database, Keyring], source: tuple[str, str, int], target: tuple[str, str, int]
    ) -> None:
        database, _ = furnished
        self.copy(database, source, target)
        with pytest.raises(StateError):
            self.read(database, target[0], target[1])

    def test_renaming_a_secret_or_a_version_in_the_database_does_not_open_it(
        self, furnished: tuple[Database, Keyring]
    ) -> None:
        database, _ = furnished
        with database.write() as connection:
            connection.execute(update(secret).where(secret.c.name == "a").values(name="c", name_key="c"))
        with pytest.raises(StateError):
            self.read(database, "kv-1", "c")
        with database.write() as connection:
            connection.execute(update(secret_version).where(secret_version.c.ordinal == 2).values(version="0" * 32))
        with pytest.raises(StateError):
            self.read(database, "kv-1", "b")

    def test_a_vault_given_to_another_tenant_or_another_vaults_key_does_not_open(
        self, furnished: tuple[Database, Keyring]
    ) -> None:
        database, _ = furnished
        with database.write() as connection:
            other = connection.execute(
                select(vault_table.c.wrapped_key).where(vault_table.c.name == "kv-2")
            ).scalar_one()
            connection.execute(update(vault_table).where(vault_table.c.name == "kv-2").values(tenant_id="t1"))
            connection.execute(update(vault_table).where(vault_table.c.name == "kv-1").values(wrapped_key=other))
        for name in ("kv-1", "kv-2"):
            with pytest.raises(StateError):
                self.read(database, name, "a")
