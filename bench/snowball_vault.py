"""A vault over TLS that can be told to answer 429 or to close every connection; it notes when it was reached.

``python -m bench.snowball_vault FOLDER`` prints its URL and certificate bundle, and then does what each line on its
input says: ``good``, ``throttled`` (with ``retry_after`` or without), ``away``, ``report``.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

VERSION = "0123456789abcdef0123456789abcdef"
VALUE = "a value of forty-four characters, more or less"


class Vault:
    """The server. In ``away`` a connection is closed before it can say anything, and counts as one that reached it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._port = 0
        self.mode: dict[str, Any] = {"mode": "good"}
        self.reached: list[tuple[float, str]] = []

    @property
    def url(self) -> str:
        """Of the data plane."""
        return f"https://127.0.0.1:{self._port}"

    async def become(self, mode: dict[str, Any]) -> None:
        """Change what it does; the port stays."""
        self.mode = mode
        away = mode["mode"] == "away"
        if self._server is not None:
            self._server.close()
            if away:
                for writer in tuple(self._open):
                    writer.transport.abort()
        take = self._hang_up if away else self._answer
        self._server = await asyncio.start_server(
            take, "127.0.0.1", self._port, ssl=None if away else self._context, backlog=4096
        )
        self._port = self._server.sockets[0].getsockname()[1]

    async def _hang_up(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached.append((time.time(), "away"))
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.reached.append((time.time(), self.mode["mode"]))
                name = head.split(b" ", 2)[1].decode().split("/")[2]
                status, more, body = "200 OK", "", {"value": VALUE, "id": f"{self.url}/secrets/{name}/{VERSION}"}
                if self.mode["mode"] == "throttled":
                    wait = self.mode.get("retry_after")
                    status, more = "429 Too Many Requests", f"Retry-After: {wait}\r\n" if wait else ""
                    body = {"error": {"code": "Throttled", "message": "too many requests"}}  # type: ignore[dict-item]
                text = json.dumps({**body, "attributes": {"enabled": True}}).encode()
                writer.write(
                    f"HTTP/1.1 {status}\r\n{more}Content-Type: application/json\r\n"
                    f"Content-Length: {len(text)}\r\n\r\n".encode()
                    + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


def certificate(bundle: Path) -> ssl.SSLContext:
    """A self-signed certificate for 127.0.0.1, written to ``bundle``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "snowball")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=24))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    bundle.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    return context


async def serve(folder: Path) -> None:
    """Do what the input says until it ends."""
    bundle = folder / "vault.pem"
    vault = Vault(certificate(bundle))
    await vault.become({"mode": "good"})
    print(json.dumps({"url": vault.url, "bundle": str(bundle)}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        if order["mode"] == "report":
            print(json.dumps(vault.reached), flush=True)
        else:
            await vault.become(order)
            print(json.dumps(time.time()), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
