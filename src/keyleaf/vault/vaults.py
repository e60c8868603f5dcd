"""Vaults as rows: what Resource Manager makes and the data plane looks up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from keyleaf.core.errors import ServiceError
from keyleaf.core.scope import Scope
from keyleaf.store import Keyring
from keyleaf.store.schema import vault as table
from keyleaf.vault.backup_key import ensure_backup_key
from keyleaf.vault.policy import VaultPolicy

DAY = 86_400


@dataclass(frozen=True, slots=True)
class VaultRow:
    """One vault. Times are seconds since 1970; ``deleted`` is None while it lives.

    Attributes:
        rbac: decisions come from role assignments; otherwise from ``access_policies`` (ARM shape).
        policy: keyleaf's stricter rules; the default is Azure's behaviour.
    """

    name: str
    resource_id: str
    tenant_id: str
    location: str
    sku: str
    rbac: bool
    access_policies: tuple[Mapping[str, Any], ...]
    retention_days: int
    purge_protection: bool
    tags: Mapping[str, str]
    policy: VaultPolicy
    wrapped_key: bytes
    created: int
    updated: int
    deleted: int | None = None
    purge_at: int | None = None

    @property
    def key(self) -> str:
        """The form in which vault names are compared."""
        return self.name.lower()

    @property
    def scope(self) -> Scope:
        """The vault's scope for role assignments."""
        return Scope(self.resource_id)

    @property
    def subscription(self) -> str:
        """Id of the subscription that it is in, lower case."""
        return self.scope.subscription or ""


def create_vault(
    connection: Connection,
    keyring: Keyring,
    *,
    name: str,
    resource_id: str,
    tenant_id: str,
    location: str,
    now: float,
    sku: str = "standard",
    rbac: bool = True,
    access_policies: Sequence[Mapping[str, Any]] = (),
    retention_days: int = 90,
    purge_protection: bool = False,
    tags: Mapping[str, str] | None = None,
    policy: VaultPolicy | None = None,
) -> VaultRow:
    """Make a vault with a key of its own.

    Raises:
        ServiceError: 409 VaultAlreadyExists; also when a deleted vault holds the name.
    """
    found = find_vault(connection, name, deleted=None)
    if found is not None:
        if found.deleted is not None:
            raise ServiceError(
                409,
                "ConflictError",
                f"A vault with the name '{name}' already exists in deleted state. Recover or purge it first.",
            )
        raise ServiceError(409, "VaultAlreadyExists", f"The vault name '{name}' is already in use.")
    ensure_backup_key(connection, keyring)
    connection.execute(
        insert(table).values(
            name_key=name.lower(),
            name=name,
            resource_id=resource_id,
            resource_key=resource_id.lower(),
            tenant_id=tenant_id,
            location=location,
            sku=sku,
            rbac=rbac,
            access_policies=msgspec.json.encode(list(access_policies)).decode(),
            retention_days=retention_days,
            purge_protection=purge_protection,
            tags=msgspec.json.encode(dict(tags or {})).decode(),
            policy=msgspec.json.encode(policy or VaultPolicy()).decode(),
            wrapped_key=keyring.new_vault_key(tenant_id, name),
            created=int(now),
            updated=int(now),
        )
    )
    return _must_find(connection, name)


def find_vault(connection: Connection, name: str, *, deleted: bool | None = False) -> VaultRow | None:
    """The vault of that name; ``deleted`` None finds it in either state."""
    row = connection.execute(select(table).where(table.c.name_key == name.lower())).mappings().one_or_none()
    if row is None or (deleted is not None and (row["deleted"] is not None) != deleted):
        return None
    return _from_row(row)


def find_vault_by_resource(
    connection: Connection, resource_id: str, *, deleted: bool | None = False
) -> VaultRow | None:
    """The vault of that ARM id."""
    name = connection.execute(
        select(table.c.name).where(table.c.resource_key == resource_id.lower())
    ).scalar_one_or_none()
    return None if name is None else find_vault(connection, name, deleted=deleted)


def list_vaults(connection: Connection, *, below: str = "/", deleted: bool = False) -> list[VaultRow]:
    """The vaults at or below a scope, by name."""
    condition = table.c.deleted.is_not(None) if deleted else table.c.deleted.is_(None)
    rows = connection.execute(select(table).where(condition).order_by(table.c.name_key)).mappings()
    scope = Scope(below)
    return [vault for vault in map(_from_row, rows) if scope.contains(vault.scope)]


def update_vault(
    connection: Connection,
    name: str,
    *,
    now: float,
    sku: str | None = None,
    rbac: bool | None = None,
    access_policies: Sequence[Mapping[str, Any]] | None = None,
    purge_protection: bool | None = None,
    tags: Mapping[str, str] | None = None,
    policy: VaultPolicy | None = None,
) -> VaultRow:
    """Change what may be changed: the retention is fixed at creation, purge protection only goes on.

    Raises:
        ServiceError: 400 on an attempt to take purge protection off.
    """
    current = _must_find(connection, name)
    if purge_protection is False and current.purge_protection:
        raise ServiceError(
            400,
            "BadRequest",
            'The property "enablePurgeProtection" cannot be set to false. Enabling purge protection is irreversible.',
        )
    values: dict[str, object] = {"updated": int(now)}
    if sku is not None:
        values["sku"] = sku
    if rbac is not None:
        values["rbac"] = rbac
    if access_policies is not None:
        values["access_policies"] = msgspec.json.encode(list(access_policies)).decode()
    if purge_protection is not None:
        values["purge_protection"] = purge_protection
    if tags is not None:
        values["tags"] = msgspec.json.encode(dict(tags)).decode()
    if policy is not None:
        values["policy"] = msgspec.json.encode(policy).decode()
    connection.execute(update(table).where(table.c.name_key == name.lower()).values(values))
    return _must_find(connection, name)


def soft_delete_vault(connection: Connection, name: str, *, now: float) -> VaultRow:
    """Delete a vault so that it can be recovered until its retention is over."""
    current = _must_find(connection, name)
    connection.execute(
        update(table)
        .where(table.c.name_key == name.lower())
        .values(deleted=int(now), purge_at=int(now) + current.retention_days * DAY, updated=int(now))
    )
    deleted = find_vault(connection, name, deleted=True)
    assert deleted is not None
    return deleted


def recover_vault(connection: Connection, name: str, *, now: float) -> VaultRow:
    """Bring a deleted vault back with its secrets; its role assignments are not brought back, as in Azure."""
    connection.execute(
        update(table).where(table.c.name_key == name.lower()).values(deleted=None, purge_at=None, updated=int(now))
    )
    return _must_find(connection, name)


def purge_vault(connection: Connection, name: str) -> None:
    """Remove a deleted vault for good, with everything in it.

    Raises:
        ServiceError: 404 if no deleted vault has that name; 409 under purge protection.
    """
    found = find_vault(connection, name, deleted=True)
    if found is None:
        raise ServiceError(404, "DeletedVaultNotFound", f"The deleted vault '{name}' does not exist.")
    if found.purge_protection:
        raise ServiceError(409, "VaultPurgeNotAllowed", f"The vault '{name}' is protected from purging.")
    connection.execute(delete(table).where(table.c.name_key == name.lower()))


def _must_find(connection: Connection, name: str) -> VaultRow:
    found = find_vault(connection, name)
    if found is None:
        raise ServiceError(404, "VaultNotFound", f"The vault '{name}' was not found.")
    return found


def _from_row(row: RowMapping) -> VaultRow:
    return VaultRow(
        name=row["name"],
        resource_id=row["resource_id"],
        tenant_id=row["tenant_id"],
        location=row["location"],
        sku=row["sku"],
        rbac=row["rbac"],
        access_policies=tuple(msgspec.json.decode(row["access_policies"])),
        retention_days=row["retention_days"],
        purge_protection=row["purge_protection"],
        tags=msgspec.json.decode(row["tags"]),
        policy=msgspec.json.decode(row["policy"], type=VaultPolicy),
        wrapped_key=bytes(row["wrapped_key"]),
        created=row["created"],
        updated=row["updated"],
        deleted=row["deleted"],
        purge_at=row["purge_at"],
    )
