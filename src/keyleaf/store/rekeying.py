"""Changing the root key: every wrapped key and sealed blob moves to the new one, in one transaction."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from keyleaf.store.envelope import Keyring
from keyleaf.store.schema import meta, signing_key, vault

# Columns sealed under the root key: (table, key column, sealed column, purpose).
SEALED_META_PREFIX = "sealed:"


def rewrap(connection: Connection, old: Keyring, new: Keyring) -> int:
    """Move everything that the old root key protects to the new one; returns how many values moved.

    The caller commits, and stores the new key's check value in the same transaction.

    Raises:
        StateError: something does not decrypt with the old key; nothing has been changed once the caller rolls back.
    """
    moved = 0
    for row in connection.execute(select(vault.c.name_key, vault.c.tenant_id, vault.c.wrapped_key)).all():
        wrapped = old.rewrap_vault_key(row.tenant_id, row.name_key, row.wrapped_key, new)
        connection.execute(update(vault).where(vault.c.name_key == row.name_key).values(wrapped_key=wrapped))
        moved += 1
    for kid, sealed_key in connection.execute(select(signing_key.c.kid, signing_key.c.sealed)).all():
        sealed = new.seal("signing-key", old.unseal("signing-key", sealed_key))
        connection.execute(update(signing_key).where(signing_key.c.kid == kid).values(sealed=sealed))
        moved += 1
    for key, value in connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.like("sealed:%"))).all():
        purpose = key.removeprefix(SEALED_META_PREFIX)
        resealed = new.seal(purpose, old.unseal(purpose, bytes.fromhex(value)))
        connection.execute(update(meta).where(meta.c.key == key).values(value=resealed.hex()))
        moved += 1
    return moved
