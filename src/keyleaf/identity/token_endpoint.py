"""The token endpoint, version 2 (``scope``) and version 1 (``resource``): the client credentials grant.

Protocol: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from keyleaf.core.operation import Call, Reply
from keyleaf.identity.client_credentials import authenticate_client
from keyleaf.identity.principals import PrincipalRow, find_by_client_id
from keyleaf.identity.service import IdentityService
from keyleaf.identity.tenants import Tenant, find_tenant
from keyleaf.identity.token_errors import TokenError, printable
from keyleaf.identity.tokens import IssuedToken, Version, issue_token

if TYPE_CHECKING:
    from sqlalchemy import Connection

DEFAULT_SCOPE = "/.default"
NO_STORE = {"Cache-Control": "no-store, no-cache", "Pragma": "no-cache"}
_MAXIMUM_BODY = 65_536
_CAPABILITIES = ("CP1",)


def token_v2(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``POST /{tenant}/oauth2/v2.0/token``."""
    return _answer(service, conn, call, "2.0")


def token_v1(service: IdentityService, conn: Connection, call: Call) -> Reply:
    """Answer ``POST /{tenant}/oauth2/token``; ADFS clients come here too, and send ``scope``."""
    return _answer(service, conn, call, "1.0")


def read_form(call: Call) -> dict[str, str]:
    """The request's form parameters.

    Raises:
        TokenError: no form, too large, or a parameter that occurs twice (RFC 6749, 3.2).
    """
    if len(call.body) > _MAXIMUM_BODY:
        raise TokenError(call, 9002313, "Invalid request. The request body is too large.")
    try:
        pairs = parse_qsl(
            call.body.decode("utf-8"), keep_blank_values=True, max_num_fields=50, encoding="utf-8", errors="strict"
        )
    except ValueError:
        raise TokenError(call, 9002313, "Invalid request. Request is malformed or invalid.") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise TokenError(call, 9002313, "Invalid request. A parameter occurs more than once.")
    return _with_basic(call, form)


def _with_basic(call: Call, form: dict[str, str]) -> dict[str, str]:
    """The form with the credentials of an ``Authorization: Basic`` header (RFC 6749, 2.3.1), if there is one."""
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form
    try:
        name, _, secret = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise TokenError(call, 9002313, "Invalid request. The Authorization header is malformed.") from None
    return {"client_id": unquote_plus(name), "client_secret": unquote_plus(secret)} | form


def requested_capabilities(call: Call, claims: str) -> tuple[str, ...]:
    """The client capabilities that a claims request names (``xms_cc``), of those that are known here.

    Rule: https://learn.microsoft.com/entra/identity-platform/claims-challenge#client-capabilities
    """
    if not claims:
        return ()
    document = _object(call, claims)
    wanted = document.get("access_token")
    requested = wanted.get("xms_cc") if isinstance(wanted, dict) else None
    values = requested.get("values") if isinstance(requested, dict) else None
    if not isinstance(values, list):
        return ()
    return tuple(c for c in _CAPABILITIES if c in values)


def _object(call: Call, claims: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(claims, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise TokenError(call, 9002313, "Invalid request. The 'claims' parameter is not a JSON object.") from None


def _answer(service: IdentityService, conn: Connection, call: Call, version: Version) -> Reply:
    form = read_form(call)
    client_id = form.get("client_id", "").strip().lower()
    try:
        return _issue(service, conn, call, form, client_id, version)
    except TokenError as error:
        error.client_id = error.client_id or printable(client_id, 64)
        error.resource = error.resource or printable(_asked(form, version))
        raise


def _issue(
    service: IdentityService, conn: Connection, call: Call, form: dict[str, str], client_id: str, version: Version
) -> Reply:
    tenant = find_tenant(conn, call.path["tenant"], service.default_tenant)
    if tenant is None:
        name = printable(call.path["tenant"], 64)
        raise TokenError(call, 90002, f"Tenant '{name}' not found. Check to make sure you have the correct tenant ID.")
    for parameter in ("grant_type", "client_id"):
        if not form.get(parameter):
            raise TokenError(call, 900144, f"The request body must contain the following parameter: '{parameter}'.")
    if form["grant_type"] != "client_credentials":
        raise TokenError(
            call, 70003, f"The app requested an unsupported grant type '{printable(form['grant_type'], 80)}'."
        )
    row = find_client(conn, call, tenant, client_id)
    authenticate_client(conn, call, form, row, service.issuer_keys, service.authority)
    resource = requested_resource(service, call, form, version)
    capabilities = requested_capabilities(call, form.get("claims", ""))
    issued = make_token(service, conn, call, row, resource, version, capabilities)
    body: dict[str, Any] = {"token_type": "Bearer"}
    if version == "2.0":
        body |= {"expires_in": issued.expires_in, "ext_expires_in": issued.expires_in}
    else:
        body |= {
            "expires_in": str(issued.expires_in),
            "ext_expires_in": str(issued.expires_in),
            "expires_on": str(issued.expires),
            "not_before": str(issued.issued),
            "resource": resource,
        }
    body["access_token"] = issued.token
    return Reply(200, body, NO_STORE, resource=resource, principal=row.as_principal())


def find_client(conn: Connection, call: Call, tenant: Tenant, client_id: str) -> PrincipalRow:
    """The enabled client of the tenant.

    Raises:
        TokenError: 700016 where the tenant has none, 7000112 where it is disabled.
    """
    row = find_by_client_id(conn, client_id)
    if row is None or row.tenant_id != tenant.id:
        raise TokenError(
            call,
            700016,
            f"Application with identifier '{printable(client_id, 64)}' was not found in the directory "
            f"'{tenant.name}'. This can happen if the application has not been installed by the administrator of the "
            "tenant. You may have sent your authentication request to the wrong tenant.",
        )
    if not row.enabled:
        raise disabled(call, row)
    return row


def disabled(call: Call, row: PrincipalRow) -> TokenError:
    """The refusal of a disabled client."""
    text = f"Application '{row.client_id}'({printable(row.name, 120)}) is disabled."
    return TokenError(call, 7000112, text, client_id=row.client_id, object_id=row.object_id)


def make_token(
    service: IdentityService,
    conn: Connection,
    call: Call,
    row: PrincipalRow,
    resource: str,
    version: Version,
    capabilities: tuple[str, ...],
) -> IssuedToken:
    """A token for an authenticated client."""
    return issue_token(
        service.signing_keys.current(conn, call.now),
        row,
        authority=service.authority,
        audience=resource,
        version=version,
        capabilities=capabilities,
        randomness=service.randomness,
        now=call.now,
    )


def requested_resource(service: IdentityService, call: Call, form: dict[str, str], version: Version) -> str:
    """The audience asked for.

    Raises:
        TokenError: none or several are asked for, the scope does not end in ``/.default``, or nobody is called that.
    """
    asked = _asked(form, version)
    if version == "2.0" or not form.get("resource"):
        if not asked:
            name = "scope" if version == "2.0" else "resource"
            raise TokenError(call, 900144, f"The request body must contain the following parameter: '{name}'.")
        if len(asked.split()) > 1:
            raise TokenError(
                call, 28000, "Provided value for the input parameter scope is not valid: it names several scopes."
            )
        resource = asked.removesuffix(DEFAULT_SCOPE)
        if resource == asked or not resource:
            raise TokenError(
                call,
                1002012,
                f"The provided value for scope {printable(asked)} is not valid. Client credential flows must have a "
                "scope value with /.default suffixed to the resource identifier (application ID URI).",
            )
    else:
        resource = asked
    if not service.is_resource(resource):
        raise TokenError(
            call,
            500011,
            f"The resource principal named {printable(resource)} was not found in the tenant. Check the scope or "
            "resource that the client asks for.",
        )
    return resource


def _asked(form: dict[str, str], version: Version) -> str:
    if version == "1.0" and form.get("resource"):
        return form["resource"].strip()
    return form.get("scope", "").strip()
