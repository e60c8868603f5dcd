"""The part of Microsoft Graph that directory administration needs, for principals with the right directory role.

Reference: https://learn.microsoft.com/graph/api/resources/application
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call, Operation, Reply
from keyleaf.identity import applications, federated_credentials, principals
from keyleaf.identity.graph_documents import (
    application_document,
    collection,
    federated_credential_document,
    password_document,
    service_principal_document,
)
from keyleaf.identity.principals import PrincipalRow
from keyleaf.identity.service import IdentityService

if TYPE_CHECKING:
    from sqlalchemy import Connection

ADMINISTRATOR = "Application Administrator"
_ROLES = frozenset({ADMINISTRATOR, "Cloud Application Administrator", "Global Administrator"})
_FILTER = re.compile(r"\s*(appId|displayName)\s+eq\s+'((?:[^']|'')*)'\s*\Z")
_KEYED = re.compile(r"(applications|servicePrincipals)\(appId='([^']*)'\)\Z", re.IGNORECASE)
_Shape = TypeVar("_Shape")
_Act = Callable[["_Graph", "Connection", Call], Reply]


class _Password(msgspec.Struct, rename="camel"):
    display_name: str | None = None
    start_date_time: datetime | None = None
    end_date_time: datetime | None = None


class _AddPassword(msgspec.Struct, rename="camel"):
    password_credential: _Password = msgspec.field(default_factory=_Password)


class _RemovePassword(msgspec.Struct, rename="camel"):
    key_id: str


class _Key(msgspec.Struct, rename="camel"):
    key: str | None = None
    key_id: str | None = None
    display_name: str | None = None


class _Application(msgspec.Struct, rename="camel"):
    display_name: str | None = None
    key_credentials: list[_Key] | None = None


class _ServicePrincipal(msgspec.Struct, rename="camel"):
    app_id: str | None = None
    account_enabled: bool | None = None


class _Federated(msgspec.Struct):
    name: str = ""
    issuer: str | None = None
    subject: str | None = None
    audiences: list[str] | None = None


def graph_operations(service: IdentityService) -> list[Operation]:
    """The Graph operations; each one checks the caller's directory role itself."""
    graph = _Graph(service)
    made: list[Operation] = []

    def add(
        name: str, method: str, paths: tuple[str, ...], act: _Act, mutates: bool = True, request: type | None = None
    ) -> None:
        def handler(conn: Connection, call: Call) -> Reply:
            graph.authorize(conn, call)
            return act(graph, conn, call)

        for path in paths:
            made.append(
                Operation(
                    name,
                    method,
                    f"/v1.0/{path}",
                    "graph",
                    handler,
                    access="token",
                    mutates=mutates,
                    request=request,
                )
            )

    def both(kind: str, rest: str = "") -> tuple[str, ...]:
        # The second form is ``applications(appId='…')``: one segment that the handler takes apart.
        return (f"{kind}{rest}", f"{{keyed}}{rest}")

    application, one_principal = "applications/{application}", "servicePrincipals/{service_principal}"
    federated = "/federatedIdentityCredentials"
    add("ApplicationList", "GET", ("applications",), _Graph.list_applications, False)
    add("ApplicationCreate", "POST", ("applications",), _Graph.create_application, request=_Application)
    add("ServicePrincipalList", "GET", ("servicePrincipals",), _Graph.list_service_principals, False)
    add(
        "ServicePrincipalCreate",
        "POST",
        ("servicePrincipals",),
        _Graph.create_service_principal,
        request=_ServicePrincipal,
    )
    add("ServicePrincipalGet", "GET", (one_principal,), _Graph.get, False)
    add("ServicePrincipalUpdate", "PATCH", (one_principal,), _Graph.update, request=_ServicePrincipal)
    add("ApplicationGet", "GET", (application,), _Graph.get, False)
    add("ApplicationUpdate", "PATCH", (application,), _Graph.update, request=_Application)
    add("DirectoryObjectGet", "GET", ("{keyed}",), _Graph.get, False)
    add("DirectoryObjectUpdate", "PATCH", ("{keyed}",), _Graph.update)
    add("ApplicationDelete", "DELETE", both(application), _Graph.delete_application)
    add("ApplicationAddPassword", "POST", both(application, "/addPassword"), _Graph.add_password, request=_AddPassword)
    add(
        "ApplicationRemovePassword",
        "POST",
        both(application, "/removePassword"),
        _Graph.remove_password,
        request=_RemovePassword,
    )
    add("FederatedCredentialList", "GET", both(application, federated), _Graph.list_federated, False)
    add("FederatedCredentialCreate", "POST", both(application, federated), _Graph.create_federated, request=_Federated)
    one = both(application, federated + "/{credential}")
    add("FederatedCredentialGet", "GET", one, _Graph.get_federated, False)
    add("FederatedCredentialUpdate", "PATCH", one, _Graph.update_federated, request=_Federated)
    add("FederatedCredentialDelete", "DELETE", one, _Graph.delete_federated)
    revoke = both(one_principal, "/revokeSignInSessions")
    add("ServicePrincipalRevokeSessions", "POST", revoke, _Graph.revoke_sessions)
    return made


class _Graph:
    def __init__(self, service: IdentityService) -> None:
        self._service = service

    def authorize(self, conn: Connection, call: Call) -> None:
        row = principals.find_by_object_id(conn, call.principal.object_id) if call.principal else None
        if row is None or not row.usable or not _ROLES & set(row.directory_roles):
            raise ServiceError(
                403,
                "Authorization_RequestDenied",
                f"Insufficient privileges to complete the operation: the directory role {ADMINISTRATOR!r} is needed.",
            )

    def list_applications(self, conn: Connection, call: Call) -> Reply:
        rows = _filtered(call, applications.list_principals(conn, _tenant(call), applications_only=True))
        return Reply(200, collection(call.base, "applications", [_document(conn, r) for r in rows]))

    def create_application(self, conn: Connection, call: Call) -> Reply:
        body = _read(call, _Application)
        row = applications.create_application(
            conn,
            tenant_id=_tenant(call),
            name=body.display_name or "",
            randomness=self._service.randomness,
            now=call.now,
        )
        self._replace_certificates(conn, row, body.key_credentials)
        return Reply(201, _document(conn, row), resource=f"/applications/{row.app_object_id}")

    def list_service_principals(self, conn: Connection, call: Call) -> Reply:
        rows = _filtered(call, applications.list_principals(conn, _tenant(call), applications_only=False))
        return Reply(200, collection(call.base, "servicePrincipals", [service_principal_document(r) for r in rows]))

    def create_service_principal(self, conn: Connection, call: Call) -> Reply:
        # An application's service principal is made together with it, so that this finds it.
        app_id = _read(call, _ServicePrincipal).app_id or ""
        row = principals.find_by_client_id(conn, app_id)
        if row is None or row.tenant_id != _tenant(call):
            raise ServiceError(400, "Request_BadRequest", "The 'appId' of the service principal names no application.")
        return Reply(201, service_principal_document(row), resource=_name(row))

    def get(self, conn: Connection, call: Call) -> Reply:
        row, is_application = _target(conn, call)
        document = _document(conn, row) if is_application else service_principal_document(row)
        return Reply(200, document, resource=_name(row))

    def update(self, conn: Connection, call: Call) -> Reply:
        row, is_application = _target(conn, call)
        if is_application:
            body = _read(call, _Application)
            if body.display_name:
                applications.rename_application(conn, row.object_id, body.display_name)
            self._replace_certificates(conn, row, body.key_credentials)
        else:
            enabled = _read(call, _ServicePrincipal).account_enabled
            if enabled is not None:
                principals.set_enabled(conn, row.object_id, enabled, call.now)
        return Reply(204, resource=_name(row))

    def delete_application(self, conn: Connection, call: Call) -> Reply:
        row = _application(conn, call)
        principals.delete_principal(conn, row.object_id, call.now)
        return Reply(204, resource=_name(row))

    def add_password(self, conn: Connection, call: Call) -> Reply:
        row = _application(conn, call)
        wanted = _read(call, _AddPassword).password_credential
        made, value = applications.add_client_secret(
            conn,
            row.object_id,
            display_name=wanted.display_name or "",
            randomness=self._service.randomness,
            now=call.now,
            starts=_moment(wanted.start_date_time),
            ends=_moment(wanted.end_date_time),
        )
        body = password_document(made, value.reveal())
        return Reply(200, body, {"Cache-Control": "no-store"}, resource=_name(row))

    def remove_password(self, conn: Connection, call: Call) -> Reply:
        row = _application(conn, call)
        if not applications.remove_credential(conn, row.object_id, _read(call, _RemovePassword).key_id):
            raise ServiceError(400, "Request_BadRequest", "No password credential found with that keyId.")
        return Reply(204, resource=_name(row))

    def list_federated(self, conn: Connection, call: Call) -> Reply:
        row = _application(conn, call)
        found = federated_credentials.list_federated_credentials(conn, row.object_id)
        documents = [federated_credential_document(c) for c in found]
        return Reply(200, collection(call.base, "federatedIdentityCredentials", list(documents)), resource=_name(row))

    def create_federated(self, conn: Connection, call: Call) -> Reply:
        row, body = _application(conn, call), _read(call, _Federated)
        if federated_credentials.get_federated_credential(conn, row.object_id, body.name) is not None:
            raise ServiceError(409, "Request_MultipleObjectsWithSameKeyValue", "A credential of that name exists.")
        made, _ = federated_credentials.put_federated_credential(
            conn,
            row.object_id,
            body.name,
            body.issuer or "",
            body.subject or "",
            body.audiences or [],
            self._service.randomness,
        )
        return Reply(201, federated_credential_document(made), resource=_name(row))

    def get_federated(self, conn: Connection, call: Call) -> Reply:
        row = _application(conn, call)
        return Reply(200, federated_credential_document(_credential(conn, call, row)), resource=_name(row))

    def update_federated(self, conn: Connection, call: Call) -> Reply:
        row, body = _application(conn, call), _read(call, _Federated)
        present = _credential(conn, call, row)
        federated_credentials.put_federated_credential(
            conn,
            row.object_id,
            present.name,
            present.issuer if body.issuer is None else body.issuer,
            present.subject if body.subject is None else body.subject,
            present.audiences if body.audiences is None else body.audiences,
        )
        return Reply(204, resource=_name(row))

    def delete_federated(self, conn: Connection, call: Call) -> Reply:
        row = _application(conn, call)
        federated_credentials.delete_federated_credential(conn, row.object_id, _credential(conn, call, row).name)
        return Reply(204, resource=_name(row))

    def revoke_sessions(self, conn: Connection, call: Call) -> Reply:
        row, is_application = _target(conn, call)
        if is_application:
            raise _not_found()
        principals.revoke_sessions(conn, row.object_id, call.now)
        return Reply(200, {"value": True}, resource=_name(row))

    def _replace_certificates(self, conn: Connection, row: PrincipalRow, wanted: list[_Key] | None) -> None:
        """Graph replaces the whole list: entries with a key are new, those with a keyId alone stay."""
        if wanted is None:
            return
        kept = {k.key_id.lower() for k in wanted if k.key_id and not k.key}
        present = {c.id for c in applications.list_credentials(conn, row.object_id, "certificate")}
        if kept - present:
            raise ServiceError(400, "Request_BadRequest", "A keyCredential without 'key' must be one that is there.")
        for gone in present - kept:
            applications.remove_credential(conn, row.object_id, gone)
        for key in wanted:
            if key.key:
                applications.add_certificate(
                    conn,
                    row.object_id,
                    _certificate(key.key),
                    display_name=key.display_name or "",
                    randomness=self._service.randomness,
                )


def _certificate(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ServiceError(400, "Request_BadRequest", "The keyCredential's 'key' must be base64.") from None


def _tenant(call: Call) -> str:
    return call.principal.tenant_id if call.principal else ""


def _target(conn: Connection, call: Call) -> tuple[PrincipalRow, bool]:
    """The principal that the path names, in either form, and whether it was named as an application."""
    keyed = call.path.get("keyed")
    if keyed is not None:
        match = _KEYED.match(keyed)
        row = principals.find_by_client_id(conn, match.group(2)) if match else None
        is_application = match is not None and match.group(1).lower() == "applications"
    elif "application" in call.path:
        is_application = True
        row = applications.find_by_app_object_id(conn, call.path["application"])
    else:
        is_application = False
        row = principals.find_by_object_id(conn, call.path["service_principal"])
    if row is None or row.deleted is not None or row.tenant_id != _tenant(call):
        raise _not_found()
    if is_application and row.kind != "application":
        raise _not_found()
    return row, is_application


def _application(conn: Connection, call: Call) -> PrincipalRow:
    row, is_application = _target(conn, call)
    if not is_application:
        raise _not_found()
    return row


def _credential(conn: Connection, call: Call, row: PrincipalRow) -> federated_credentials.FederatedCredential:
    found = federated_credentials.get_federated_credential(conn, row.object_id, call.path["credential"])
    if found is None:
        raise _not_found()
    return found


def _not_found() -> ServiceError:
    return ServiceError(404, "Request_ResourceNotFound", "The resource does not exist, or is of another kind.")


def _name(row: PrincipalRow) -> str:
    return f"/servicePrincipals/{row.object_id}"


def _document(conn: Connection, row: PrincipalRow) -> dict[str, Any]:
    passwords, certificates = (
        applications.list_credentials(conn, row.object_id, kind) for kind in ("password", "certificate")
    )
    return application_document(row, passwords, certificates)


def _filtered(call: Call, rows: list[PrincipalRow]) -> list[PrincipalRow]:
    text = call.query.get("$filter", "")
    if not text:
        return rows
    match = _FILTER.match(text)
    if match is None:
        raise ServiceError(400, "Request_UnsupportedQuery", "$filter takes appId eq '…' or displayName eq '…'.")
    value = match.group(2).replace("''", "'").lower()
    return [r for r in rows if (r.client_id if match.group(1) == "appId" else r.name.lower()) == value]


def _moment(value: datetime | None) -> int | None:
    if value is None:
        return None
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())


def _read(call: Call, shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.json.decode(call.body or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ServiceError(
            400, "Request_BadRequest", "The request's body is not the JSON that this operation takes."
        ) from None
