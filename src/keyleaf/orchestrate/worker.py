"""A worker: runs the orchestrations of this process, and starts and looks at instances."""

from __future__ import annotations

import asyncio
import os
import random
import secrets as token_source
import socket
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import msgspec

from keyleaf.client.addresses import VaultAddresses
from keyleaf.client.callers import Caller
from keyleaf.client.guard import SecretGuard
from keyleaf.client.logs import guard_logging
from keyleaf.client.reader import ReaderSettings, SecretReader
from keyleaf.client.reference import SecretReference, secret
from keyleaf.client.vault import AzureVaultConnection, VaultConnection
from keyleaf.core.clock import Clock, SystemClock
from keyleaf.core.errors import InputError
from keyleaf.orchestrate.attempt import ActivityRunner
from keyleaf.orchestrate.definitions import REGISTRY, OrchestrationDefinition, Registry
from keyleaf.orchestrate.driver import input_purpose, output_purpose
from keyleaf.orchestrate.engines.base import ENDED, Control, EngineContext, InstanceView, Start
from keyleaf.orchestrate.engines.carrying import carry
from keyleaf.orchestrate.engines.opening import open_orchestrator
from keyleaf.orchestrate.envelope import Envelope, ErrorBody
from keyleaf.orchestrate.errors import (
    CallError,
    InstanceCancelled,
    InstanceInUse,
    InstanceNotFound,
    OrchestrationFailed,
)
from keyleaf.orchestrate.outcomes import Message, event_purpose
from keyleaf.orchestrate.payload import LIMIT, PayloadCodec, from_json, to_json
from keyleaf.orchestrate.words import Orchestration

ORCHESTRATOR = "KEYLEAF_ORCHESTRATOR"
PAYLOAD_KEY = "KEYLEAF_PAYLOAD_KEY"
MAX_PAYLOAD = "KEYLEAF_MAX_PAYLOAD"
_LONGEST_ID = 256


class Worker:
    """Runs orchestrations on the engine that ``KEYLEAF_ORCHESTRATOR`` names.

    Use it as ``async with Worker() as worker``.

    Args:
        orchestrator: the engine's URL; from the environment if left out.
        registry: what was declared; everything in this process if left out.
        payload_key: ``vault/name`` or URL of the secret that seals payloads, ``plain`` for none; from the environment
            if left out.
        connection: how vaults are asked; Microsoft's SDK with DefaultAzureCredential if left out.
        environment: where settings are looked up.
        clock: source of time.
        jitter: 0 to 1, for backoffs.

    Raises:
        InputError: a setting is missing or cannot be used.
        EngineUnreachable: the engine does not answer.
        DefinitionError: the engine cannot do what an orchestration declares.
    """

    def __init__(
        self,
        orchestrator: str = "",
        *,
        registry: Registry = REGISTRY,
        payload_key: str = "",
        connection: VaultConnection | None = None,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        jitter: Any = random.random,
        name: str = "",
    ) -> None:
        self._environment = os.environ if environment is None else environment
        self._url = orchestrator or self._environment.get(ORCHESTRATOR, "")
        self._payload_key = payload_key or self._environment.get(PAYLOAD_KEY, "")
        self.registry = registry
        self.clock = clock or SystemClock()
        self.guard = SecretGuard()
        self._jitter = jitter
        self._connection = connection
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{token_source.token_hex(3)}"
        self._undo_logging: Any = None
        self.reader: SecretReader | None = None
        self.codec = PayloadCodec({})

    async def __aenter__(self) -> Worker:
        self.engine = open_orchestrator(self._url)
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _begin(self) -> None:
        self.engine.check(self.registry)
        self._undo_logging = guard_logging(self.guard)
        addresses = VaultAddresses.from_environment(self._environment)
        self.reader = SecretReader(
            self._connection or AzureVaultConnection(),
            addresses,
            settings=ReaderSettings(quiet=self.engine.quiet),
            clock=self.clock,
            jitter=self._jitter,
        )
        self.codec = await self._open_codec()
        runner = ActivityRunner(
            self.registry,
            self.codec,
            self.guard,
            self.reader,
            self.clock,
            worker=self.name,
            identity=self._environment.get("AZURE_CLIENT_ID", ""),
            owner=self._environment.get("KEYLEAF_OWNER", "") or self._environment.get("KEYLEAF_APPLICATION", ""),
            jitter=self._jitter,
        )
        context = EngineContext(self.registry, runner, self.codec, self.reader, self.name, self.clock, self.guard)
        await self.engine.serve(context)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.engine.stop()
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        if self.reader is not None:
            await self.reader.close()
        if self._undo_logging is not None:
            self._undo_logging()

    async def _open_codec(self) -> PayloadCodec:
        limit = _limit(self._environment.get(MAX_PAYLOAD, ""))
        if not self._payload_key:
            raise InputError(
                f"{PAYLOAD_KEY} is not set",
                hint="name the secret that seals payloads as vault/name, or set it to plain to keep them in the clear",
            )
        if self._payload_key == "plain":
            return PayloadCodec({}, guard=self.guard, limit=limit)
        reference = secret(self._payload_key)
        assert self.reader is not None
        reading = await self.reader.fetch(reference, caller=Caller("-", "keyleaf.payload-key"))
        self.guard.hold(reference.label, reading.secret.reveal())
        codec = PayloadCodec({reading.version: reading.secret.reveal()}, guard=self.guard, limit=limit)
        self._key_reference: SecretReference = reference
        codec.asks(self._older_key)
        return codec

    def _older_key(self, version: str) -> str:
        """Another version of the payload key, for payloads that were sealed with it. Called on other threads too."""
        return read_secret_now(
            SecretReference(
                self._key_reference.vault, self._key_reference.name, version, self._key_reference.url, "use"
            ),
            self._environment,
            self._connection,
            self.clock,
        )

    # Instances.

    async def start(
        self,
        orchestration: Orchestration[Any] | str,
        *args: Any,
        instance: str = "",
        tags: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> str:
        """Start an instance and return its id.

        The same start with the same id again is the same instance, however often it is said.

        Raises:
            InstanceInUse: the id belongs to another orchestration or other arguments.
            CallError: the arguments are not what is declared.
        """
        definition = self._definition(orchestration)
        chosen = instance or f"{definition.name}-{token_source.token_hex(8)}"
        start = new_start(definition, chosen, args, kwargs, tags or {}, self.codec, self.clock.now())
        queue = definition.queue.name if definition.queue is not None else ""
        try:
            await self.engine.begin(chosen, start, queue)
        except InstanceInUse:
            await asyncio.to_thread(require_same_start, self.engine.control, self.codec, chosen, start)
        return chosen

    async def run(
        self,
        orchestration: Orchestration[Any] | str,
        *args: Any,
        instance: str = "",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Start an instance, wait until it has ended, and return its result. Raises as :meth:`result` does."""
        return await self.result(await self.start(orchestration, *args, instance=instance, **kwargs), timeout)

    async def result(self, instance: str, timeout: float | None = None) -> Any:
        """The result of an instance, when it has ended.

        Raises:
            OrchestrationFailed: it failed.
            InstanceCancelled: it was cancelled or terminated.
            TimeoutError: it has not ended within ``timeout`` seconds.
        """
        view = await self.engine.result(instance, timeout)
        return result_of(view, self.codec, self.registry)

    async def get(self, instance: str) -> InstanceView:
        """The instance as it stands. Raises InstanceNotFound."""
        view = await asyncio.to_thread(self.engine.control.get, instance)
        if view is None:
            raise InstanceNotFound(f"no instance is called {instance}")
        return view

    async def signal(self, instance: str, event: str, value: Any = None) -> None:
        """Send an external event. Raises InstanceNotFound, CallError."""
        await asyncio.to_thread(send_event, self.engine.control, self.codec, instance, event, value, self.clock.now())

    async def cancel(self, instance: str, reason: str = "") -> None:
        """Ask an instance to end; it may undo things first."""
        self.codec.check(reason, f"{instance}: the reason")
        await asyncio.to_thread(act, self.engine.control, instance, "cancel", reason)

    async def terminate(self, instance: str, reason: str = "") -> None:
        """End an instance where it stands."""
        self.codec.check(reason, f"{instance}: the reason")
        await asyncio.to_thread(act, self.engine.control, instance, "terminate", reason)

    async def suspend(self, instance: str, reason: str = "") -> None:
        """Stop an instance at its next step until it is resumed."""
        self.codec.check(reason, f"{instance}: the reason")
        await asyncio.to_thread(act, self.engine.control, instance, "suspend", reason)

    async def resume(self, instance: str) -> None:
        """Let a suspended instance go on."""
        await asyncio.to_thread(act, self.engine.control, instance, "resume", "")

    async def restart(self, instance: str, restart_at: str, *, new_instance: str = "") -> str:
        """Start a new instance that takes over the results before a step. Returns its id."""
        return await asyncio.to_thread(
            restart,
            self.engine.control,
            self.registry,
            self.codec,
            instance,
            restart_at,
            new_instance,
            self.clock.now(),
        )

    def _definition(self, orchestration: Orchestration[Any] | str) -> OrchestrationDefinition:
        if isinstance(orchestration, Orchestration):
            return orchestration.definition
        return self.registry.orchestration(orchestration)


def new_start(
    definition: OrchestrationDefinition,
    instance: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    tags: Mapping[str, str],
    codec: PayloadCodec,
    now: float,
) -> Start:
    """What an engine keeps of a new instance."""
    codec.check(instance, "the instance id")
    require_instance_id(instance)
    what = f"{instance}: the input of orchestration {definition.name}"
    data = definition.parameters.encode(args, kwargs, what)
    for key, value in tags.items():
        codec.check(f"{key}={value}", f"{instance}: a tag")
    payload = codec.seal(data, input_purpose(instance), what)
    return Start(definition.name, definition.version, now, payload, tags=dict(tags))


def require_instance_id(instance: str) -> None:
    """Raises CallError unless engines and the audit log can carry the id."""
    if not instance or len(instance) > _LONGEST_ID or not instance.isprintable() or instance != instance.strip():
        raise CallError(
            f"{instance[:40]!r} cannot be an instance id", hint=f"use 1 to {_LONGEST_ID} printable characters"
        )


def require_same_start(control: Control, codec: PayloadCodec, instance: str, start: Start) -> None:
    """Raises InstanceInUse unless the instance was started in the same way."""
    view = control.get(instance)
    known = view.start if view is not None else None
    if known is None or known.name != start.name:
        what = f"a run of {known.name}" if known is not None else "of something else"
    elif codec.open(known.payload, input_purpose(instance)) != codec.open(start.payload, input_purpose(instance)):
        what = f"a run of {known.name} with other arguments"
    else:
        return
    raise InstanceInUse(f"instance {instance} exists already: {what}", hint="choose another id")


def result_of(view: InstanceView, codec: PayloadCodec, registry: Registry) -> Any:
    """The result of an instance that has ended, or its error raised."""
    if view.state == "terminated":
        raise InstanceCancelled(f"{view.instance} was terminated")
    if view.error.startswith("engine: "):
        raise OrchestrationFailed(view.instance, "engine", view.error.removeprefix("engine: "))
    ended = msgspec.json.decode(view.result or view.error, type=Envelope)
    data = codec.open(ended.body, output_purpose(view.instance))
    if ended.kind == "value":
        version = view.version or ""
        return from_json(
            data, registry.orchestration(view.name, version).parameters.result, f"the result of {view.instance}"
        )
    error = msgspec.json.decode(data, type=ErrorBody)
    if ended.kind == "cancelled":
        raise InstanceCancelled(error.message)
    raise OrchestrationFailed(view.instance, error.type, error.message, details=error.details)


def send_event(
    control: Control, codec: PayloadCodec, instance: str, event: str, value: Any, now: float
) -> InstanceView:
    """Send an external event; returns the instance as it stood."""
    codec.check(event, f"{instance}: the name of an event")
    view = control.get(instance)
    if view is None:
        raise InstanceNotFound(f"no instance is called {instance}")
    if view.state in ENDED:
        raise InstanceNotFound(f"{instance} has ended ({view.state}); nobody would hear event {event}")
    data = to_json(value, f"event {event}")
    message = Message(event, now, codec.seal(data, event_purpose(instance, event), f"{instance}: event {event}"))
    control.signal(instance, event, msgspec.json.encode(message).decode())
    return view


def act(control: Control, instance: str, verb: str, reason: str) -> None:
    """Cancel, terminate, suspend or resume an instance. Raises InstanceNotFound, CallError."""
    view = control.get(instance)
    if view is None:
        raise InstanceNotFound(f"no instance is called {instance}")
    if view.state in ENDED:
        raise CallError(f"{instance} has ended ({view.state}); it cannot be {_DONE[verb]}")
    if verb == "resume":
        if view.state != "suspended":
            raise CallError(f"{instance} is {view.state}, not suspended")
        control.resume(instance)
    elif verb == "suspend" and view.state == "suspended":
        raise CallError(f"{instance} is suspended already")
    else:
        getattr(control, verb)(instance, reason)


_DONE = {"cancel": "cancelled", "terminate": "terminated", "suspend": "suspended", "resume": "resumed"}


def restart(
    control: Control,
    registry: Registry | None,
    codec: PayloadCodec,
    instance: str,
    restart_at: str,
    new_instance: str,
    now: float,
) -> str:
    """Start a new instance with the input of another one and its results before a step."""
    view = control.get(instance)
    if view is None or view.start is None:
        raise InstanceNotFound(f"no instance is called {instance}")
    if view.state not in ENDED:
        raise CallError(f"{instance} is {view.state}", hint="cancel or terminate it first")
    carried = carry(instance, control.steps(instance), restart_at, view.start.carried)
    chosen = new_instance or f"{instance}~{token_source.token_hex(3)}"
    codec.check(chosen, "the instance id")
    require_instance_id(chosen)
    data = codec.open(view.start.payload, input_purpose(instance))
    start = Start(
        view.start.name,
        view.start.version,
        view.start.created,
        codec.seal(data, input_purpose(chosen)),
        tags={**view.start.tags, "restarted-from": instance},
        carried=carried,
    )
    queue = ""
    if registry is not None:
        definition = registry.orchestration(start.name, start.version)
        queue = definition.queue.name if definition.queue is not None else ""
    control.start(chosen, start, queue)
    return chosen


def read_secret_now(
    reference: SecretReference, environment: Mapping[str, str], connection: VaultConnection | None, clock: Clock
) -> str:
    """Read a secret from a thread that has no loop."""

    async def read() -> str:
        reader = SecretReader(
            connection or AzureVaultConnection(), VaultAddresses.from_environment(environment), clock=clock
        )
        try:
            reading = await reader.fetch(reference, caller=Caller("-", "keyleaf.payload-key"))
            return reading.secret.reveal()
        finally:
            if connection is None:
                await reader.close()

    result: list[str] = []
    failure: list[BaseException] = []

    def in_thread() -> None:
        try:
            result.append(asyncio.run(read()))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _limit(text: str) -> int:
    if not text:
        return LIMIT
    if not text.isdigit() or int(text) < 1024:
        raise InputError(f"{MAX_PAYLOAD} is {text!r}", hint="give a number of bytes, at least 1024")
    return int(text)
