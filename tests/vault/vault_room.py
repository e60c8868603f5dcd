"""The room without its server: operations found by their route, demanded, and run in a transaction of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import insert

from keyleaf.access import BUILT_IN_ROLES as ROLES
from keyleaf.access import Decision, RoleAssignment, decide
from keyleaf.core.clock import ManualClock, SeededRandomness
from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Demand
from keyleaf.core.scope import Scope, vault_scope
from keyleaf.server.router import Router, split_path
from keyleaf.store import Database, Keyring, schema
from keyleaf.vault import VaultRow, create_vault, find_vault, operations

TENANT = "99999999-0000-0000-0000-000000000000"
SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
BASE = "https://kv-shop.vault.test:8443"
READER = "aaaaaaaa-0000-0000-0000-000000000001"


@dataclass
class Room:
    """A migrated database with one vault, ``kv-shop``."""

    database: Database
    clock: ManualClock = field(default_factory=ManualClock)
    randomness: SeededRandomness = field(default_factory=SeededRandomness)
    vault: str = "kv-shop"

    def __post_init__(self) -> None:
        self.database.migrate()
        self.keyring = Keyring(self.randomness.token(32), self.randomness)
        self.router = Router(operations(self.keyring, self.randomness))
        with self.database.write() as connection:
            connection.execute(insert(schema.tenant).values(id=TENANT, name="tests"))
        self.add_vault(self.vault)

    def add_vault(self, name: str, subscription: str = SUBSCRIPTION, **more: Any) -> VaultRow:
        """Another vault."""
        with self.database.write() as connection:
            return create_vault(
                connection,
                self.keyring,
                name=name,
                resource_id=str(vault_scope(subscription, "shop", name)),
                tenant_id=TENANT,
                location="local",
                now=self.clock.now(),
                **more,
            )

    def row(self, name: str = "") -> VaultRow:
        """A vault's row."""
        with self.database.read() as connection:
            found = find_vault(connection, name or self.vault, deleted=None)
        assert found is not None
        return found

    def request(self, method: str, path: str, body: object = None, vault: str = "", **query: str) -> Call:
        """A parsed request, and the operation's values of its path."""
        _, values = self.router.find(method, split_path(path.encode()))
        return Call(
            method=method,
            principal=None,
            path=values,
            query={"api-version": "2026-04-01", **query},
            headers={},
            body=body if isinstance(body, bytes) else msgspec.json.encode(body),
            base=BASE,
            vault=vault or self.vault,
            now=self.clock.now(),
            request_id="",
        )

    def demand(self, method: str, path: str, body: object = None, vault: str = "") -> Demand:
        """What a request demands."""
        operation, _ = self.router.find(method, split_path(path.encode()))
        assert operation.demand is not None
        with self.database.read() as connection:
            return operation.demand(connection, self.request(method, path, body, vault))

    def call(self, method: str, path: str, body: object = None, vault: str = "", **query: str) -> Any:
        """The JSON that a request is answered with; raises ServiceError."""
        operation, _ = self.router.find(method, split_path(path.encode()))
        call = self.request(method, path, body, vault, **query)
        with self.database.write() if operation.mutates else self.database.read() as connection:
            reply = operation.handler(connection, call)
        assert reply.status == (204 if operation.name == "SecretPurge" else 200)
        return None if reply.body is None else msgspec.json.decode(msgspec.json.encode(reply.body))

    def set(self, name: str, value: str, vault: str = "", **more: Any) -> Any:
        """Set a secret."""
        return self.call("PUT", f"/secrets/{name}", {"value": value, **more}, vault)

    def get(self, name: str, version: str = "", vault: str = "") -> Any:
        """Get a secret."""
        return self.call("GET", f"/secrets/{name}/{version}", None, vault)

    def pages(self, path: str, size: int, vault: str = "") -> list[list[Any]]:
        """Every page of a list, following ``nextLink``."""
        pages, query = [], {"maxresults": str(size)}
        while True:
            page = self.call("GET", path, None, vault, **query)
            pages.append(page["value"])
            if not page["nextLink"]:
                return pages
            query = query_of(page["nextLink"])

    def decide(self, demand: Demand, role: str, condition: str | None = None) -> Decision:
        """The decision on a demand of one reader who holds one role at the vault."""
        held = RoleAssignment(
            id="a",
            scope=Scope(self.row().resource_id),
            principal_id=READER,
            role_definition_id=role,
            condition=condition,
        )
        return decide(demand, READER, [held], ROLES, {})


def query_of(link: str) -> dict[str, str]:
    """The query of a ``nextLink``."""
    from keyleaf.server.router import read_query

    assert link.startswith(f"{BASE}/")
    return read_query(link.split("?", 1)[1].encode())


def version_of(bundle: Any) -> str:
    """The version in the id of an answer."""
    return str(bundle["id"].rsplit("/", 1)[1])


def refusal(error: ServiceError) -> tuple[int, str, str]:
    """Status, code and inner code."""
    return error.status, error.code, error.inner
