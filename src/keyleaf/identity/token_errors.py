"""Refusals of the token service, written as Entra and the managed-identity endpoints write them.

Codes: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Call

_KINDS: dict[int, tuple[int, str]] = {
    28000: (400, "invalid_scope"),
    50027: (400, "invalid_request"),
    70003: (400, "unsupported_grant_type"),
    90002: (400, "invalid_request"),
    500011: (400, "invalid_resource"),
    501661: (400, "invalid_request"),
    700016: (400, "unauthorized_client"),
    700021: (401, "invalid_client"),
    700023: (401, "invalid_client"),
    700024: (401, "invalid_client"),
    700027: (401, "invalid_client"),
    700211: (401, "invalid_client"),
    700212: (401, "invalid_client"),
    700213: (401, "invalid_client"),
    900144: (400, "invalid_request"),
    1002012: (400, "invalid_scope"),
    7000112: (400, "unauthorized_client"),
    7000215: (401, "invalid_client"),
    7000216: (401, "invalid_client"),
    7000222: (401, "invalid_client"),
    9002313: (400, "invalid_request"),
}


class TokenError(ServiceError):
    """A refused token request.

    Attributes:
        code: OAuth 2.0's ``error``.
        number: Entra's error number, for example 700213.
        client_id: the client that the request claims to be, not necessarily authenticated; empty if none.
        object_id: its object id where the directory knows the client; empty otherwise.
        resource: the audience that was asked for; empty where the request did not get that far.
    """

    def __init__(
        self, call: Call, number: int, text: str, *, client_id: str = "", object_id: str = "", resource: str = ""
    ) -> None:
        status, code = _KINDS[number]
        super().__init__(status, code, f"AADSTS{number}: {text}")
        self.number = number
        self.client_id = client_id
        self.object_id = object_id
        self.resource = resource
        self._time = datetime.fromtimestamp(call.now, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        self._trace = call.request_id
        self._correlation = _guid(call.headers.get("client-request-id", "")) or call.request_id
        self._authority = call.base

    def body(self) -> dict[str, object]:
        """The error as Entra writes it."""
        trail = f"Trace ID: {self._trace} Correlation ID: {self._correlation} Timestamp: {self._time}"
        return {
            "error": self.code,
            "error_description": f"{self.message} {trail}",
            "error_codes": [self.number],
            "timestamp": self._time,
            "trace_id": self._trace,
            "correlation_id": self._correlation,
            "error_uri": f"{self._authority}/error?code={self.number}",
        }


class ManagedIdentityError(TokenError):
    """A refusal of a managed-identity endpoint.

    IMDS answers ``{"error", "error_description"}``, App Service ``{"statusCode", "message"}``.
    """

    def __init__(
        self,
        call: Call,
        status: int,
        code: str,
        text: str,
        *,
        app_service: bool = False,
        client_id: str = "",
        object_id: str = "",
        resource: str = "",
    ) -> None:
        super().__init__(call, 9002313, text, client_id=client_id, object_id=object_id, resource=resource)
        self.status = status
        self.code = code
        self.message = text
        self._app_service = app_service

    def body(self) -> dict[str, object]:
        """The error in the shape of the endpoint's dialect."""
        if self._app_service:
            return {"statusCode": self.status, "message": self.message}
        return {"error": self.code, "error_description": self.message}


def printable(text: str, limit: int = 300) -> str:
    """What a client presented, safe to repeat in an error and a log: one line, no control characters, cut off."""
    return "".join(c if c.isprintable() else "?" for c in text[:limit])


def _guid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""
