"""Changing the root key: every wrapped key and sealed blob moves to the new one, in one transaction.

- The keys of vaults and versions stay as they are, under a new wrapping. A copy of the database from before the change
  still opens with the old root key: keep it as safe as the values, or set new versions of the secrets.
- A new key file is written beside the old one first, and takes its place after the commit. Wherever the change is cut
  short, the next start keeps the file that the database belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Table, select, update

from keyleaf.core.clock import Randomness
from keyleaf.core.errors import InputError, StateError
from keyleaf.store.database import Database
from keyleaf.store.envelope import Keyring
from keyleaf.store.migration import upgrade
from keyleaf.store.rootkey import (
    Provider,
    load_record,
    new_record,
    obtain_new,
    open_keyring,
    opens,
    settle_file,
    store_record,
)
from keyleaf.store.schema import meta, signing_key, vault
from keyleaf.store.state import StateDirectory

SEALED_META_PREFIX = "sealed:"

# Columns that Keyring.seal fills, with their purpose. A blob in ``meta`` needs no entry: its key says its purpose.
_SEALED_COLUMNS: tuple[tuple[Table, Column[str], Column[bytes], str], ...] = (
    (signing_key, signing_key.c.kid, signing_key.c.sealed, "signing-key"),
)


@dataclass(frozen=True, slots=True)
class RootKeyChange:
    """What a change of the root key did."""

    before: Provider
    after: Provider
    moved: int


def rekey(
    database: Database,
    state: StateDirectory,
    randomness: Randomness,
    *,
    to: Provider | None = None,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> RootKeyChange:
    """Change the root key, and where it comes from. The caller holds the state directory's lock.

    Args:
        to: the new key's provider; None keeps the one that there is.

    Raises:
        StateError: the installation has no root key yet; the old key is missing or wrong; another process uses the
            database; something does not open with the old key. Nothing has been changed.
        InputError: the new key cannot be used, or is the old one. Nothing has been changed.
    """
    with database.write() as connection:
        database.claim(connection)
        upgrade(connection)
        if load_record(connection) is None:
            raise StateError("there is no root key to change yet", hint="keyleaf serve makes one at its first start")
        old = open_keyring(connection, state, randomness, environment=environment, ask=ask)
        current = load_record(connection)
        assert current is not None
        try:
            record = new_record(to or current.provider, randomness)
            new = Keyring(obtain_new(record, state, randomness, environment=environment, ask=ask), randomness)
            if opens(current, new):
                raise InputError("the new root key is the old one", hint="nothing has been changed")
            moved = rewrap(connection, old, new)
            store_record(connection, record, new)
        except BaseException:
            state.next_root_key.unlink(missing_ok=True)
            raise
    if record.provider == "file":
        settle_file(record, state)
    elif current.provider == "file":
        state.root_key.unlink(missing_ok=True)
    return RootKeyChange(current.provider, record.provider, moved)


def rewrap(connection: Connection, old: Keyring, new: Keyring) -> int:
    """Move everything that the old root key protects to the new one; returns how many values moved.

    The caller commits, and stores the new key's check value in the same transaction.

    Raises:
        StateError: something does not decrypt with the old key; nothing has been changed once the caller rolls back.
    """
    moved = 0
    for row in connection.execute(select(vault.c.name_key, vault.c.tenant_id, vault.c.wrapped_key)).all():
        wrapped = old.rewrap_vault_key(row.tenant_id, row.name_key, bytes(row.wrapped_key), new)
        connection.execute(update(vault).where(vault.c.name_key == row.name_key).values(wrapped_key=wrapped))
        moved += 1
    for table, key_column, column, purpose in _SEALED_COLUMNS:
        for key, sealed in connection.execute(select(key_column, column)).all():
            resealed = new.seal(purpose, old.unseal(purpose, bytes(sealed)))
            connection.execute(update(table).where(key_column == key).values({column: resealed}))
            moved += 1
    for key, value in connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.like("sealed:%"))).all():
        purpose = key.removeprefix(SEALED_META_PREFIX)
        text = new.seal(purpose, old.unseal(purpose, bytes.fromhex(value))).hex()
        connection.execute(update(meta).where(meta.c.key == key).values(value=text))
        moved += 1
    return moved
