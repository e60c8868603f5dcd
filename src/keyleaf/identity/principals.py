"""A principal as the directory holds it, and the directory's rules for managed identities and all principals.

The functions work on the caller's connection and never commit. Times are whole seconds since 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from sqlalchemy import delete, func, select, update

from keyleaf.core.clock import Randomness, random_guid
from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Principal
from keyleaf.store.schema import app_credential, federated_credential, principal, process_binding

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

APPLICATION_TAG = "keyleaf-application"


@dataclass(frozen=True, slots=True)
class PrincipalRow:
    """One managed identity or service principal.

    Attributes:
        app_object_id: object id of the app registration; empty for managed identities.
        resource_id: ARM id as written; empty for applications.
        tokens_valid_from: tokens issued before this second are revoked.
        deleted: when it was deleted, or None while it lives.
    """

    object_id: str
    tenant_id: str
    kind: Literal["managed_identity", "application"]
    client_id: str
    app_object_id: str
    name: str
    resource_id: str
    location: str
    tags: Mapping[str, str] = field(default_factory=dict)
    directory_roles: tuple[str, ...] = ()
    enabled: bool = True
    tokens_valid_from: int = 0
    created: int = 0
    deleted: int | None = None

    @property
    def usable(self) -> bool:
        """Whether tokens may be issued to it and are honoured."""
        return self.enabled and self.deleted is None

    def as_principal(self, issuer: str = "") -> Principal:
        """The caller that a token of this principal stands for."""
        return Principal(
            tenant_id=self.tenant_id,
            object_id=self.object_id,
            client_id=self.client_id,
            kind=self.kind,
            name=self.name,
            resource_id=self.resource_id,
            application=self.tags.get(APPLICATION_TAG, ""),
            issuer=issuer,
        )


PrincipalLookup = Callable[[str], PrincipalRow | None]


def row_of(values: RowMapping | Mapping[str, Any]) -> PrincipalRow:
    """A database row of ``principal`` as a value."""
    return PrincipalRow(
        object_id=values["object_id"],
        tenant_id=values["tenant_id"],
        kind=cast(Literal["managed_identity", "application"], values["kind"]),
        client_id=values["client_id"],
        app_object_id=values["app_object_id"] or "",
        name=values["name"],
        resource_id=values["resource_id"] or "",
        location=values["location"],
        tags=msgspec.json.decode(values["tags"], type=dict[str, str]),
        directory_roles=tuple(msgspec.json.decode(values["directory_roles"], type=list[str])),
        enabled=bool(values["enabled"]),
        tokens_valid_from=values["tokens_valid_from"],
        created=values["created"],
        deleted=values["deleted"],
    )


def _looked_up(text: str) -> str:
    """An id as it is compared; one that no database could hold (Postgres refuses NUL) becomes one that none has."""
    return text.lower() if text.isprintable() else ""


def _one(conn: Connection, condition: Any) -> PrincipalRow | None:
    found = conn.execute(select(principal).where(condition)).mappings().first()
    return row_of(found) if found is not None else None


def find_by_object_id(conn: Connection, object_id: str) -> PrincipalRow | None:
    """The principal with this object id, deleted ones included; ids are compared without regard to case."""
    return _one(conn, principal.c.object_id == _looked_up(object_id))


def find_by_client_id(conn: Connection, client_id: str) -> PrincipalRow | None:
    """The living principal with this client id."""
    return _one(conn, (principal.c.client_id == _looked_up(client_id)) & principal.c.deleted.is_(None))


def find_by_resource(conn: Connection, resource_id: str) -> PrincipalRow | None:
    """The living managed identity with this ARM id."""
    key = _looked_up(resource_id.rstrip("/"))
    return _one(conn, (principal.c.resource_key == key) & principal.c.deleted.is_(None))


def list_managed_identities(conn: Connection, scope: str) -> list[PrincipalRow]:
    """The living managed identities at or below an ARM scope (a subscription or resource group), by resource id."""
    key = scope.rstrip("/").lower() + "/"
    query = (
        select(principal)
        .where(func.substr(principal.c.resource_key, 1, len(key)) == key, principal.c.deleted.is_(None))
        .order_by(principal.c.resource_key)
    )
    return [row_of(r) for r in conn.execute(query).mappings()]


def living_managed_identities(conn: Connection, limit: int) -> list[PrincipalRow]:
    """Up to ``limit`` living managed identities of all tenants, oldest first."""
    query = (
        select(principal)
        .where(principal.c.kind == "managed_identity", principal.c.deleted.is_(None))
        .order_by(principal.c.created, principal.c.object_id)
        .limit(limit)
    )
    return [row_of(r) for r in conn.execute(query).mappings()]


def create_managed_identity(
    conn: Connection,
    *,
    tenant_id: str,
    resource_id: str,
    location: str,
    tags: Mapping[str, str],
    randomness: Randomness,
    now: float,
) -> PrincipalRow:
    """Make a user-assigned managed identity with new object and client ids.

    Raises:
        ServiceError: 409 where a living identity has that ARM id.
    """
    path = resource_id.rstrip("/")
    if find_by_resource(conn, path) is not None:
        raise ServiceError(409, "Conflict", f"The managed identity {path!r} already exists.")
    made = PrincipalRow(
        object_id=random_guid(randomness),
        tenant_id=tenant_id,
        kind="managed_identity",
        client_id=random_guid(randomness),
        app_object_id="",
        name=path.rsplit("/", 1)[-1],
        resource_id=path,
        location=location,
        tags=dict(tags),
        created=int(now),
    )
    insert_principal(conn, made)
    return made


def insert_principal(conn: Connection, made: PrincipalRow) -> None:
    """Write a new principal."""
    conn.execute(
        principal.insert().values(
            object_id=made.object_id,
            tenant_id=made.tenant_id,
            kind=made.kind,
            client_id=made.client_id,
            app_object_id=made.app_object_id or None,
            name=made.name,
            resource_id=made.resource_id or None,
            resource_key=made.resource_id.lower() or None,
            location=made.location,
            tags=_json(dict(made.tags)),
            directory_roles=_json(list(made.directory_roles)),
            enabled=made.enabled,
            tokens_valid_from=made.tokens_valid_from,
            created=made.created,
            deleted=made.deleted,
        )
    )


def update_tags(conn: Connection, object_id: str, tags: Mapping[str, str]) -> None:
    """Replace all tags of a principal."""
    _set(conn, object_id, tags=_json(dict(tags)))


def set_directory_roles(conn: Connection, object_id: str, roles: tuple[str, ...]) -> None:
    """Replace the directory roles (names such as ``Application Administrator``) of a principal."""
    _set(conn, object_id, directory_roles=_json(list(roles)))


def set_enabled(conn: Connection, object_id: str, enabled: bool, now: float) -> None:
    """Enable or disable a principal; disabling also revokes its tokens, so that enabling does not revive them."""
    if not enabled:
        revoke_sessions(conn, object_id, now)
    _set(conn, object_id, enabled=enabled)


def revoke_sessions(conn: Connection, object_id: str, now: float) -> int:
    """Revoke every token issued up to now; returns the second from which tokens count.

    Tokens carry whole seconds, so the boundary is the next second, and tokens made in the rest of this one are dated
    to it (``issue_token``): nothing older survives, and asking again succeeds at once.
    """
    found = find_by_object_id(conn, object_id)
    valid_from = max(int(now) + 1, found.tokens_valid_from if found else 0)
    _set(conn, object_id, tokens_valid_from=valid_from)
    return valid_from


def delete_managed_identity(conn: Connection, object_id: str, now: float) -> bool:
    """Delete a managed identity with all that hangs on it; False where none lives under that object id.

    The row stays, so that the audit log can still be told who it was; its ARM id is free again.
    """
    return delete_principal(conn, object_id, now)


def delete_principal(conn: Connection, object_id: str, now: float) -> bool:
    """Delete any principal; see :func:`delete_managed_identity`."""
    key = object_id.lower()
    done = conn.execute(
        update(principal)
        .where(principal.c.object_id == key, principal.c.deleted.is_(None))
        .values(deleted=int(now), resource_key=None, app_object_id=None)
    )
    if done.rowcount == 0:
        return False
    for table in (federated_credential, app_credential, process_binding):
        conn.execute(delete(table).where(table.c.object_id == key))
    return True


def _set(conn: Connection, object_id: str, **values: object) -> None:
    done = conn.execute(update(principal).where(principal.c.object_id == object_id.lower()).values(**values))
    if done.rowcount == 0:
        raise ServiceError(404, "Request_ResourceNotFound", f"The principal {object_id!r} does not exist.")


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
