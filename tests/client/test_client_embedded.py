"""The reader and the real connection: Microsoft's SDK over TLS against a real server, and against broken ones."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from simulated_vault import SimulatedVault
from vault_contract import EXPECTED, EXPIRED, NOT_BEFORE, answers

from embedded import Embedded, Person
from keyleaf.core.names import is_guid
from virtual_time import VirtualClock, run_virtually

PROGRAM = Path(__file__).parent / "reading_program.py"


class Reading:
    """The program, and what it is told and tells."""

    def __init__(self, variables: dict[str, str], errors: Path) -> None:
        self.errors = errors
        with errors.open("wb") as written:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                env={"PATH": os.environ["PATH"], **variables},
            )

    def tell(self, **order: object) -> Any:
        """One order and its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()[-3000:]
        return json.loads(line)

    def fetch(self, name: str, **order: object) -> dict[str, Any]:
        """One fetch, told."""
        first: dict[str, Any] = self.tell(name=name, **order)["first"]
        return first


@contextmanager
def reading(variables: dict[str, str], errors: Path) -> Iterator[Reading]:
    """The program, running; it must end well."""
    program = Reading(variables, errors)
    try:
        yield program
        output, _ = program.process.communicate(timeout=20)
        assert json.loads(output) == "closed"
        assert program.process.returncode == 0
        assert "Unclosed" not in errors.read_text()
    finally:
        program.process.kill()
        program.process.wait(20)


@pytest.fixture(scope="module")
def person(embedded: Embedded) -> Person:
    return embedded.person()


@pytest.fixture(scope="module")
def vault(embedded: Embedded, person: Person) -> dict[str, Any]:
    """A vault whose secrets the person may read, but for ``forbidden``."""
    made = embedded.vault()
    for name in ("rotated", "disabled", "missing", "expired", "early", "crowd", "turning"):
        embedded.grant(person, f"{made['id']}/secrets/{name}")
    return made


def variables(vault: dict[str, Any], person: Person) -> dict[str, str]:
    """Environment of the program."""
    return {**person.environment, "AZURE_KEYVAULT_URL": vault["url"], "KEYLEAF_VAULTS": f"shop={vault['url']}"}


def test_the_real_connection_keeps_the_contract(
    embedded: Embedded, vault: dict[str, Any], person: Person, tmp_path: Path
) -> None:
    oldest = embedded.put(vault, "rotated", "first")["id"].rsplit("/", 1)[1]
    newest = embedded.put(vault, "rotated", "second")["id"].rsplit("/", 1)[1]
    embedded.put(vault, "disabled", "x", attributes={"enabled": False})
    embedded.put(vault, "forbidden", "x")
    embedded.put(vault, "expired", "late", attributes={"exp": EXPIRED})
    embedded.put(vault, "early", "early", attributes={"nbf": NOT_BEFORE})
    with reading(variables(vault, person), tmp_path / "errors") as program:
        assert program.tell(contract=True, oldest=oldest, newest=newest) == EXPECTED
        for name, reason in {"disabled": "disabled", "missing": "missing", "forbidden": "forbidden"}.items():
            refused = program.fetch(name)
            assert refused["reason"] == reason
            assert 1 <= refused["retry_after"] <= 2
        assert program.fetch("expired")["reason"] == "expired"
        assert program.fetch("expired", expired="use")["value"] == "late"
        assert program.fetch("early")["reason"] == "not yet valid"
        assert program.fetch("shop/rotated", version=oldest)["value"] == "first"
        assert program.fetch(f"{vault['url']}/secrets/rotated/{oldest}")["version"] == oldest


def test_the_simulated_connection_keeps_the_contract() -> None:
    async def work(clock: VirtualClock) -> None:
        vault = SimulatedVault(clock)
        url = "https://payments.vault.azure.net"
        oldest, newest = vault.put(url, "rotated", "first"), vault.put(url, "rotated", "second")
        vault.put(url, "disabled", "x", enabled=False)
        vault.put(url, "forbidden", "x")
        vault.forbidden.add("forbidden")
        vault.put(url, "expired", "late", expires_on=float(EXPIRED))
        vault.put(url, "early", "early", not_before=float(NOT_BEFORE))
        assert await answers(vault, url, oldest, newest) == EXPECTED

    run_virtually(work)


def test_the_next_fetch_has_what_was_changed(
    embedded: Embedded, vault: dict[str, Any], person: Person, tmp_path: Path
) -> None:
    with reading(variables(vault, person), tmp_path / "errors") as program:
        for number in range(3):
            made = embedded.put(vault, "turning", f"canary-turning-{number}")
            found = program.fetch("turning")
            assert (found["value"], found["version"]) == (f"canary-turning-{number}", made["id"].rsplit("/", 1)[1])
        change = {"attributes": {"enabled": False}}
        assert embedded.call("PATCH", f"{made['id']}", vault, json=change).status_code == 200
        assert program.fetch("turning")["reason"] == "disabled"
    assert "canary-turning" not in (tmp_path / "errors").read_text(), "with every logger at DEBUG"


def test_a_thousand_fetches_are_one_request(
    embedded: Embedded, vault: dict[str, Any], person: Person, tmp_path: Path
) -> None:
    embedded.put(vault, "crowd", "canary-crowd")
    with reading(variables(vault, person), tmp_path / "errors") as program:
        for _ in range(2):
            told = program.tell(name="crowd", times=1000)
            assert (told["requests"], told["different"]) == (1, 1)
            assert (told["first"]["value"], told["first"]["shared"]) == ("canary-crowd", 1000)
    written = (tmp_path / "errors").read_text()
    assert "canary-crowd" not in written
    gets = [line for line in written.splitlines() if f"{vault['url']}/secrets/crowd" in line and "Request URL" in line]
    assert len(gets) == 3, "the SDK's challenge is asked for once, without a token; then each batch is one request"


def test_an_identity_that_cannot_sign_in_says_so(vault: dict[str, Any], person: Person, tmp_path: Path) -> None:
    stranger = {**variables(vault, person), "AZURE_CLIENT_ID": "00000000-0000-4000-8000-000000000000"}
    unset = {name: value for name, value in stranger.items() if not name.startswith("AZURE_") or "KEYVAULT" in name}
    pinned = {"AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential"}
    for given in (stranger, {**unset, **pinned}, {**stranger, "AZURE_AUTHORITY_HOST": "http://127.0.0.1"}):
        with reading(given, tmp_path / "errors") as program:
            refused = program.fetch("rotated")
            assert refused["reason"] == "sign-in failed"
            assert 1 <= refused["retry_after"] <= 2
            assert "AADSTS" not in refused["text"], "a server's words are not repeated"


def test_a_vault_that_nobody_serves_is_away(vault: dict[str, Any], person: Person, tmp_path: Path) -> None:
    nobody = {**variables(vault, person), "AZURE_KEYVAULT_URL": "https://127.0.0.1:9"}
    with reading(nobody, tmp_path / "errors") as program:
        refused = program.fetch("rotated")
        assert (refused["reason"], refused["detail"]) == ("away", "ServiceRequestError")
        told = program.tell(name="rotated", times=100)
        assert (told["first"]["reason"], told["requests"]) == ("away", 0)


def test_a_proxy_of_the_environment_is_used(
    embedded: Embedded, vault: dict[str, Any], person: Person, tmp_path: Path
) -> None:
    embedded.put(vault, "crowd", "reached")
    behind = {**variables(vault, person), "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "elsewhere.example"}
    with reading(behind, tmp_path / "errors") as program:
        assert program.fetch("crowd")["reason"] == "away"
    with reading({**behind, "NO_PROXY": "127.0.0.1"}, tmp_path / "errors") as program:
        assert program.fetch("crowd")["value"] == "reached"


class BusyVault:
    """A TLS server that answers every request with one status; it keeps their heads."""

    def __init__(self, folder: Path, head: bytes) -> None:
        self.head = head
        self.heads: list[bytes] = []
        self.bundle = folder / "busy.pem"
        self._context = _self_signed(self.bundle)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> BusyVault:
        self._thread.start()
        starting = asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        if self.head:
            writer.write(b"HTTP/1.1 " + self.head + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


def _self_signed(bundle: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "busy")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    bundle.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle)
    return context


@pytest.mark.parametrize(
    ("head", "reason", "at_least", "requests"),
    [
        (b"429 Too Many Requests\r\nRetry-After: 7", "throttled", 6.9, 1),
        (b"503 Service Unavailable\r\nretry-after: 9", "away", 8.9, 1),
        (b"500 Internal Server Error", "away", 0.4, 1),
        # aiohttp asks once more where a connection breaks before the answer: it may have been an idle one that the
        # server had closed (RFC 9112, section 9.3.1).
        (b"", "away", 0.4, 2),
    ],
)
def test_a_busy_vault_is_asked_once(
    vault: dict[str, Any], person: Person, tmp_path: Path, head: bytes, reason: str, at_least: float, requests: int
) -> None:
    """The SDK retries no answer by itself, and hands on what the vault asks for."""
    with BusyVault(tmp_path, head) as busy:
        given = {**variables(vault, person), "AZURE_KEYVAULT_URL": busy.url, "SSL_CERT_FILE": str(busy.bundle)}
        with reading(given, tmp_path / "errors") as program:
            told = program.tell(name="rotated", times=100)
            assert told["first"]["reason"] == reason
            assert at_least <= told["first"]["retry_after"] <= at_least + 0.2
            assert len(busy.heads) == requests
            lines = busy.heads[0].decode().lower().split("\r\n")
            assert lines[0].startswith("get /secrets/rotated/?api-version=")
            assert f"x-keyleaf-activity: {','.join(f'order-{number}/charge' for number in range(3))}" in "\n".join(
                lines
            )
            (identifier,) = (line for line in lines if line.startswith("x-ms-client-request-id: "))
            assert is_guid(identifier.partition(" ")[2])


def test_a_busy_sign_in_service_is_asked_once(vault: dict[str, Any], person: Person, tmp_path: Path) -> None:
    with BusyVault(tmp_path, b"503 Service Unavailable") as busy:
        given = variables(vault, person)
        trusted = tmp_path / "trusted.pem"
        trusted.write_bytes(Path(given["SSL_CERT_FILE"]).read_bytes() + busy.bundle.read_bytes())
        given |= {"AZURE_AUTHORITY_HOST": busy.url, "SSL_CERT_FILE": str(trusted)}
        with reading(given, tmp_path / "errors") as program:
            assert program.tell(name="rotated", times=100)["first"]["reason"] == "sign-in failed"
            assert len(busy.heads) == 1
