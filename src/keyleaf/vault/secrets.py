"""Setting, updating, listing secrets: the rules, apart from HTTP.

- Names are compared without regard to case and keep the case they were first set in.
- A set always makes a new version, which becomes the latest. Versions cannot be deleted one by one.
- A name that a deleted secret holds cannot be set: 409 until it is recovered or purged.
- ``exp`` and ``nbf`` inform; only ``enabled=false`` blocks a get (a vault's policy may be stricter).
- What a PATCH does not mention stays; ``updated`` always moves.
"""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, insert, select, update

from keyleaf.core.clock import Randomness, random_hex
from keyleaf.core.names import SECRET_NAME
from keyleaf.store import Keyring
from keyleaf.store.schema import secret, secret_version
from keyleaf.vault.bundles import Attributes, SetRequest, UpdateRequest, check_limits, check_value_size
from keyleaf.vault.policy import check_times, check_value
from keyleaf.vault.problems import bad_parameter, deleted_but_recoverable, disabled, not_found
from keyleaf.vault.reader import StoredSecret, load_secret
from keyleaf.vault.vaults import VaultRow


def checked_name(name: str) -> str:
    """``name`` if it may be a secret's name.

    Raises:
        ServiceError: 400 BadParameter.
    """
    if not SECRET_NAME.match(name):
        raise bad_parameter(
            f"The request URI contains an invalid name: {name[:127]}. A name has 1 to 127 letters, digits and hyphens."
        )
    return name


def set_secret(
    connection: Connection,
    keyring: Keyring,
    randomness: Randomness,
    vault: VaultRow,
    name: str,
    request: SetRequest,
    now: float,
) -> StoredSecret:
    """Make a new version of a secret, and the secret itself where it is new."""
    check_value_size(request.value)
    check_limits(request.content_type, request.tags, request.attributes)
    check_value(vault.policy, request.value)
    given = request.attributes or Attributes()
    secret_id, kept_name, ordinal = _next_version(connection, vault, checked_name(name))
    version = random_hex(randomness)
    wrapped, sealed = keyring.seal_version(
        vault.tenant_id, vault.name, vault.wrapped_key, kept_name, version, request.value.encode()
    )
    connection.execute(
        insert(secret_version).values(
            secret_id=secret_id,
            ordinal=ordinal,
            version=version,
            content_type=request.content_type,
            tags=msgspec.json.encode(request.tags).decode(),
            enabled=given.enabled is not False,
            nbf=given.nbf,
            exp=given.exp,
            created=int(now),
            updated=int(now),
            wrapped_key=wrapped,
            sealed=sealed,
        )
    )
    return _must_load(connection, vault, kept_name, version)


def get_secret(connection: Connection, vault: VaultRow, name: str, version: str, now: float) -> StoredSecret:
    """The version asked for, or the latest; still sealed.

    Raises:
        ServiceError: 404; 403 SecretDisabled; 403 under the vault's stricter policy.
    """
    found = _must_load(connection, vault, checked_name(name), version)
    if not found.enabled:
        raise disabled()
    check_times(vault.policy, found.nbf, found.exp, now)
    return found


def update_secret(
    connection: Connection, vault: VaultRow, name: str, version: str, request: UpdateRequest, now: float
) -> StoredSecret:
    """Change attributes, tags or content type of a version (empty: the latest)."""
    check_limits(request.content_type, request.tags, request.attributes)
    found = _must_load(connection, vault, checked_name(name), version)
    given = request.attributes or Attributes()
    nbf = found.nbf if given.nbf is None else given.nbf
    exp = found.exp if given.exp is None else given.exp
    if nbf is not None and exp is not None and exp <= nbf:
        raise bad_parameter("attributes.exp is not after attributes.nbf.")
    values: dict[str, object] = {"updated": int(now), "nbf": nbf, "exp": exp}
    if given.enabled is not None:
        values["enabled"] = given.enabled
    if request.content_type is not None:
        values["content_type"] = request.content_type
    if request.tags is not None:
        values["tags"] = msgspec.json.encode(request.tags).decode()
    connection.execute(
        update(secret_version)
        .where(secret_version.c.secret_id == found.secret_id, secret_version.c.ordinal == found.ordinal)
        .values(values)
    )
    return _must_load(connection, vault, name, found.version)


def find_secret_id(connection: Connection, vault: VaultRow, name: str) -> int | None:
    """The row id of a secret that lives."""
    return connection.execute(
        select(secret.c.id).where(
            secret.c.vault_key == vault.key, secret.c.name_key == name.lower(), secret.c.deleted.is_(None)
        )
    ).scalar_one_or_none()


def _next_version(connection: Connection, vault: VaultRow, name: str) -> tuple[int, str, int]:
    """The secret's row, made where it is missing and locked until commit, and the ordinal of its next version."""
    query = (
        select(secret.c.id, secret.c.name, secret.c.deleted)
        .where(secret.c.vault_key == vault.key, secret.c.name_key == name.lower())
        .with_for_update()
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        values = {"vault_key": vault.key, "name_key": name.lower(), "name": name}
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as upsert

            connection.execute(upsert(secret).values(values).on_conflict_do_nothing())
        else:
            connection.execute(insert(secret).values(values))
        row = connection.execute(query).one()
    if row.deleted is not None:
        raise deleted_but_recoverable(name)
    last = connection.execute(
        select(secret_version.c.ordinal)
        .where(secret_version.c.secret_id == row.id)
        .order_by(secret_version.c.ordinal.desc())
        .limit(1)
    ).scalar_one_or_none()
    return row.id, row.name, (last or 0) + 1


def _must_load(connection: Connection, vault: VaultRow, name: str, version: str) -> StoredSecret:
    found = load_secret(connection, vault.key, name, version or None)
    if found is None:
        raise not_found(f"{name}/{version}" if version else name)
    return found
