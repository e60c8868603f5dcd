"""The secrets data plane as operations, with Azure's audit names and data actions.

https://learn.microsoft.com/azure/role-based-access-control/permissions/security#microsoftkeyvault
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from keyleaf.core.clock import Randomness
from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Demand, Operation, Reply
from keyleaf.core.scope import secret_scope
from keyleaf.store import Keyring
from keyleaf.vault import deletion, secrets
from keyleaf.vault.backup import backup_secret, restore_secret, restored_name
from keyleaf.vault.bundles import (
    Attributes,
    BackupBlob,
    Bundle,
    Page,
    RestoreRequest,
    SetRequest,
    UpdateRequest,
    read_request,
)
from keyleaf.vault.paging import after, next_link, page_size
from keyleaf.vault.problems import bad_parameter
from keyleaf.vault.reader import StoredSecret, attributes, bundle, load_latest, load_versions, stored_name
from keyleaf.vault.vaults import VaultRow, find_vault

ACTION = "Microsoft.KeyVault/vaults/secrets/"
GET = f"{ACTION}getSecret/action"
READ_METADATA = f"{ACTION}readMetadata/action"
VAULT_NAME = "@Resource[Microsoft.KeyVault/vaults:name]"
SECRET_NAME = "@Resource[Microsoft.KeyVault/vaults/secrets:name]"  # noqa: S105 (the name of an attribute)
REQUESTED_NAME = "@Request[Microsoft.KeyVault/vaults/secrets:name]"


def vault_of(connection: Connection, call: Call) -> VaultRow:
    """The vault that the called authority stands for.

    Raises:
        ServiceError: 404 VaultNotFound.
    """
    found = find_vault(connection, call.vault)
    if found is None:
        raise ServiceError(404, "VaultNotFound", f"The vault '{call.vault}' was not found.")
    return found


def secret_demand(vault: VaultRow, name: str, action: str, *, requested: bool = False) -> Demand:
    """What must be allowed for ``action`` on one secret.

    ``name`` is the one that the secret was first set with: conditions compare case, while looking up does not, so the
    caller's spelling must not decide.
    """
    names = {VAULT_NAME: vault.name, SECRET_NAME: name}
    if requested:
        names[REQUESTED_NAME] = name
    return Demand(action, secret_scope(vault.scope, name), data=True, attributes=names)


class _Secrets:
    """Handlers that share the keyring."""

    def __init__(self, keyring: Keyring, randomness: Randomness) -> None:
        self._keyring = keyring
        self._randomness = randomness

    def set(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        request = read_request(call.body, SetRequest)
        made = secrets.set_secret(
            connection, self._keyring, self._randomness, vault, call.path["name"], request, call.now
        )
        return _answer(call, vault, made, value=request.value)

    def get(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        found = secrets.get_secret(connection, vault, call.path["name"], call.path.get("version", ""), call.now)
        value = self._keyring.unseal_version(
            vault.tenant_id, vault.name, vault.wrapped_key, found.name, found.version, found.wrapped_key, found.sealed
        )
        return _answer(call, vault, found, value=value.decode())

    def update(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        request = read_request(call.body, UpdateRequest)
        changed = secrets.update_secret(
            connection, vault, call.path["name"], call.path.get("version", ""), request, call.now
        )
        return _answer(call, vault, changed)

    def list(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        size = page_size(call.query)
        found = load_latest(connection, vault.key, after=after(call.query), limit=size + 1)
        items = [
            Bundle(
                id=f"{call.base}/secrets/{one.name}",
                attributes=_attributes(vault, one),
                content_type=one.content_type,
                tags=one.tags,
            )
            for one in found[:size]
        ]
        link = next_link(call.base, "/secrets", call.query, found[size - 1].name.lower()) if len(found) > size else None
        return Reply(body=Page(items, link), resource=f"{call.base}/secrets")

    def list_versions(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        name = secrets.checked_name(call.path["name"])
        size = page_size(call.query)
        secret_id = secrets.find_secret_id(connection, vault, name)
        position = after(call.query) or "0"
        if not (position.isascii() and position.isdigit() and len(position) < 19):
            raise bad_parameter("$skiptoken is not one that this service gave out.")
        found = [] if secret_id is None else load_versions(connection, secret_id, after=int(position), limit=size + 1)
        items = [bundle(one, call.base, _attributes(vault, one)) for one in found[:size]]
        path = f"/secrets/{name}/versions"
        link = next_link(call.base, path, call.query, str(found[size - 1].ordinal)) if len(found) > size else None
        return Reply(body=Page(items, link), resource=f"{call.base}/secrets/{name}")

    def delete(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        return _deleted_answer(call, vault, deletion.delete_secret(connection, vault, call.path["name"], call.now))

    def get_deleted(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        return _deleted_answer(call, vault, deletion.get_deleted(connection, vault, call.path["name"]))

    def list_deleted(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        size = page_size(call.query)
        found = load_latest(connection, vault.key, after=after(call.query), limit=size + 1, deleted=True)
        items = [_deleted(call, vault, one, f"{call.base}/secrets/{one.name}") for one in found[:size]]
        last = found[size - 1].name.lower() if len(found) > size else ""
        link = next_link(call.base, "/deletedsecrets", call.query, last) if last else None
        return Reply(body=Page(items, link), resource=f"{call.base}/deletedsecrets")

    def recover(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        return _answer(call, vault, deletion.recover_secret(connection, vault, call.path["name"]))

    def purge(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        deletion.purge_secret(connection, vault, call.path["name"])
        return Reply(status=204, resource=f"{call.base}/secrets/{call.path['name']}")

    def backup(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        name = secrets.checked_name(call.path["name"])
        blob = backup_secret(connection, self._keyring, vault, name)
        return Reply(body=BackupBlob(blob), resource=f"{call.base}/secrets/{name}")

    def restore(self, connection: Connection, call: Call) -> Reply:
        vault = vault_of(connection, call)
        request = read_request(call.body, RestoreRequest)
        return _answer(call, vault, restore_secret(connection, self._keyring, vault, request.value))

    def restore_demand(self, connection: Connection, call: Call) -> Demand:
        """Restoring is decided at the vault; a condition may still look at the name inside the blob."""
        vault = vault_of(connection, call)
        names = {VAULT_NAME: vault.name}
        try:
            blob = read_request(call.body, RestoreRequest).value
            names[REQUESTED_NAME] = restored_name(connection, self._keyring, vault, blob)
        except ServiceError:
            pass  # the handler answers what is wrong with the blob, to those who may restore at all
        return Demand(f"{ACTION}restore/action", vault.scope, data=True, attributes=names)


def operations(keyring: Keyring, randomness: Randomness) -> list[Operation]:
    """Every operation on secrets."""
    handlers = _Secrets(keyring, randomness)

    def on_secret(action: str, *, requested: bool = False) -> Callable[[Connection, Call], Demand]:
        def demand(connection: Connection, call: Call) -> Demand:
            vault = vault_of(connection, call)
            name = stored_name(connection, vault.key, call.path["name"]) or call.path["name"]
            return secret_demand(vault, name, ACTION + action, requested=requested)

        return demand

    def on_vault(action: str) -> Callable[[Connection, Call], Demand]:
        def demand(connection: Connection, call: Call) -> Demand:
            vault = vault_of(connection, call)
            return Demand(ACTION + action, vault.scope, data=True, attributes={VAULT_NAME: vault.name})

        return demand

    one, version, deleted = "/secrets/{name}", "/secrets/{name}/{version}", "/deletedsecrets/{name}"
    read, write = on_secret("getSecret/action"), on_secret("setSecret/action", requested=True)
    change, metadata = on_secret("update/action"), on_secret("readMetadata/action")
    return [
        Operation("SecretSet", "PUT", one, "vault", handlers.set, demand=write, mutates=True, request=SetRequest),
        Operation("SecretGet", "GET", one, "vault", handlers.get, demand=read),
        Operation("SecretListVersions", "GET", f"{one}/versions", "vault", handlers.list_versions, demand=metadata),
        Operation("SecretGet", "GET", version, "vault", handlers.get, demand=read),
        Operation(
            "SecretUpdate", "PATCH", one, "vault", handlers.update, demand=change, mutates=True, request=UpdateRequest
        ),
        Operation(
            "SecretUpdate",
            "PATCH",
            version,
            "vault",
            handlers.update,
            demand=change,
            mutates=True,
            request=UpdateRequest,
        ),
        Operation("SecretList", "GET", "/secrets", "vault", handlers.list, demand=on_vault("readMetadata/action")),
        Operation("SecretDelete", "DELETE", one, "vault", handlers.delete, demand=on_secret("delete"), mutates=True),
        Operation("SecretGetDeleted", "GET", deleted, "vault", handlers.get_deleted, demand=metadata),
        Operation(
            "SecretListDeleted",
            "GET",
            "/deletedsecrets",
            "vault",
            handlers.list_deleted,
            demand=on_vault("readMetadata/action"),
        ),
        Operation(
            "SecretRecover",
            "POST",
            f"{deleted}/recover",
            "vault",
            handlers.recover,
            demand=on_secret("recover/action"),
            mutates=True,
        ),
        Operation(
            "SecretPurge",
            "DELETE",
            deleted,
            "vault",
            handlers.purge,
            demand=on_secret("purge/action"),
            mutates=True,
        ),
        Operation("SecretBackup", "POST", f"{one}/backup", "vault", handlers.backup, demand=on_secret("backup/action")),
        Operation(
            "SecretRestore",
            "POST",
            "/secrets/restore",
            "vault",
            handlers.restore,
            demand=handlers.restore_demand,
            mutates=True,
            request=RestoreRequest,
        ),
    ]


def _attributes(vault: VaultRow, found: StoredSecret) -> Attributes:
    return attributes(found, vault.retention_days, vault.purge_protection)


def _answer(call: Call, vault: VaultRow, found: StoredSecret, value: str | None = None) -> Reply:
    body = bundle(found, call.base, attributes(found, vault.retention_days, vault.purge_protection), value)
    return Reply(body=body, resource=f"{call.base}/secrets/{found.name}", version=found.version)


def _deleted(call: Call, vault: VaultRow, found: StoredSecret, identifier: str) -> Bundle:
    return Bundle(
        id=identifier,
        attributes=attributes(found, vault.retention_days, vault.purge_protection),
        content_type=found.content_type,
        tags=found.tags,
        recovery_id=f"{call.base}/deletedsecrets/{found.name}",
        deleted_date=found.deleted,
        scheduled_purge_date=found.purge_at,
    )


def _deleted_answer(call: Call, vault: VaultRow, found: StoredSecret) -> Reply:
    body = _deleted(call, vault, found, f"{call.base}/secrets/{found.name}/{found.version}")
    return Reply(body=body, resource=f"{call.base}/secrets/{found.name}", version=found.version)
