"""Soft delete, recover, purge.

- Deleting takes all versions out of sight and keeps them until ``purge_at``; recovering brings all of them back.
- While a deleted secret holds its name, the name cannot be set or restored.
- Purging removes everything for good, unless the vault is protected from it; then time alone does.

https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, update

from keyleaf.store.schema import secret
from keyleaf.store.schema import vault as vault_table
from keyleaf.vault.problems import deleted_not_found, not_found, purge_protected
from keyleaf.vault.reader import StoredSecret, load_secret
from keyleaf.vault.secrets import checked_name
from keyleaf.vault.vaults import DAY, VaultRow


def delete_secret(connection: Connection, vault: VaultRow, name: str, now: float) -> StoredSecret:
    """Soft-delete a secret; returns its latest version with the dates of its deletion."""
    found = load_secret(connection, vault.key, checked_name(name))
    if found is None:
        raise not_found(name)
    connection.execute(
        update(secret)
        .where(secret.c.id == found.secret_id)
        .values(deleted=int(now), purge_at=int(now) + vault.retention_days * DAY)
    )
    return get_deleted(connection, vault, name)


def get_deleted(connection: Connection, vault: VaultRow, name: str) -> StoredSecret:
    """A deleted secret's latest version.

    Raises:
        ServiceError: 404.
    """
    found = load_secret(connection, vault.key, checked_name(name), deleted=True)
    if found is None:
        raise deleted_not_found(name)
    return found


def recover_secret(connection: Connection, vault: VaultRow, name: str) -> StoredSecret:
    """Bring a deleted secret back with every version and attribute."""
    found = get_deleted(connection, vault, name)
    connection.execute(update(secret).where(secret.c.id == found.secret_id).values(deleted=None, purge_at=None))
    recovered = load_secret(connection, vault.key, name)
    assert recovered is not None
    return recovered


def purge_secret(connection: Connection, vault: VaultRow, name: str) -> None:
    """Remove a deleted secret for good."""
    found = get_deleted(connection, vault, name)
    if vault.purge_protection:
        raise purge_protected(found.name)
    connection.execute(delete(secret).where(secret.c.id == found.secret_id))


def purge_due(connection: Connection, now: float) -> int:
    """Remove every deleted secret and vault whose retention is over; returns how many."""
    secrets = connection.execute(delete(secret).where(secret.c.purge_at <= int(now)))
    vaults = connection.execute(delete(vault_table).where(vault_table.c.purge_at <= int(now)))
    return secrets.rowcount + vaults.rowcount
