"""The first start: a tenant, a subscription, a resource group, and the operator who may do everything in it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, delete, insert, select

from keyleaf.core.clock import Randomness, random_guid
from keyleaf.core.scope import identity_scope
from keyleaf.identity import (
    create_managed_identity,
    create_tenant,
    find_by_resource,
    list_federated_credentials,
    put_federated_credential,
    set_directory_roles,
)
from keyleaf.store import Keyring
from keyleaf.store.schema import (
    federated_credential,
    management_group,
    meta,
    resource_group,
    role_assignment,
    subscription,
)

OPERATOR_SUBJECT = "system:serviceaccount:keyleaf-system:operator"
RESOURCE_GROUP = "keyleaf"
LOCATION = "local"

_OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
_KEY_VAULT_ADMINISTRATOR = "00482a5a-887f-4fb3-b363-3b7fe8e74483"
_INSTALLATION = "installation"
_LOG_KEY = "ledger-signing-key"


class _Installation(msgspec.Struct):
    tenant_id: str
    subscription_id: str
    authority: str


@dataclass(frozen=True)
class Installation:
    """Who we are.

    Attributes:
        authority: what issuers are named by in tokens.
    """

    tenant_id: str
    subscription_id: str
    operator_client_id: str
    authority: str


def ensure_installation(
    connection: Connection, randomness: Randomness, *, authority: str, issuer: str, shared: bool, now: float
) -> Installation:
    """Make what is missing; in a writing transaction.

    Args:
        issuer: of the local cluster; the operator's federated credential follows it when the port has changed.
        shared: several processes use the database, so tokens go on being named by the first one's authority.
    """
    text = connection.execute(select(meta.c.value).where(meta.c.key == _INSTALLATION)).scalar_one_or_none()
    if text is None:
        known = _Installation(random_guid(randomness), random_guid(randomness), authority)
        _make(connection, known, now)
        connection.execute(insert(meta).values(key=_INSTALLATION, value=msgspec.json.encode(known).decode()))
    else:
        known = msgspec.json.decode(text, type=_Installation)
        if known.authority != authority and not shared:
            known.authority = authority
            connection.execute(
                meta.update().where(meta.c.key == _INSTALLATION).values(value=msgspec.json.encode(known).decode())
            )
    client_id = _ensure_operator(connection, randomness, known, issuer, now)
    return Installation(known.tenant_id, known.subscription_id, client_id, known.authority)


def log_signing_key(connection: Connection, keyring: Keyring, randomness: Randomness) -> bytes:
    """The private key that signs the log's checkpoints, made at the first start; in a writing transaction."""
    key = f"sealed:{_LOG_KEY}"
    text = connection.execute(select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()
    if text is not None:
        return keyring.unseal(_LOG_KEY, bytes.fromhex(text))
    private = randomness.token(32)
    connection.execute(insert(meta).values(key=key, value=keyring.seal(_LOG_KEY, private).hex()))
    return private


def _make(connection: Connection, made: _Installation, now: float) -> None:
    create_tenant(connection, made.tenant_id, "keyleaf.local")
    connection.execute(insert(management_group).values(name=made.tenant_id, parent=None))
    connection.execute(
        insert(subscription).values(
            id=made.subscription_id, tenant_id=made.tenant_id, management_group=made.tenant_id, name="keyleaf"
        )
    )
    connection.execute(
        insert(resource_group).values(
            key=f"/subscriptions/{made.subscription_id}/resourcegroups/{RESOURCE_GROUP}",
            subscription=made.subscription_id,
            name=RESOURCE_GROUP,
            location=LOCATION,
        )
    )


def _ensure_operator(
    connection: Connection, randomness: Randomness, known: _Installation, issuer: str, now: float
) -> str:
    resource = identity_scope(known.subscription_id, RESOURCE_GROUP, "keyleaf-operator").path
    operator = find_by_resource(connection, resource)
    if operator is None:
        operator = create_managed_identity(
            connection,
            tenant_id=known.tenant_id,
            resource_id=resource,
            location=LOCATION,
            tags={"keyleaf-purpose": "operator"},
            randomness=randomness,
            now=now,
        )
        set_directory_roles(connection, operator.object_id, ("Application Administrator",))
        for role in (_OWNER, _KEY_VAULT_ADMINISTRATOR):
            _assign(connection, f"/subscriptions/{known.subscription_id}", role, operator.object_id, now)
    name = f"local-{uuid.uuid5(uuid.NAMESPACE_URL, issuer).hex[:12]}"
    credentials = list_federated_credentials(connection, operator.object_id)
    if not any(c.name == name and c.issuer == issuer for c in credentials):
        # Ports of this machine come and go; what an older start left behind is of no use to anybody.
        stale = [c.name for c in credentials if c.issuer.startswith("https://127.0.0.1:")]
        if len(credentials) >= 10:
            connection.execute(
                delete(federated_credential).where(
                    federated_credential.c.object_id == operator.object_id, federated_credential.c.name.in_(stale)
                )
            )
        put_federated_credential(
            connection, operator.object_id, name, issuer, OPERATOR_SUBJECT, ["api://AzureADTokenExchange"]
        )
    return operator.client_id


def _assign(connection: Connection, scope: str, role: str, principal_id: str, now: float) -> None:
    guid = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{scope}|{role}|{principal_id}"))
    connection.execute(
        insert(role_assignment).values(
            key=f"{scope}/providers/microsoft.authorization/roleassignments/{guid}",
            id=guid,
            scope=scope,
            scope_key=scope.lower(),
            principal_id=principal_id.lower(),
            principal_type="ServicePrincipal",
            role_definition_id=role,
            description="keyleaf operator",
            created=int(now),
            updated=int(now),
        )
    )
