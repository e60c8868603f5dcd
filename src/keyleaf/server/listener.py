"""Sockets: one for the management endpoint, one per vault, opened and closed while the server runs."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from pathlib import Path

import msgspec
import uvicorn

from keyleaf.core.errors import InputError, StateError
from keyleaf.server.endpoints import LOOPBACK, Endpoints
from keyleaf.server.protocol import StrictProtocol
from keyleaf.server.tls import Certificates
from keyleaf.store import write_private

log = logging.getLogger("keyleaf.server")

_BACKLOG = 1024
_KEEP_ALIVE_SECONDS = 75
_STOP_SECONDS = 5


class _Ports(msgspec.Struct):
    """``ports.json``: what was used last time, to be used again."""

    main: int = 0
    vaults: dict[str, int] = msgspec.field(default_factory=dict)


class PortBook:
    """The ports of this state directory."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._ports = msgspec.json.decode(path.read_bytes(), type=_Ports)
        except FileNotFoundError:
            self._ports = _Ports()
        except (OSError, msgspec.DecodeError):
            raise StateError(f"{path} cannot be read", hint="remove it: new ports are chosen") from None

    def bind_main(self, wanted: int) -> socket.socket:
        """The main socket: on the port asked for, else on the last one, else on a free one."""
        if wanted:
            try:
                bound = _bind(wanted)
            except OSError as error:
                raise InputError(
                    f"port {wanted} cannot be used: {error.strerror}", hint="--port 0 takes a free one"
                ) from None
        else:
            bound = _bind_again(self._ports.main, "the management endpoint")
        self._ports.main = bound.getsockname()[1]
        self._save()
        return bound

    def bind_vault(self, vault: str) -> socket.socket:
        """A vault's socket."""
        key = vault.lower()
        bound = _bind_again(self._ports.vaults.get(key, 0), f"vault {vault}")
        if self._ports.vaults.get(key) != bound.getsockname()[1]:
            self._ports.vaults[key] = bound.getsockname()[1]
            self._save()
        return bound

    def _save(self) -> None:
        write_private(self._path, msgspec.json.encode(self._ports))


class Listener:
    """Serves an ASGI application on several loopback ports with one certificate."""

    def __init__(self, application: object, certificates: Certificates) -> None:
        self._config = uvicorn.Config(
            application,  # type: ignore[arg-type]
            http=StrictProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ssl_certfile=str(certificates.certificate),
            ssl_keyfile=str(certificates.key),
        )
        # One line for each malformed request would let anybody on the host fill the log.
        logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
        self._server = uvicorn.Server(self._config)
        self._extra: dict[str, asyncio.Server] = {}
        self._running: asyncio.Task[None] | None = None

    async def start(self, main: socket.socket) -> None:
        """Serve on the main socket; returns when it accepts connections."""
        self._config.load()
        if self._config.ssl is not None:
            import ssl

            self._config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._running = asyncio.create_task(self._server._serve([main]))
        while not self._server.started and not self._running.done():  # noqa: ASYNC110 (uvicorn tells by a flag)
            await asyncio.sleep(0.005)
        if self._running.done():
            await self._running

    async def add(self, vault: str, bound: socket.socket) -> None:
        """Serve a vault on its socket as well."""
        loop = asyncio.get_running_loop()

        def connection() -> asyncio.Protocol:
            return StrictProtocol(config=self._config, server_state=self._server.server_state, app_state={}, _loop=loop)

        self._extra[vault.lower()] = await loop.create_server(
            connection, sock=bound, ssl=self._config.ssl, backlog=_BACKLOG
        )

    def remove(self, vault: str) -> None:
        """Stop accepting connections for a vault."""
        found = self._extra.pop(vault.lower(), None)
        if found is not None:
            found.close()

    async def stop(self) -> None:
        """Stop accepting, let the running requests end, close."""
        for server in self._extra.values():
            server.close()
        for connection in list(self._server.server_state.connections):
            # An idle TLS connection would wait for its client's farewell.
            if isinstance(connection, StrictProtocol) and connection.idle:
                connection.transport.abort()
        self._server.should_exit = True
        if self._running is not None:
            await self._running


class VaultPorts:
    """Keeps the vaults' sockets in step with the vaults that exist.

    A port is reserved when a vault's URL is first asked for, so that the answer that makes a vault can name it; it is
    listened on before that answer leaves.
    """

    def __init__(self, book: PortBook, endpoints: Endpoints) -> None:
        self._book = book
        self._endpoints = endpoints
        self._reserved: dict[str, socket.socket] = {}
        self._serving: set[str] = set()
        self._lock = threading.Lock()
        self._following = asyncio.Lock()

    def uri(self, vault: str) -> str:
        """The data plane's URL of a vault; from any thread."""
        with self._lock:
            found = self._endpoints.vault_uri(vault)
            if not found:
                bound = self._book.bind_vault(vault)
                self._reserved[vault.lower()] = bound
                self._endpoints.add(bound.getsockname()[1], vault)
                found = self._endpoints.vault_uri(vault)
            return found

    async def follow(self, listener: Listener, names: set[str]) -> bool:
        """Listen for the vaults that exist, and for no others; says whether anything changed."""
        async with self._following:
            wanted = {name.lower(): name for name in names}
            changed = wanted.keys() != self._serving
            for key in wanted.keys() - self._serving:
                self.uri(wanted[key])
                with self._lock:
                    bound = self._reserved.pop(key)
                await listener.add(key, bound)
                self._serving.add(key)
            for key in self._serving - wanted.keys():
                listener.remove(key)
                self._endpoints.remove(key)
            self._serving &= wanted.keys()
            return changed


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, port))
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _bind_again(last: int, what: str) -> socket.socket:
    if last:
        try:
            return _bind(last)
        except OSError:
            log.warning("port %s of %s is taken by another program; a new one is chosen", last, what)
    return _bind(0)
