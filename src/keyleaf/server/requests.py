"""Reading a request off the wire, within limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from keyleaf.core.errors import ServiceError

MAX_BODY = 1024 * 1024
# A backup holds up to 500 versions of 25 KiB, twice in base64 and with their attributes:
# https://learn.microsoft.com/azure/key-vault/general/backup
MAX_BACKUP = 32 * 1024 * 1024
_RESTORE = b"/secrets/restore"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_SINGLE = frozenset({b"host", b"authorization", b"content-length", b"x-identity-header", b"metadata"})


class Disconnected(Exception):
    """The client went away before its request was complete."""


def read_headers(scope: Scope) -> dict[str, str]:
    """Headers by name in lower case.

    Raises:
        ServiceError: 400 where a header that may occur once occurs twice.
    """
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name in _SINGLE and name.decode() in headers:
            raise ServiceError(400, "BadRequest", f"The header {name.decode()} occurs more than once.")
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
    return headers


def bearer(headers: dict[str, str]) -> str:
    """The token of the Authorization header; empty where there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def largest_body(raw_path: bytes) -> int:
    """How large the body of a request for this path may be."""
    return MAX_BACKUP if raw_path.rstrip(b"/") == _RESTORE else MAX_BODY


async def read_body(receive: Receive, headers: dict[str, str], limit: int = MAX_BODY) -> bytes:
    """The request's body.

    Raises:
        ServiceError: 413 for one that is too large.
        Disconnected: the client went away.
    """
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _too_large(limit: int) -> ServiceError:
    # The rest of the body is not waited for, so the connection cannot be used any further.
    return ServiceError(
        413,
        "RequestEntityTooLarge",
        f"The request's body is larger than {limit} bytes.",
        headers={"Connection": "close"},
    )
