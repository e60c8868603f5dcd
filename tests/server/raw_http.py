"""Requests byte by byte: what no HTTP client would send."""

from __future__ import annotations

import contextlib
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from embedded import API, Embedded

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class RawAnswer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


class RawCaller:
    """Sends bytes to a vault's port over TLS."""

    def __init__(self, embedded: Embedded, vault: dict[str, Any]) -> None:
        self._context = ssl.create_default_context(cafile=embedded.connection["ca_bundle"])
        self.port = int(vault["url"].rsplit(":", 1)[1])
        self.host = f"127.0.0.1:{self.port}"
        self.authorization = f"Authorization: Bearer {embedded.operator.token(vault['resource'])}\r\n"

    def connect(self) -> ssl.SSLSocket:
        """A connection."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS)
        return self._context.wrap_socket(plain, server_hostname="127.0.0.1")

    def send(self, request: bytes | str) -> list[RawAnswer]:
        """Every answer until the server closes the connection; the request has to make it do so."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError, ssl.SSLError):  # it may refuse before it has read everything
                connection.sendall(request.encode("latin-1") if isinstance(request, str) else request)
            received = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while part := connection.recv(65536):
                    received += part
        return parsed(received)

    def get(
        self,
        target: str = f"/secrets/db?{API}",
        *,
        headers: str = "",
        method: str = "GET",
        version: str = "1.1",
        host: str | None = None,
        token: bool = True,
        body: str = "",
    ) -> RawAnswer:
        """The one answer to one request."""
        named = f"Host: {self.host if host is None else host}\r\n" if host != "" else ""
        authorization = self.authorization if token else ""
        answers = self.send(
            f"{method} {target} HTTP/{version}\r\n{named}{authorization}{headers}Connection: close\r\n\r\n{body}"
        )
        assert len(answers) == 1, answers
        return answers[0]


def parsed(received: bytes) -> list[RawAnswer]:
    """The answers in what was received."""
    answers: list[RawAnswer] = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        answers.append(RawAnswer(int(first.split()[1]), headers, rest[:length]))
        received = rest[length:]
    return answers
