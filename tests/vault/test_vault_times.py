"""When a version was made and changed: with a clock that moves when told."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyleaf.core.clock import SeededRandomness
from keyleaf.store import Database, Keyring, sqlite_url
from keyleaf.store.schema import tenant
from keyleaf.vault.bundles import Attributes, SetRequest, UpdateRequest
from keyleaf.vault.deletion import delete_secret, purge_due, recover_secret
from keyleaf.vault.reader import load_secret
from keyleaf.vault.secrets import get_secret, set_secret, update_secret
from keyleaf.vault.vaults import DAY, VaultRow, create_vault

RESOURCE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv-times"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Database, Keyring, VaultRow]:
    database = Database.open(sqlite_url(tmp_path / "state.db"))
    database.migrate()
    keyring = Keyring(b"k" * 32, SeededRandomness())
    with database.write() as connection:
        connection.execute(tenant.insert().values(id="t", name="t"))
        vault = create_vault(
            connection,
            keyring,
            name="kv-times",
            resource_id=RESOURCE,
            tenant_id="t",
            location="l",
            now=1,
            retention_days=7,
        )
    return database, keyring, vault


def test_a_change_moves_updated_and_nothing_else_does(made: tuple[Database, Keyring, VaultRow]) -> None:
    database, keyring, vault = made
    with database.write() as connection:
        first = set_secret(connection, keyring, SeededRandomness(1), vault, "a", SetRequest("v"), 100.9)
        assert (first.created, first.updated) == (100, 100)
        changed = update_secret(connection, vault, "a", "", UpdateRequest(attributes=Attributes(enabled=True)), 250.2)
        assert (changed.created, changed.updated) == (100, 250)
        assert get_secret(connection, vault, "a", "", 900).updated == 250
        delete_secret(connection, vault, "a", 300)
        recovered = recover_secret(connection, vault, "a")
        assert (recovered.created, recovered.updated) == (100, 250)
        second = set_secret(connection, keyring, SeededRandomness(2), vault, "a", SetRequest("w"), 400)
        assert (second.created, second.updated, second.ordinal) == (400, 400, 2)
        assert get_secret(connection, vault, "a", first.version, 900).updated == 250


def test_retention_ends_when_it_says(made: tuple[Database, Keyring, VaultRow]) -> None:
    database, keyring, vault = made
    with database.write() as connection:
        set_secret(connection, keyring, SeededRandomness(1), vault, "a", SetRequest("v"), 100)
        set_secret(connection, keyring, SeededRandomness(2), vault, "b", SetRequest("v"), 100)
        deleted = delete_secret(connection, vault, "a", 1000)
        assert deleted.purge_at == 1000 + 7 * DAY
        assert purge_due(connection, 1000 + 7 * DAY - 1) == 0
        assert load_secret(connection, vault.key, "a", deleted=True) is not None
        assert purge_due(connection, 1000 + 7 * DAY) == 1
        assert load_secret(connection, vault.key, "a", deleted=True) is None
        assert load_secret(connection, vault.key, "b") is not None
