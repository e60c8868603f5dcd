"""Process bindings: an App Service style header that makes one process one identity.

The header is random and shown once; the database holds its SHA-256, which needs no salt at 256 random bits.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from keyleaf.core.clock import Randomness
from keyleaf.core.secret import Secret
from keyleaf.identity.principals import PrincipalRow, row_of
from keyleaf.store.schema import principal, process_binding

if TYPE_CHECKING:
    from sqlalchemy import Connection


def bind_process(conn: Connection, object_id: str, label: str, *, randomness: Randomness, now: float) -> Secret:
    """Bind a new process to an identity; returns the header, which cannot be read again."""
    header = base64.urlsafe_b64encode(randomness.token(32)).decode().rstrip("=")
    conn.execute(
        process_binding.insert().values(
            digest=_digest(header), object_id=object_id.lower(), label=label, created=int(now)
        )
    )
    return Secret(header)


def unbind_process(conn: Connection, object_id: str, label: str = "") -> int:
    """Remove the identity's bindings with that label, or all where it is empty; returns how many went."""
    condition = process_binding.c.object_id == object_id.lower()
    if label:
        condition &= process_binding.c.label == label
    return conn.execute(delete(process_binding).where(condition)).rowcount


def bound_identity(conn: Connection, header: str) -> PrincipalRow | None:
    """The living identity that the header was made for."""
    query = (
        select(principal)
        .join(process_binding, process_binding.c.object_id == principal.c.object_id)
        .where(process_binding.c.digest == _digest(header), principal.c.deleted.is_(None))
    )
    found = conn.execute(query).mappings().first()
    return row_of(found) if found is not None else None


def _digest(header: str) -> bytes:
    return hashlib.sha256(header.encode("utf-8", "surrogateescape")).digest()
