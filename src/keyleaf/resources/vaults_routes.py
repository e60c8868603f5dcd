"""Vaults: make, change, delete, recover, purge, and their access policies.

Rule: https://learn.microsoft.com/rest/api/keyvault/keyvault/vaults (api-version 2026-05-15)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Connection

from keyleaf.core.errors import ServiceError
from keyleaf.core.names import VAULT_NAME
from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.core.scope import vault_scope
from keyleaf.resources.arm import (
    check_location,
    check_tags,
    operation,
    path_scope,
    read_body,
    require_group,
    require_subscription,
    resource_not_found,
)
from keyleaf.resources.groups_routes import remove_assignments
from keyleaf.resources.scopes import require_linked
from keyleaf.resources.vault_bodies import (
    VAULT_TYPE,
    NameBody,
    PoliciesBody,
    VaultBody,
    bad_request,
    check_policies,
    check_properties,
    policy_of_tags,
    render_deleted,
    render_vault,
)
from keyleaf.store import Keyring
from keyleaf.vault.vaults import (
    VaultRow,
    create_vault,
    find_vault,
    find_vault_by_resource,
    list_vaults,
    purge_vault,
    recover_vault,
    soft_delete_vault,
    update_vault,
)

VaultUri = Callable[[str], str]

_SUBSCRIPTION: Final = "/subscriptions/{subscription}"
_GROUP: Final = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_EVERY: Final = f"{_GROUP}/providers/{VAULT_TYPE}"
_ONE: Final = f"{_EVERY}/{{name}}"
_POLICIES: Final = f"{_ONE}/accessPolicies/{{operation}}"
_PROVIDER: Final = f"{_SUBSCRIPTION}/providers/Microsoft.KeyVault"
_DELETED: Final = f"{_PROVIDER}/locations/{{location}}/deletedVaults/{{name}}"


def operations(keyring: Keyring, vault_uri: VaultUri) -> list[Operation]:
    """Everything about vaults; ``vault_uri`` gives the data plane's URL of a vault's name."""
    vaults = _Vaults(keyring, vault_uri)
    read, write = f"{VAULT_TYPE}/read", f"{VAULT_TYPE}/write"
    policies, provider = f"{VAULT_TYPE}/accessPolicies/write", "Microsoft.KeyVault"
    gone = f"{provider}/locations/deletedVaults"
    available = f"{_PROVIDER}/checkNameAvailability"
    return [
        operation("VaultListBySubscription", "GET", f"{_PROVIDER}/vaults", vaults.list, read, at=_SUBSCRIPTION),
        operation("VaultListByGroup", "GET", _EVERY, vaults.list, read, at=_GROUP),
        operation("VaultGet", "GET", _ONE, vaults.get, read),
        operation("VaultPut", "PUT", _ONE, vaults.put, write, request=VaultBody),
        operation("VaultPatch", "PATCH", _ONE, vaults.patch, write, request=VaultBody),
        operation("VaultDelete", "DELETE", _ONE, _delete, f"{VAULT_TYPE}/delete"),
        operation(
            "VaultAccessPolicyPut", "PUT", _POLICIES, vaults.put_policies, policies, at=_ONE, request=PoliciesBody
        ),
        operation(
            "VaultListDeleted",
            "GET",
            f"{_PROVIDER}/deletedVaults",
            _list_deleted,
            f"{provider}/deletedVaults/read",
            at=_SUBSCRIPTION,
        ),
        operation("VaultGetDeleted", "GET", _DELETED, _get_deleted, f"{gone}/read", at=_SUBSCRIPTION),
        operation("VaultPurge", "POST", f"{_DELETED}/purge", _purge, f"{gone}/purge/action", at=_SUBSCRIPTION),
        operation(
            "VaultCheckName",
            "POST",
            available,
            _check_name,
            f"{provider}/checkNameAvailability/read",
            at=_SUBSCRIPTION,
            request=NameBody,
        ),
    ]


def delete_vault(conn: Connection, vault: VaultRow, now: float) -> None:
    """Soft-delete a vault; its role assignments go and do not come back with it, as in Azure."""
    soft_delete_vault(conn, vault.name, now=now)
    remove_assignments(conn, vault.scope)


class _Vaults:
    """The operations that need the keyring or a vault's URL."""

    def __init__(self, keyring: Keyring, vault_uri: VaultUri) -> None:
        self._keyring = keyring
        self._vault_uri = vault_uri

    def list(self, conn: Connection, call: Call) -> Reply:
        if "group" in call.path:
            require_group(conn, call.path["subscription"], call.path["group"])
        else:
            require_subscription(conn, call.path["subscription"])
        scope = path_scope(call, _GROUP if "group" in call.path else _SUBSCRIPTION)
        found = list_vaults(conn, below=scope.path)
        return Reply(body={"value": [self._render(vault) for vault in found]}, resource=scope.path)

    def get(self, conn: Connection, call: Call) -> Reply:
        vault = _required(conn, call)
        return Reply(body=self._render(vault), resource=vault.resource_id)

    def put(self, conn: Connection, call: Call) -> Reply:
        group = require_group(conn, call.path["subscription"], call.path["group"])
        name = call.path["name"]
        if not VAULT_NAME.match(name):
            raise ServiceError(
                400,
                "VaultNameNotValid",
                f"The vault name '{name}' is invalid. A vault's name must be between 3-24 alphanumeric characters. The "
                "name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens.",
            )
        scope = vault_scope(group.subscription, group.name, name)
        body = read_body(call, VaultBody)
        if (body.properties.create_mode or "default").lower() == "recover":
            return self._recover(conn, call, scope.key)
        existing = find_vault_by_resource(conn, scope.path)
        if existing is not None:
            self._check_place(body, existing)
            changed = self._change(conn, call, existing, body, replace=True)
            return Reply(200, self._render(changed), resource=changed.resource_id)
        properties = body.properties
        check_properties(properties)
        tenant = require_subscription(conn, group.subscription).tenant_id
        if (properties.tenant_id or "").lower() != tenant:
            raise bad_request('The property "tenantId" has to be the tenant of the subscription.')
        if properties.sku is None:
            raise bad_request('The property "sku" is required.')
        rbac = properties.enable_rbac_authorization is not False
        if not rbac and properties.access_policies is None:
            raise bad_request('The property "accessPolicies" is required where RBAC authorization is off.')
        tags = check_tags(body.tags)
        vault = create_vault(
            conn,
            self._keyring,
            name=name,
            resource_id=scope.path,
            tenant_id=tenant,
            location=check_location(body.location),
            now=call.now,
            sku=properties.sku.name.lower(),
            rbac=rbac,
            access_policies=check_policies(properties.access_policies or []),
            retention_days=properties.soft_delete_retention_in_days or 90,
            purge_protection=bool(properties.enable_purge_protection),
            tags=tags,
            policy=policy_of_tags(tags),
        )
        return Reply(201, self._render(vault), resource=vault.resource_id)

    def patch(self, conn: Connection, call: Call) -> Reply:
        vault = _required(conn, call)
        changed = self._change(conn, call, vault, read_body(call, VaultBody), replace=False)
        return Reply(body=self._render(changed), resource=changed.resource_id)

    def put_policies(self, conn: Connection, call: Call) -> Reply:
        vault = _required(conn, call)
        given = check_policies(read_body(call, PoliciesBody).properties.access_policies)
        merged = _merge(call.path["operation"].lower(), [dict(policy) for policy in vault.access_policies], given)
        changed = update_vault(conn, vault.name, now=call.now, access_policies=merged)
        rendered = {
            "id": f"{vault.resource_id}/accessPolicies/",
            "type": f"{VAULT_TYPE}/accessPolicies",
            "properties": {"accessPolicies": list(changed.access_policies)},
        }
        return Reply(200, rendered, resource=vault.resource_id)

    def _recover(self, conn: Connection, call: Call, key: str) -> Reply:
        vault = find_vault(conn, call.path["name"], deleted=True)
        if vault is None or vault.resource_id.lower() != key:
            raise ServiceError(
                404,
                "DeletedVaultNotFound",
                f"There is no deleted vault '{call.path['name']}' of this subscription and resource group to recover.",
            )
        recovered = recover_vault(conn, vault.name, now=call.now)
        return Reply(200, self._render(recovered), resource=recovered.resource_id)

    def _change(self, conn: Connection, call: Call, vault: VaultRow, body: VaultBody, *, replace: bool) -> VaultRow:
        properties = body.properties
        check_properties(properties)
        if properties.tenant_id is not None and properties.tenant_id.lower() != vault.tenant_id:
            raise bad_request('The property "tenantId" has to be the tenant of the subscription.')
        days = properties.soft_delete_retention_in_days
        if days is not None and days != vault.retention_days:
            raise bad_request(
                'The property "softDeleteRetentionInDays" has been set already and it can\'t be modified.'
            )
        rbac = properties.enable_rbac_authorization
        if rbac is not None and rbac != vault.rbac:
            # Whoever changes what decides could otherwise give himself access: Azure asks for this right too.
            require_linked(conn, call, "Microsoft.Authorization/roleAssignments/write", [vault.scope])
        tags = check_tags(body.tags) if body.tags is not None or replace else None
        return update_vault(
            conn,
            vault.name,
            now=call.now,
            sku=properties.sku.name.lower() if properties.sku else None,
            rbac=rbac,
            access_policies=None if properties.access_policies is None else check_policies(properties.access_policies),
            purge_protection=properties.enable_purge_protection,
            tags=tags,
            policy=None if tags is None else policy_of_tags(tags),
        )

    def _check_place(self, body: VaultBody, vault: VaultRow) -> None:
        location = check_location(body.location)
        if location != vault.location:
            raise ServiceError(
                409,
                "InvalidResourceLocation",
                f"The resource '{vault.name}' already exists in location '{vault.location}'. A resource with the same "
                f"name cannot be created in location '{location}'. Please select a new resource name.",
            )

    def _render(self, vault: VaultRow) -> dict[str, object]:
        return render_vault(vault, self._vault_uri(vault.name))


def _delete(conn: Connection, call: Call) -> Reply:
    require_group(conn, call.path["subscription"], call.path["group"])
    scope = path_scope(call, _ONE)
    vault = find_vault_by_resource(conn, scope.path)
    if vault is None:
        return Reply(204, resource=scope.path)
    delete_vault(conn, vault, call.now)
    return Reply(200, resource=vault.resource_id)


def _list_deleted(conn: Connection, call: Call) -> Reply:
    require_subscription(conn, call.path["subscription"])
    scope = path_scope(call, _SUBSCRIPTION)
    found = list_vaults(conn, below=scope.path, deleted=True)
    return Reply(body={"value": [render_deleted(vault) for vault in found]}, resource=scope.path)


def _get_deleted(conn: Connection, call: Call) -> Reply:
    vault = _required_deleted(conn, call)
    return Reply(body=render_deleted(vault), resource=vault.resource_id)


def _purge(conn: Connection, call: Call) -> Reply:
    vault = _required_deleted(conn, call)
    purge_vault(conn, vault.name)
    return Reply(200, resource=vault.resource_id)


def _check_name(conn: Connection, call: Call) -> Reply:
    require_subscription(conn, call.path["subscription"])
    body = read_body(call, NameBody)
    answer: dict[str, object] = {"nameAvailable": True}
    if not VAULT_NAME.match(body.name):
        answer = {
            "nameAvailable": False,
            "reason": "AccountNameInvalid",
            "message": "A vault's name must be between 3-24 alphanumeric characters. The name must begin with a "
            "letter, end with a letter or digit, and not contain consecutive hyphens.",
        }
    elif find_vault(conn, body.name, deleted=None) is not None:
        answer = {
            "nameAvailable": False,
            "reason": "AlreadyExists",
            "message": f"The vault name '{body.name}' is already in use.",
        }
    return Reply(body=answer, resource=path_scope(call, _SUBSCRIPTION).path)


def _required(conn: Connection, call: Call) -> VaultRow:
    require_group(conn, call.path["subscription"], call.path["group"])
    vault = find_vault_by_resource(conn, path_scope(call, _ONE).path)
    if vault is None:
        raise resource_not_found(VAULT_TYPE, call.path["name"], call.path["group"])
    return vault


def _required_deleted(conn: Connection, call: Call) -> VaultRow:
    vault = find_vault(conn, call.path["name"], deleted=True)
    here = vault is not None and vault.subscription == call.path["subscription"].lower()
    if vault is None or not here or vault.location != check_location(call.path["location"]):
        raise ServiceError(
            404,
            "DeletedVaultNotFound",
            f"The specified deleted vault '{call.path['name']}' does not exist.",
        )
    return vault


def _merge(kind: str, present: list[dict[str, Any]], given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``add`` unites verbs, ``replace`` sets an entry, ``remove`` takes verbs or, if all are gone, the entry."""
    if kind not in ("add", "replace", "remove"):
        raise bad_request("The operation on access policies is add, replace or remove.")
    merged = {_entry_key(policy): policy for policy in present}
    for policy in given:
        key, old = _entry_key(policy), merged.get(_entry_key(policy))
        if kind == "replace" or (kind == "add" and old is None):
            merged[key] = policy
        elif old is not None:
            merged[key] = {**old, "permissions": _verbs(old["permissions"], policy["permissions"], add=kind == "add")}
            if not any(merged[key]["permissions"].values()):
                del merged[key]
    return list(merged.values())


def _verbs(old: dict[str, list[str]], given: dict[str, list[str]], *, add: bool) -> dict[str, list[str]]:
    result = {kind: list(verbs) for kind, verbs in old.items()}
    for kind, verbs in given.items():
        wanted = {verb.lower() for verb in verbs}
        kept = [verb for verb in result.get(kind, []) if add or verb.lower() not in wanted]
        known = {verb.lower() for verb in kept}
        result[kind] = kept + ([verb for verb in verbs if verb.lower() not in known] if add else [])
    return result


def _entry_key(policy: dict[str, Any]) -> tuple[str, str, str]:
    return policy["tenantId"].lower(), policy["objectId"].lower(), str(policy.get("applicationId", "")).lower()
