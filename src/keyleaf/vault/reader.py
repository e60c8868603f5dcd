"""Looking up one version of a secret, light enough for the way that nine requests out of ten take."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, func, select

from keyleaf.store.schema import secret, secret_version
from keyleaf.vault.bundles import Attributes, Bundle


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One version as it is stored; the value is still sealed."""

    secret_id: int
    name: str
    ordinal: int
    version: str
    content_type: str | None
    tags: dict[str, str] | None
    enabled: bool
    nbf: int | None
    exp: int | None
    created: int
    updated: int
    wrapped_key: bytes
    sealed: bytes
    deleted: int | None = None
    purge_at: int | None = None


_COLUMNS = (
    secret.c.id,
    secret.c.name,
    secret_version.c.ordinal,
    secret_version.c.version,
    secret_version.c.content_type,
    secret_version.c.tags,
    secret_version.c.enabled,
    secret_version.c.nbf,
    secret_version.c.exp,
    secret_version.c.created,
    secret_version.c.updated,
    secret_version.c.wrapped_key,
    secret_version.c.sealed,
    secret.c.deleted,
    secret.c.purge_at,
)
_JOINED = select(*_COLUMNS).join_from(secret, secret_version, secret_version.c.secret_id == secret.c.id)


def load_secret(
    connection: Connection, vault_key: str, name: str, version: str | None = None, *, deleted: bool = False
) -> StoredSecret | None:
    """The latest version of a secret, or the one asked for; None if it is not there in that state."""
    query = _JOINED.where(secret.c.vault_key == vault_key, secret.c.name_key == name.lower())
    query = query.where(secret.c.deleted.is_not(None) if deleted else secret.c.deleted.is_(None))
    if version:
        query = query.where(secret_version.c.version == version)
    else:
        query = query.order_by(secret_version.c.ordinal.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else stored(tuple(row))


def stored_name(connection: Connection, vault_key: str, name: str) -> str | None:
    """The spelling that a secret was first set with, whether it lives or is deleted; None if there is none."""
    return connection.execute(
        select(secret.c.name).where(secret.c.vault_key == vault_key, secret.c.name_key == name.lower())
    ).scalar_one_or_none()


def load_versions(
    connection: Connection, secret_id: int, *, after: int = 0, limit: int | None = None
) -> list[StoredSecret]:
    """The versions of a secret, oldest first, from the one after ordinal ``after``."""
    query = _JOINED.where(secret.c.id == secret_id, secret_version.c.ordinal > after)
    query = query.order_by(secret_version.c.ordinal)
    if limit is not None:
        query = query.limit(limit)
    return [stored(tuple(row)) for row in connection.execute(query)]


def load_latest(
    connection: Connection, vault_key: str, *, after: str, limit: int, deleted: bool = False
) -> list[StoredSecret]:
    """The latest version of each secret of a vault whose name comes after ``after``, by name."""
    other = secret_version.alias()
    newest = (
        select(func.max(other.c.ordinal)).where(other.c.secret_id == secret.c.id).correlate(secret).scalar_subquery()
    )
    query = (
        _JOINED.where(secret.c.vault_key == vault_key, secret.c.name_key > after)
        .where(secret.c.deleted.is_not(None) if deleted else secret.c.deleted.is_(None))
        .where(secret_version.c.ordinal == newest)
        .order_by(secret.c.name_key)
        .limit(limit)
    )
    return [stored(tuple(row)) for row in connection.execute(query)]


def stored(row: tuple[object, ...]) -> StoredSecret:
    """One row of the join, with its tags decoded."""
    values = list(row)
    tags = msgspec.json.decode(str(values[5]), type=dict[str, str] | None)
    values[5] = tags
    values[11], values[12] = bytes(values[11]), bytes(values[12])  # type: ignore[call-overload]
    return StoredSecret(*values)  # type: ignore[arg-type]


def recovery_level(retention_days: int, purge_protection: bool) -> str:
    """How a deleted secret may be brought back: https://learn.microsoft.com/azure/key-vault/general/soft-delete-overview"""
    prefix = "Recoverable" if retention_days == 90 else "CustomizedRecoverable"
    return prefix if purge_protection else f"{prefix}+Purgeable"


def attributes(found: StoredSecret, retention_days: int, purge_protection: bool) -> Attributes:
    """The attributes of a version as they are answered."""
    return Attributes(
        enabled=found.enabled,
        nbf=found.nbf,
        exp=found.exp,
        created=found.created,
        updated=found.updated,
        recovery_level=recovery_level(retention_days, purge_protection),
        recoverable_days=retention_days,
    )


def bundle(found: StoredSecret, base: str, level: Attributes, value: str | None = None) -> Bundle:
    """A version as get and set answer it, ids rendered from the authority that the client called."""
    return Bundle(
        id=f"{base}/secrets/{found.name}/{found.version}",
        attributes=level,
        value=value,
        content_type=found.content_type,
        tags=found.tags,
    )
