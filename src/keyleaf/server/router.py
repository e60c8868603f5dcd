"""From method and path to the operation, without a framework's opinions about slashes.

- Clients write an empty version as a trailing or a double slash: ``/secrets/n/`` and ``/secrets/n//`` are
  ``/secrets/n``; nothing is redirected.
- Segments are percent-decoded once, one by one. What decodes to a slash, a backslash, a control character or a dot
  segment is refused.
- Literal segments come before placeholders. Resource Manager's paths have no case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_to_bytes

from keyleaf.core.errors import ServiceError
from keyleaf.core.operation import Operation

_API_VERSION = re.compile(r"(?:\d{1,2}\.\d{1,2}|\d{4}-\d{2}-\d{2})(?:-[A-Za-z0-9.-]{1,32})?\Z")
_MAX_SEGMENTS = 32
_CASELESS = frozenset({"arm", "login", "imds"})


class BadPath(ServiceError):
    """The path or query cannot be read."""

    def __init__(self, message: str) -> None:
        super().__init__(400, "BadParameter", message)


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    names: dict[str, _Node] = field(default_factory=dict)
    operations: dict[str, Operation] = field(default_factory=dict)


class Router:
    """Finds operations of one surface."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root = _Node()
        self._caseless = False
        for operation in operations:
            self._caseless = operation.surface in _CASELESS
            node = self._root
            for segment in operation.pattern.strip("/").split("/"):
                if segment.startswith("{"):
                    node = node.names.setdefault(segment[1:-1], _Node())
                else:
                    node = node.literals.setdefault(self._folded(segment), _Node())
            node.operations.setdefault(operation.method, operation)

    def find(self, method: str, segments: list[str]) -> tuple[Operation, dict[str, str]]:
        """The operation and the values of its placeholders.

        Raises:
            ServiceError: 404 for an unknown path, 405 for a known one with another method.
        """
        allowed: set[str] = set()
        values: dict[str, str] = {}
        found = self._search(self._root, segments, 0, method, values, allowed)
        if found is not None:
            return found, values
        if allowed:
            raise ServiceError(
                405, "MethodNotAllowed", f"{method} is not allowed here.", headers={"Allow": ", ".join(sorted(allowed))}
            )
        raise ServiceError(404, "NotFound", "No operation of this service has this path.")

    def _search(
        self, node: _Node, segments: list[str], at: int, method: str, values: dict[str, str], allowed: set[str]
    ) -> Operation | None:
        if at == len(segments):
            allowed.update(node.operations)
            return node.operations.get(method)
        segment = segments[at]
        literal = node.literals.get(self._folded(segment))
        if literal is not None:
            found = self._search(literal, segments, at + 1, method, values, allowed)
            if found is not None:
                return found
        if not segment:
            return None
        for name, child in node.names.items():
            before = values.get(name)
            values[name] = segment
            found = self._search(child, segments, at + 1, method, values, allowed)
            if found is not None:
                return found
            if before is None:
                del values[name]
            else:
                values[name] = before
        return None

    def _folded(self, segment: str) -> str:
        return segment.lower() if self._caseless else segment


def split_path(raw: bytes) -> list[str]:
    """The decoded segments of a path; empty ones at the end, and an empty version in the middle, are left out.

    Raises:
        BadPath: the path holds what no name can hold.
    """
    if not raw.startswith(b"/"):
        raise BadPath("The request's target is not a path.")
    parts = raw[1:].split(b"/")
    if len(parts) > _MAX_SEGMENTS:
        raise BadPath("The path has too many segments.")
    return [_decoded(part) for part in parts if part]


def read_query(raw: bytes) -> dict[str, str]:
    """Query parameters, names in lower case; the first value of each counts.

    Raises:
        BadPath: it cannot be decoded, or has too many parameters.
    """
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64)
    except ValueError:
        raise BadPath("The query string cannot be read.") from None
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name.lower(), value)
    return query


def check_api_version(query: dict[str, str]) -> None:
    """Any well-formed ``api-version`` is taken: SDKs move faster than servers.

    Raises:
        ServiceError: 400 for a missing or malformed one.
    """
    version = query.get("api-version")
    if not version:
        raise ServiceError(
            400, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required."
        )
    if not _API_VERSION.match(version):
        raise ServiceError(400, "InvalidApiVersionParameter", "The api-version query parameter is not a version.")


def _decoded(part: bytes) -> str:
    if b"%" in part and not re.fullmatch(rb"(?:[^%]|%[0-9A-Fa-f]{2})*", part):
        raise BadPath("The path has a broken percent-encoding.")
    try:
        text = unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        raise BadPath("The path is not UTF-8.") from None
    if text in (".", "..") or any(c in "/\\" or ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadPath("The path holds a character or segment that no name can have.")
    return text
