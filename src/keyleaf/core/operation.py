"""The seam between the rooms that hold rules and the server that speaks HTTP.

A room offers a list of :class:`Operation`. The server does what is common to all: it authenticates, asks for the
decision, opens the transaction, runs the handler, appends the audit record in the same transaction, and answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from keyleaf.core.scope import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as the verified token and the directory say.

    Attributes:
        object_id: ``oid`` of the service principal or managed identity.
        client_id: ``appid``.
        kind: what it is.
        resource_id: ARM id of a managed identity (``xms_mirid``); empty otherwise.
        application: the Application of the tree that the identity belongs to (from its tags); empty if none.
    """

    tenant_id: str
    object_id: str
    client_id: str
    kind: Literal["managed_identity", "application"]
    name: str = ""
    resource_id: str = ""
    application: str = ""
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One request, parsed: what a handler may look at.

    Attributes:
        principal: the caller; None only for operations with ``access="public"``.
        path: values of the pattern's placeholders, percent-decoded.
        query: query parameters, names in lower case, first value of each.
        headers: names in lower case.
        base: scheme and authority that the client called, ``https://127.0.0.1:8443``: ids are rendered from it.
        vault: name of the vault that the authority stands for; empty on the management endpoint.
        now: seconds since the epoch.
    """

    method: str
    principal: Principal | None
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    base: str
    vault: str
    now: float
    request_id: str
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers.

    Attributes:
        body: a msgspec-encodable object, raw bytes, or None for an empty body.
        resource: what the audit record names: an ARM id, or the secret's unversioned id.
        version: the version that was read or made, where there is one.
        principal: whom the request turned out to be, where the operation itself authenticates (token requests).
    """

    status: int = 200
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    resource: str = ""
    version: str = ""
    principal: Principal | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What the caller must be allowed to do: one (data) action at one scope.

    Attributes:
        attributes: ABAC attributes, keys such as ``@Resource[Microsoft.KeyVault/vaults/secrets:name]``.
    """

    action: str
    scope: Scope
    data: bool
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a service.

    Attributes:
        name: as Azure's audit log calls it, for example ``SecretGet``.
        pattern: path with ``{placeholders}``; a trailing ``/*`` placeholder ``{rest:path}`` takes the remainder.
        surface: which endpoint serves it.
        access: ``demand`` asks RBAC; ``token`` wants any valid token; ``public`` wants none.
        demand: builds the demand; it may read the database (to find a vault's scope) but never writes.
        handler: does the work inside the transaction that the server opened; raises ServiceError.
        mutates: opens a writing transaction, and the audit record commits with it.
        request: the shape of the JSON body that the handler reads; None where it reads none. For describing only.
    """

    name: str
    method: str
    pattern: str
    surface: Literal["vault", "arm", "login", "graph", "imds"]
    handler: Callable[[Connection, Call], Reply]
    access: Literal["demand", "token", "public"] = "demand"
    demand: Callable[[Connection, Call], Demand] | None = None
    mutates: bool = False
    request: type | None = None
