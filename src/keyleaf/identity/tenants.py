"""Tenants of the directory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from keyleaf.core.names import is_guid
from keyleaf.store.schema import tenant

if TYPE_CHECKING:
    from sqlalchemy import Connection

ADFS = "adfs"
SHARED = frozenset({"common", "organizations", "consumers"})


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant: its GUID in lower case, and a display or domain name."""

    id: str
    name: str


def create_tenant(conn: Connection, tenant_id: str, name: str) -> Tenant:
    """Make a tenant."""
    made = Tenant(tenant_id.lower(), name)
    conn.execute(tenant.insert().values(id=made.id, name=made.name))
    return made


def find_tenant(conn: Connection, reference: str, default: str) -> Tenant | None:
    """The tenant that a request's first path segment names.

    ``adfs`` and the shared names stand for the tenant ``default``: a client that was given no tenant means that one.
    A GUID is compared without regard to case; anything else is taken as a tenant's name.
    """
    wanted = reference.lower()
    if not wanted.isprintable():
        return None
    if wanted == ADFS or wanted in SHARED:
        wanted = default.lower()
    column = tenant.c.id if is_guid(wanted) else tenant.c.name
    found = conn.execute(select(tenant).where(column == wanted)).mappings().first()
    return Tenant(found["id"], found["name"]) if found is not None else None
