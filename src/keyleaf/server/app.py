"""Builds the server of a state directory out of the rooms, runs it, and keeps it in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keyleaf.core.clock import Clock, Randomness, SystemClock, SystemRandomness
from keyleaf.core.errors import InputError, LedgerError
from keyleaf.identity import IdentityService, IssuerKeys, PublicKeys, SigningKeys, TokenVerifier
from keyleaf.identity import operations as identity_operations
from keyleaf.ledger import Checkpoint, Ed25519Signer, Ledger, open_note, verifier_key
from keyleaf.resources import operations as resource_operations
from keyleaf.server.answers import answer
from keyleaf.server.bootstrap import LOCATION, RESOURCE_GROUP, Installation, ensure_installation, log_signing_key
from keyleaf.server.endpoints import Endpoints
from keyleaf.server.hot import HotReads, is_read
from keyleaf.server.listener import Listener, PortBook, VaultPorts
from keyleaf.server.pipeline import Pipeline
from keyleaf.server.published import read_document
from keyleaf.server.requests import Receive, Scope, Send
from keyleaf.server.tls import Certificates, provide
from keyleaf.store import Database, Keyring, StateDirectory, StateLock, raw_connection, sqlite_url, write_private
from keyleaf.store.rootkey import Provider, open_keyring
from keyleaf.vault import list_vaults, purge_due
from keyleaf.vault import operations as vault_operations

log = logging.getLogger("keyleaf.server")

LOG_ORIGIN = "keyleaf.dev/audit"
ISSUER = "local"
HOUSEKEEPING_SECONDS = 60.0
FOLLOW_SECONDS = 0.05


@dataclass(frozen=True)
class ServerSettings:
    """How a server is run.

    Attributes:
        database_url: empty for SQLite in the state directory.
        vault_domain: vaults also answer at ``<vault>.<vault_domain>``; empty for none.
        imds: answer the instance metadata dialect, which anybody on the host may call.
        root_key: where the root key comes from; None as the installation was made.
        constant: answer ``GET /constant`` on every port, for measuring against.
    """

    port: int = 0
    database_url: str = ""
    vault_domain: str = ""
    imds: bool = False
    root_key: Provider | None = None
    constant: bool = False


class Server:
    """One running server. Make it with :func:`serve`."""

    def __init__(
        self,
        state: StateDirectory,
        settings: ServerSettings,
        pipeline: Pipeline,
        installation: Installation,
        endpoints: Endpoints,
        certificates: Certificates,
        signing_keys: SigningKeys,
        ports: VaultPorts,
    ) -> None:
        self.state = state
        self.settings = settings
        self.pipeline = pipeline
        self.installation = installation
        self.endpoints = endpoints
        self.certificates = certificates
        self._signing_keys = signing_keys
        self._hot = HotReads(pipeline)
        self._listener: Listener | None = None
        self._ports = ports
        self._followed = -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            return
        if is_read(scope):
            done = await self._hot.answer(scope)
            if done is not None:
                await send({"type": "http.response.start", "status": done.status, "headers": done.headers})
                await send({"type": "http.response.body", "body": done.body})
                return
        path: str = scope["path"]
        if path.startswith(("/oidc/", "/healthz", "/constant")) and await self._small(path, scope, send):
            return
        known = self.pipeline.caches
        await self.pipeline(
            scope, receive, self._following(send) if scope["method"] in ("PUT", "DELETE", "POST") else send
        )
        if self.pipeline.caches is not known:
            await self.follow()

    def _following(self, send: Send) -> Send:
        """Open a new vault's port before the answer that names it leaves."""

        async def wrapped(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                await self.follow()
            await send(message)

        return wrapped

    async def _small(self, path: str, scope: Scope, send: Send) -> bool:
        """Health, published issuer documents, and the constant to measure against."""
        body: bytes | None = None
        status = 200
        if path == "/healthz":
            status = 200 if self.pipeline.ledger.healthy else 503
            body = b'{"status":"ready"}' if status == 200 else b'{"status":"the audit log is off"}'
        elif path == "/constant" and self.settings.constant:
            body = b'{"constant":true}'
        elif path.startswith("/oidc/"):
            body = read_document(self.state.oidc, path)
        if body is None or scope["method"] not in ("GET", "HEAD"):
            return False
        done = answer(status, body, {"Content-Type": "application/json"}, None, "-")
        await send({"type": "http.response.start", "status": done.status, "headers": done.headers})
        await send({"type": "http.response.body", "body": done.body if scope["method"] == "GET" else b""})
        return True

    async def follow(self) -> None:
        """Bring the vaults' ports in step with the vaults, if anything has changed."""
        generation = self.pipeline.caches.generation
        if self._listener is None or generation == self._followed:
            return
        names = await asyncio.to_thread(self._vault_names)
        self._followed = generation
        if await self._ports.follow(self._listener, names):
            self.write_connection()

    def _vault_names(self) -> set[str]:
        with self.pipeline.database.read() as connection:
            return {vault.name for vault in list_vaults(connection)}

    def _current_generation(self) -> int:
        with self.pipeline.database.read() as connection:
            return Ledger.current_generation(raw_connection(connection))

    def write_connection(self) -> None:
        """Write ``connection.json``: where this server is, for the command line and for tests."""
        authority = self.endpoints.authority
        document = {
            "version": 1,
            "authority": authority,
            "arm": authority,
            "tenant_id": self.installation.tenant_id,
            "subscription_id": self.installation.subscription_id,
            "resource_group": RESOURCE_GROUP,
            "location": LOCATION,
            "ca_bundle": str(self.certificates.bundle),
            "issuer": f"{authority}/oidc/{ISSUER}",
            "operator_client_id": self.installation.operator_client_id,
            "vaults": {name: f"https://127.0.0.1:{port}" for port, name in sorted(self.endpoints.vaults.items())},
            "pid": os.getpid(),
        }
        write_private(self.state.connection, json.dumps(document, indent=2).encode() + b"\n")

    async def housekeeping(self) -> None:
        """Purge what is due, renew signing keys, sign checkpoints, notice other processes' changes; until cancelled."""
        last = self.pipeline.clock.monotonic()
        while True:
            await asyncio.sleep(FOLLOW_SECONDS if self.pipeline.database.dialect == "postgresql" else 1.0)
            try:
                if self.pipeline.database.dialect == "postgresql":
                    self.pipeline.renew(await asyncio.to_thread(self._current_generation))
                    await self.follow()
                await asyncio.to_thread(self.pipeline.database.trim)
                if self.pipeline.clock.monotonic() - last >= HOUSEKEEPING_SECONDS:
                    last = self.pipeline.clock.monotonic()
                    await asyncio.to_thread(self.tidy)
            except LedgerError as error:
                log.error("%s", error)
            except Exception as error:
                log.error("housekeeping failed: %s", type(error).__name__)

    def tidy(self) -> None:
        """One round of housekeeping."""
        now = self.pipeline.clock.now()
        with self.pipeline.database.read() as connection:
            renew = self._signing_keys.needs_upkeep(connection, now)
        with self.pipeline.database.write() as connection:
            purge_due(connection, now)
            if renew:
                self._signing_keys.maintain(connection, now)
        self.pipeline.ledger.checkpoint()

    @contextlib.asynccontextmanager
    async def running(self, main: socket.socket) -> AsyncIterator[None]:
        """Serve for the time of the block."""
        self._listener = Listener(self, self.certificates)
        await self._listener.start(main)
        await self.follow()
        self.write_connection()
        housekeeper = asyncio.create_task(self.housekeeping())
        try:
            yield
        finally:
            housekeeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await housekeeper
            await self._listener.stop()
            with contextlib.suppress(FileNotFoundError):
                self.state.connection.unlink()


@contextlib.asynccontextmanager
async def serve(
    root: Path,
    settings: ServerSettings,
    *,
    clock: Clock | None = None,
    randomness: Randomness | None = None,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> AsyncIterator[Server]:
    """Run the server of a state directory for the time of the block.

    Raises:
        StateError: the directory is in use, or cannot be used with this root key.
        LedgerError: the audit log does not fit its own checkpoints.
        InputError: the port or the database URL cannot be used.
    """
    clock = clock or SystemClock()
    randomness = randomness or SystemRandomness()
    state = StateDirectory.open(root)
    with contextlib.ExitStack() as held:
        held.enter_context(StateLock.hold(state.lock))
        certificates = provide(state.tls, settings.vault_domain, clock.now())
        book = PortBook(state.ports)
        main = book.bind_main(settings.port)
        held.callback(main.close)
        endpoints = Endpoints(main.getsockname()[1], settings.vault_domain.lower())
        url = settings.database_url or sqlite_url(state.database)
        database = Database.open(url)
        held.callback(database.close)
        database.migrate()
        with database.write() as connection:
            keyring = open_keyring(
                connection, state, randomness, provider=settings.root_key, environment=environment, ask=ask
            )
            installation = ensure_installation(
                connection,
                randomness,
                authority=endpoints.authority,
                issuer=f"{endpoints.authority}/oidc/{ISSUER}",
                shared=database.dialect == "postgresql",
                now=clock.now(),
            )
            private = log_signing_key(connection, keyring, randomness)
        ledger = open_ledger(state, url, private, database)
        held.callback(ledger.close)
        server = _assemble(
            state,
            settings,
            database,
            keyring,
            ledger,
            installation,
            endpoints,
            certificates,
            VaultPorts(book, endpoints),
            clock,
            randomness,
        )
        held.callback(server.pipeline.close)
        async with server.running(main):
            yield server


def open_ledger(state: StateDirectory, url: str, private_key: bytes, database: Database) -> Ledger:
    """Open the audit log; its last checkpoint is also kept as a file beside the database."""
    signer = Ed25519Signer(LOG_ORIGIN, private_key)
    vkey = verifier_key(signer.name, signer.public_key)
    kept = state.root / "ledger.checkpoint"
    write_private(state.root / "ledger.vkey", f"{vkey}\n".encode())
    known: Checkpoint | None = None
    if kept.exists():
        try:
            known = open_note(kept.read_text(encoding="utf-8"), vkey)
        except (InputError, UnicodeDecodeError):
            raise LedgerError(f"{kept} is not a checkpoint of this log", hint="keyleaf audit verify") from None
    return Ledger.open(
        url,
        signer=signer,
        origin=LOG_ORIGIN,
        writer_lock=database.writer_lock if database.dialect == "sqlite" else None,
        known=known,
        on_checkpoint=lambda note: write_private(kept, note.encode()),
    )


def _assemble(
    state: StateDirectory,
    settings: ServerSettings,
    database: Database,
    keyring: Keyring,
    ledger: Ledger,
    installation: Installation,
    endpoints: Endpoints,
    certificates: Certificates,
    ports: VaultPorts,
    clock: Clock,
    randomness: Randomness,
) -> Server:
    signing_keys = SigningKeys(keyring)
    with database.write() as connection:
        signing_keys.maintain(connection, clock.now())

    def published() -> list[dict[str, object]]:
        with database.read() as reading:
            return signing_keys.published(reading, clock.now())

    service = IdentityService(
        default_tenant=installation.tenant_id,
        authority=installation.authority,
        signing_keys=signing_keys,
        issuer_keys=IssuerKeys(clock, ca_bundle=certificates.authority),
        randomness=randomness,
        is_resource=endpoints.is_resource,
        imds_allowed=settings.imds,
    )
    pipeline = Pipeline(
        database=database,
        keyring=keyring,
        ledger=ledger,
        verifier=TokenVerifier(
            PublicKeys(published), authority=installation.authority, tenants=[installation.tenant_id]
        ),
        endpoints=endpoints,
        operations=[
            *vault_operations(keyring, randomness),
            *resource_operations(keyring, randomness, ports.uri),
            *identity_operations(service),
        ],
        tenant=installation.tenant_id,
        clock=clock,
        randomness=randomness,
    )
    return Server(state, settings, pipeline, installation, endpoints, certificates, signing_keys, ports)
