"""Federated identity credentials: which issuer's tokens may stand for an identity.

Limits: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import delete, func, select, update

from keyleaf.core.clock import Randomness, SystemRandomness, random_guid
from keyleaf.core.errors import ServiceError
from keyleaf.store.schema import federated_credential

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

MAXIMUM_PER_IDENTITY = 20
MAXIMUM_LENGTH = 600
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,119}\Z")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """One rule of trust; ``audiences`` holds exactly one value."""

    id: str
    object_id: str
    name: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]


def issuer_is_reachable(issuer: str) -> bool:
    """Whether keys may be fetched from ``issuer``: https, or plain http on loopback only."""
    try:
        parts = urlsplit(issuer)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return False
    if (
        not issuer.isprintable()
        or parts.query
        or parts.fragment
        or parts.username is not None
        or not host
        or issuer != issuer.strip()
    ):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def put_federated_credential(
    conn: Connection,
    object_id: str,
    name: str,
    issuer: str,
    subject: str,
    audiences: Sequence[str],
    randomness: Randomness | None = None,
) -> tuple[FederatedCredential, bool]:
    """Make or replace the credential ``name`` of an identity; also says whether it was made.

    Raises:
        ServiceError: 400 for a value outside Azure's limits or the 21st credential, 409 where another credential of
            the identity has the same issuer and subject.
    """
    _check(name, issuer, subject, audiences)
    owner = object_id.lower()
    present = get_federated_credential(conn, owner, name)
    clash = conn.execute(
        select(federated_credential.c.name).where(
            federated_credential.c.object_id == owner,
            federated_credential.c.issuer == issuer,
            federated_credential.c.subject == subject,
        )
    ).scalar()
    if clash is not None and (present is None or clash != present.name):
        raise ServiceError(409, "Conflict", "Issuer and subject combination already exists for this Managed Identity.")
    encoded = msgspec.json.encode(list(audiences)).decode()
    if present is not None:
        conn.execute(
            update(federated_credential)
            .where(federated_credential.c.id == present.id)
            .values(issuer=issuer, subject=subject, audiences=encoded)
        )
        return FederatedCredential(present.id, owner, present.name, issuer, subject, tuple(audiences)), False
    count = conn.execute(
        select(func.count()).select_from(federated_credential).where(federated_credential.c.object_id == owner)
    ).scalar_one()
    if count >= MAXIMUM_PER_IDENTITY:
        raise ServiceError(
            400,
            "BadRequest",
            f"Too many Federated Identity Credentials: the maximum per identity is {MAXIMUM_PER_IDENTITY}.",
        )
    made = FederatedCredential(
        random_guid(randomness or SystemRandomness()), owner, name, issuer, subject, tuple(audiences)
    )
    conn.execute(
        federated_credential.insert().values(
            id=made.id, object_id=owner, name=name, issuer=issuer, subject=subject, audiences=encoded
        )
    )
    return made, True


def get_federated_credential(conn: Connection, object_id: str, name: str) -> FederatedCredential | None:
    """The credential of that name (without regard to case) or id, if the identity has it."""
    if not name.isprintable():
        return None
    table = federated_credential
    named = (func.lower(table.c.name) == name.lower()) | (table.c.id == name.lower())
    found = conn.execute(select(table).where(table.c.object_id == object_id.lower(), named)).mappings().first()
    return _of(found) if found is not None else None


def list_federated_credentials(conn: Connection, object_id: str) -> list[FederatedCredential]:
    """All credentials of an identity, by name."""
    table = federated_credential
    query = select(table).where(table.c.object_id == object_id.lower()).order_by(table.c.name)
    return [_of(r) for r in conn.execute(query).mappings()]


def delete_federated_credential(conn: Connection, object_id: str, name: str) -> bool:
    """Delete the credential; False where there is none."""
    present = get_federated_credential(conn, object_id, name)
    if present is None:
        return False
    conn.execute(delete(federated_credential).where(federated_credential.c.id == present.id))
    return True


def _check(name: str, issuer: str, subject: str, audiences: Sequence[str]) -> None:
    if not _NAME.match(name):
        raise _bad("name", "3 to 120 letters, digits, hyphens and underscores, starting with a letter or digit")
    if not issuer_is_reachable(issuer) or len(issuer) > MAXIMUM_LENGTH:
        raise _bad("issuer", f"an https URL of at most {MAXIMUM_LENGTH} characters, without query or fragment")
    if not 0 < len(subject) <= MAXIMUM_LENGTH or "*" in subject or not subject.isprintable():
        raise _bad("subject", f"1 to {MAXIMUM_LENGTH} printable characters; wildcards are not supported")
    if len(audiences) != 1:
        raise _bad("audiences", "exactly one audience")
    if not 0 < len(audiences[0]) <= MAXIMUM_LENGTH or not audiences[0].isprintable():
        raise _bad("audiences", f"a value of 1 to {MAXIMUM_LENGTH} characters")


def _bad(member: str, rule: str) -> ServiceError:
    return ServiceError(400, "BadRequest", f"The federated identity credential's '{member}' must be {rule}.")


def _of(values: RowMapping) -> FederatedCredential:
    return FederatedCredential(
        values["id"],
        values["object_id"],
        values["name"],
        values["issuer"],
        values["subject"],
        tuple(msgspec.json.decode(values["audiences"], type=list[str])),
    )
