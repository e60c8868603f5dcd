"""The endpoints that hand a process its managed identity's token: App Service, IMDS and Cloud Shell dialects.

App Service: https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
IMDS: https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keyleaf.core.operation import Call, Reply
from keyleaf.identity.bindings import bound_identity
from keyleaf.identity.principals import (
    PrincipalRow,
    find_by_client_id,
    find_by_object_id,
    find_by_resource,
    living_managed_identities,
)
from keyleaf.identity.service import IdentityService
from keyleaf.identity.token_endpoint import NO_STORE, make_token, read_form
from keyleaf.identity.token_errors import ManagedIdentityError, printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

_APP_SERVICE_VERSIONS = frozenset({"2019-08-01", "2017-09-01"})
_SELECTORS = ("client_id", "clientid", "mi_res_id", "msi_res_id", "object_id", "principal_id")


def app_service_token(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``GET /msi/token``: the header says which process asks, and so which identity."""
    version = call.query.get("api-version", "")
    if version not in _APP_SERVICE_VERSIONS:
        known = ", ".join(sorted(_APP_SERVICE_VERSIONS))
        raise ManagedIdentityError(
            call, 400, "invalid_request", f"'api-version' must be one of {known}.", app_service=True
        )
    row = _bound(conn, call, "secret" if version == "2017-09-01" else "x-identity-header")
    _check_same(conn, call, call.query, row)
    return _token(service, conn, call, call.query, row, dialect=version)


def imds_token(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``GET /metadata/identity/oauth2/token`` where the installation allows it."""
    if not call.query.get("api-version"):
        raise ManagedIdentityError(call, 400, "invalid_request", "Required query variable 'api-version' is missing.")
    row = _unbound(service, conn, call, call.query)
    return _token(service, conn, call, call.query, row, dialect="imds")


def cloud_shell_token(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``POST /msi/token`` with a form: bound by a header where one is sent, otherwise under IMDS's rules."""
    form = read_form(call)
    if "x-identity-header" in call.headers:
        row = _bound(conn, call, "x-identity-header")
        _check_same(conn, call, form, row)
    else:
        row = _unbound(service, conn, call, form)
    return _token(service, conn, call, form, row, dialect="imds")


def _bound(conn: Connection, call: Call, header: str) -> PrincipalRow:
    presented = call.headers.get(header, "")
    row = bound_identity(conn, presented) if presented else None
    if row is None:
        raise ManagedIdentityError(
            call,
            401,
            "unauthorized_client",
            f"The header {header.upper()} is missing, or no process is bound to it (any more).",
            app_service=True,
        )
    return row


def _check_same(conn: Connection, call: Call, query: Mapping[str, str], row: PrincipalRow) -> None:
    if _selectors(query) and _selected(conn, query) != row:
        raise ManagedIdentityError(
            call,
            400,
            "invalid_request",
            "No Managed Identity found for specified ClientId/ResourceId/PrincipalId: this process is bound to another "
            "identity.",
            app_service=True,
            client_id=row.client_id,
            object_id=row.object_id,
            resource=printable(query.get("resource", "")),
        )


def _unbound(service: IdentityService, conn: Connection, call: Call, query: Mapping[str, str]) -> PrincipalRow:
    # Azure's own guards against requests that a browser or a proxy was tricked into.
    if call.headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in call.headers:
        raise ManagedIdentityError(call, 400, "bad_request_102", "Required metadata header not specified")
    resource = printable(query.get("resource", ""))
    if not service.imds_allowed:
        raise ManagedIdentityError(
            call,
            400,
            "invalid_request",
            "Identity not found: this server does not offer identities to the whole host.",
            resource=resource,
        )
    if _selectors(query):
        row = _selected(conn, query)
        problem = "Identity not found"
    else:
        candidates = living_managed_identities(conn, 2)
        row = candidates[0] if len(candidates) == 1 else None
        problem = (
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the "
            "token request"
            if candidates
            else "Identity not found"
        )
    if row is None:
        raise ManagedIdentityError(
            call,
            400,
            "invalid_request",
            problem,
            client_id=printable(query.get("client_id", ""), 64),
            resource=resource,
        )
    return row


def _selectors(query: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, query[name]) for name in _SELECTORS if name in query]


def _selected(conn: Connection, query: Mapping[str, str]) -> PrincipalRow | None:
    """The living managed identity on which all selectors of the request agree."""
    found = []
    for name, value in _selectors(query):
        if name in ("client_id", "clientid"):
            found.append(find_by_client_id(conn, value))
        elif name in ("mi_res_id", "msi_res_id"):
            found.append(find_by_resource(conn, value))
        else:
            found.append(find_by_object_id(conn, value))
    row = found[0]
    same = row is not None and all(other == row for other in found)
    return row if same and row is not None and row.kind == "managed_identity" and row.deleted is None else None


def _token(
    service: IdentityService, conn: Connection, call: Call, query: Mapping[str, str], row: PrincipalRow, *, dialect: str
) -> Reply:
    resource = query.get("resource", "")
    app_service = dialect != "imds"

    def refusal(code: str, text: str) -> ManagedIdentityError:
        return ManagedIdentityError(
            call,
            400,
            code,
            text,
            app_service=app_service,
            client_id=row.client_id,
            object_id=row.object_id,
            resource=printable(resource),
        )

    if not resource:
        raise refusal("invalid_request", "Required audience parameter 'resource' not specified")
    if not service.is_resource(resource):
        raise refusal(
            "invalid_resource",
            f"AADSTS500011: The resource principal named {printable(resource)} was not found in the tenant.",
        )
    if not row.enabled:
        raise refusal("unauthorized_client", f"AADSTS7000112: Application '{row.client_id}' is disabled.")
    capabilities = ("CP1",) if query.get("xms_cc", "").upper() == "CP1" else ()
    issued = make_token(service, conn, call, row, resource, "1.0", capabilities)
    body = {
        "access_token": issued.token,
        "client_id": row.client_id,
        "expires_in": str(issued.expires_in),
        "expires_on": _clock_time(issued.expires) if dialect == "2017-09-01" else str(issued.expires),
        "ext_expires_in": str(issued.expires_in),
        "not_before": str(issued.issued),
        "resource": resource,
        "token_type": "Bearer",
    }
    return Reply(200, body, NO_STORE, resource=resource, principal=row.as_principal())


def _clock_time(moment: int) -> str:
    """The form that App Service on Linux used in its first version of this endpoint."""
    return datetime.fromtimestamp(moment, UTC).strftime("%m/%d/%Y %H:%M:%S +00:00")
