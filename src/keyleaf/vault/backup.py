"""Backup and restore of one secret with all its versions.

- The blob is opaque to the client: AES-256-GCM under a key of the installation, bound to tenant and subscription.
  Azure restores only within the same subscription and geography; so does this.
- Restoring keeps versions and times, and refuses a name that is in use or held by a deleted secret.
- The key is sealed under the root key, so blobs survive ``keyleaf rekey``.

https://learn.microsoft.com/azure/key-vault/general/backup
"""

from __future__ import annotations

import base64
import binascii
import os

import msgspec
from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, insert

from keyleaf.core.names import SECRET_NAME, SECRET_VERSION
from keyleaf.store import Keyring
from keyleaf.store.envelope import bind
from keyleaf.store.schema import secret, secret_version
from keyleaf.vault.backup_key import backup_cipher
from keyleaf.vault.problems import already_exists, bad_parameter, deleted_but_recoverable, not_found
from keyleaf.vault.reader import StoredSecret, load_secret, load_versions
from keyleaf.vault.vaults import VaultRow

_NONCE = 12


class _Version(msgspec.Struct):
    version: str
    value: str
    enabled: bool
    created: int
    updated: int
    content_type: str | None = None
    tags: dict[str, str] | None = None
    nbf: int | None = None
    exp: int | None = None


class _Backup(msgspec.Struct):
    name: str
    versions: list[_Version]


def backup_secret(connection: Connection, keyring: Keyring, vault: VaultRow, name: str) -> str:
    """The blob of a secret, base64url."""
    latest = load_secret(connection, vault.key, name)
    if latest is None:
        raise not_found(name)
    versions = [
        _Version(
            version=found.version,
            value=_value(keyring, vault, found),
            enabled=found.enabled,
            created=found.created,
            updated=found.updated,
            content_type=found.content_type,
            tags=found.tags,
            nbf=found.nbf,
            exp=found.exp,
        )
        for found in load_versions(connection, latest.secret_id)
    ]
    plain = msgspec.json.encode(_Backup(latest.name, versions))
    nonce = os.urandom(_NONCE)
    sealed = nonce + backup_cipher(connection, keyring).encrypt(nonce, plain, _place(vault))
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def restore_secret(connection: Connection, keyring: Keyring, vault: VaultRow, blob: str) -> StoredSecret:
    """Bring a backed-up secret into a vault.

    Raises:
        ServiceError: 400 for a blob that is not ours, was altered, or comes from another subscription; 409 for a name
            in use.
    """
    backup = _open(connection, keyring, vault, blob)
    for deleted in (False, True):
        if load_secret(connection, vault.key, backup.name, deleted=deleted) is not None:
            raise deleted_but_recoverable(backup.name) if deleted else already_exists(backup.name)
    secret_id = connection.execute(
        insert(secret)
        .values(vault_key=vault.key, name_key=backup.name.lower(), name=backup.name)
        .returning(secret.c.id)
    ).scalar_one()
    for ordinal, version in enumerate(backup.versions, start=1):
        wrapped, sealed = keyring.seal_version(
            vault.tenant_id, vault.name, vault.wrapped_key, backup.name, version.version, version.value.encode()
        )
        connection.execute(
            insert(secret_version).values(
                secret_id=secret_id,
                ordinal=ordinal,
                version=version.version,
                content_type=version.content_type,
                tags=msgspec.json.encode(version.tags).decode(),
                enabled=version.enabled,
                nbf=version.nbf,
                exp=version.exp,
                created=version.created,
                updated=version.updated,
                wrapped_key=wrapped,
                sealed=sealed,
            )
        )
    restored = load_secret(connection, vault.key, backup.name)
    assert restored is not None
    return restored


def restored_name(connection: Connection, keyring: Keyring, vault: VaultRow, blob: str) -> str:
    """The name of the secret in a blob: what a decision about restoring it needs."""
    return _open(connection, keyring, vault, blob).name


def _open(connection: Connection, keyring: Keyring, vault: VaultRow, blob: str) -> _Backup:
    try:
        sealed = base64.urlsafe_b64decode(blob + "=" * (-len(blob) % 4))
        plain = backup_cipher(connection, keyring).decrypt(sealed[:_NONCE], sealed[_NONCE:], _place(vault))
        backup = msgspec.json.decode(plain, type=_Backup)
    except (InvalidTag, ValueError, binascii.Error, msgspec.DecodeError):
        raise bad_parameter(
            "Backup blob is not one that this subscription's vaults can restore, or it was altered."
        ) from None
    well_formed = SECRET_NAME.match(backup.name) and all(SECRET_VERSION.match(v.version) for v in backup.versions)
    if not well_formed or not backup.versions:
        raise bad_parameter("Backup blob is not one that this subscription's vaults can restore, or it was altered.")
    return backup


def _value(keyring: Keyring, vault: VaultRow, found: StoredSecret) -> str:
    plain = keyring.unseal_version(
        vault.tenant_id, vault.name, vault.wrapped_key, found.name, found.version, found.wrapped_key, found.sealed
    )
    return plain.decode()


def _place(vault: VaultRow) -> bytes:
    return bind("keyleaf-backup", vault.tenant_id, vault.subscription)
