"""Where orchestrations run: the engines that a tree's ``flow.json`` files name, or the one of the environment.

The payload key, and the engine's URL where that is a secret, are read from the vault with the identity of whoever runs
the command; both reads are in the audit log under that identity.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from keyleaf.cli.serve import state_directory
from keyleaf.core.errors import InputError, RemoteError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyleaf.orchestrate.definitions import Registry
    from keyleaf.orchestrate.engines.base import Control, InstanceView
    from keyleaf.orchestrate.payload import PayloadCodec

_NEEDED = ("flow", "module", "path", "orchestrator", "orchestratorSecret", "payloadKey", "vault", "vaults")


@dataclass
class Place:
    """One engine, and what is needed to act on it.

    Attributes:
        flow: ``namespace/name`` of the Orchestration; empty for the engine of the environment.
        state: state directory of the embedded Azure; None to sign in as the environment says.
        environment: KEYLEAF_VAULTS and AZURE_KEYVAULT_URL for reading secrets.
    """

    flow: str
    orchestrator: str
    orchestrator_secret: str = ""
    payload_key: str = ""
    module: str = ""
    path: str = ""
    state: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _control: Control | None = None
    _entered: bool = False

    @property
    def control(self) -> Control:
        """Looks at instances and acts on them. Raises InputError, EngineUnreachable."""
        if self._control is None:
            from keyleaf.orchestrate.engines.opening import open_control

            if not self.orchestrator and self.orchestrator_secret:
                self.orchestrator = self._read(self.orchestrator_secret)[1]
            self._control = open_control(self.orchestrator)
        return self._control

    def codec(self) -> PayloadCodec:
        """Seals and opens payloads. Raises InputError, RemoteError."""
        from keyleaf.orchestrate.payload import PayloadCodec

        if not self.payload_key:
            raise InputError(
                "KEYLEAF_PAYLOAD_KEY is not set", hint="name the secret that seals payloads as vault/name, or plain"
            )
        if self.payload_key == "plain":
            return PayloadCodec({})
        version, value = self._read(self.payload_key)
        codec = PayloadCodec({version: value})
        codec.asks(lambda wanted: self._read(self.payload_key, wanted)[1])
        return codec

    def registry(self) -> Registry:
        """The orchestrations of the module. Raises InputError."""
        from keyleaf.orchestrate.__main__ import load
        from keyleaf.orchestrate.definitions import REGISTRY

        if not self.module:
            raise InputError("it is not known what is to be started", hint="name the module: --module M --path P")
        load(self.module, self.path or None)
        return REGISTRY

    def close(self) -> None:
        """Let go of the engine."""
        if self._control is not None:
            self._control.close()

    def _read(self, name: str, version: str = "") -> tuple[str, str]:
        """Version and value of a secret, as whoever runs the command."""
        from keyleaf.cli.session import Options, connect
        from keyleaf.client.addresses import VaultAddresses
        from keyleaf.client.callers import Caller
        from keyleaf.client.reader import SecretReader
        from keyleaf.client.reference import SecretReference, secret
        from keyleaf.client.unavailable import SecretUnavailable
        from keyleaf.client.vault import AzureVaultConnection
        from keyleaf.core.clock import SystemClock

        if self.state is not None and not self._entered:
            connect(options=Options(self.state))
            self._entered = True
        logging.getLogger("keyleaf.client").setLevel(logging.CRITICAL)  # what it would say is said below
        found = secret(name)
        reference = SecretReference(found.vault, found.name, version or found.version, found.url, "use")

        async def read() -> tuple[str, str]:
            addresses = VaultAddresses.from_environment(self.environment)
            reader = SecretReader(AzureVaultConnection(), addresses, clock=SystemClock())
            try:
                reading = await reader.fetch(reference, caller=Caller("-", "keyleaf.flow"))
                return reading.version, reading.secret.reveal()
            finally:
                await reader.close()

        try:
            return asyncio.run(read())
        except SecretUnavailable as error:
            again = error.reason in ("away", "throttled")
            raise RemoteError(error.message, hint="try again" if again else error.hint) from None


@contextmanager
def places(state: Path | None, flow: str, orchestrator: str, module: str, path: str) -> Iterator[list[Place]]:
    """The engines that the command line, the environment or the tree names.

    Args:
        flow: ``namespace/name``, or the name alone; empty for all of the tree.

    Raises:
        InputError: none is named, or there is no such flow.
    """
    url = orchestrator or ("" if flow else os.environ.get("KEYLEAF_ORCHESTRATOR", ""))
    found = [_of_environment(url)] if url else _of_tree(state_directory(state).expanduser().absolute(), flow)
    for place in found:
        place.module, place.path = module or place.module, path or place.path
    try:
        yield found
    finally:
        for place in found:
            place.close()


def only(found: list[Place]) -> Place:
    """The one place. Raises InputError for more."""
    if len(found) > 1:
        raise InputError("the tree has several flows", hint=f"--flow {' or '.join(place.flow for place in found)}")
    return found[0]


def find(found: list[Place], instance: str) -> tuple[Place, InstanceView]:
    """Where an instance is. Raises InstanceNotFound."""
    from keyleaf.orchestrate.errors import EngineUnreachable, InstanceNotFound

    seen: list[tuple[Place, InstanceView]] = []
    away: EngineUnreachable | None = None
    for place in found:
        try:
            view = place.control.get(instance)
        except EngineUnreachable as error:
            away = away or error
            continue
        if view is not None:
            seen.append((place, view))
    if not seen:
        if away is not None:  # it may be there
            raise away
        raise InstanceNotFound(f"no instance is called {instance}", hint="keyleaf flow list shows them")
    if len(seen) > 1:
        flows = " or ".join(place.flow for place, _ in seen)
        raise InputError(f"several flows have an instance {instance}", hint=f"--flow {flows}")
    return seen[0]


def _of_environment(url: str) -> Place:
    names = ("KEYLEAF_VAULTS", "AZURE_KEYVAULT_URL")
    return Place(
        "",
        url,
        payload_key=os.environ.get("KEYLEAF_PAYLOAD_KEY", ""),
        environment={name: os.environ[name] for name in names if name in os.environ},
    )


def _of_tree(state: Path, wanted: str) -> list[Place]:
    found = [_read_place(file, state) for file in sorted((state / "flows").glob("*/flow.json"))]
    if not found:
        raise InputError(
            f"no orchestration runs in {state}, and no engine is named",
            hint="keyleaf up starts those of a tree; --orchestrator or KEYLEAF_ORCHESTRATOR names an engine",
        )
    kept = [place for place in found if wanted in ("", place.flow, place.flow.partition("/")[2])]
    if not kept:
        raise InputError(f"the tree has no flow {wanted}", hint=f"it has {', '.join(place.flow for place in found)}")
    return kept


def _read_place(file: Path, state: Path) -> Place:
    try:
        told = json.loads(file.read_bytes())
        missing = [key for key in _NEEDED if key not in told]
    except (OSError, ValueError, TypeError) as error:
        raise StateError(f"{file} cannot be read: {error}", hint="keyleaf up writes it again") from None
    if missing:
        raise StateError(f"{file} lacks {missing[0]}", hint="keyleaf up writes it again")
    vaults = {str(name): str(url) for name, url in told["vaults"].items()}
    environment = {"KEYLEAF_VAULTS": ",".join(f"{name}={url}" for name, url in vaults.items())}
    if told["vault"].lower() in vaults:
        environment["AZURE_KEYVAULT_URL"] = vaults[told["vault"].lower()]
    return Place(
        told["flow"],
        told["orchestrator"],
        told["orchestratorSecret"],
        told["payloadKey"],
        told["module"],
        told["path"],
        state,
        environment,
    )
