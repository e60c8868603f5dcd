"""The installation's key for backup blobs: made with the first vault, sealed under the root key."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, insert, select

from keyleaf.core.errors import StateError
from keyleaf.store import Keyring
from keyleaf.store.schema import meta

_PURPOSE = "backup-key"
_META_KEY = f"sealed:{_PURPOSE}"


def ensure_backup_key(connection: Connection, keyring: Keyring) -> None:
    """Make the key if there is none; in a writing transaction."""
    if _sealed_key(connection) is None:
        sealed = keyring.seal(_PURPOSE, AESGCM.generate_key(256))
        connection.execute(insert(meta).values(key=_META_KEY, value=sealed.hex()))


def backup_cipher(connection: Connection, keyring: Keyring) -> AESGCM:
    """The cipher of backup blobs.

    Raises:
        StateError: the key is missing, or another root key sealed it.
    """
    sealed = _sealed_key(connection)
    if sealed is None:
        raise StateError("this installation has no backup key", hint="it is made with the first vault")
    return AESGCM(keyring.unseal(_PURPOSE, bytes.fromhex(sealed)))


def _sealed_key(connection: Connection) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.key == _META_KEY)).scalar_one_or_none()
