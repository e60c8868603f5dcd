"""Just-in-time secrets for functions that another framework runs, for example activities of Azure Durable Functions.

    @app.activity_trigger(input_name="order")
    @with_secrets(key=secret("payments/stripe-api-key"))
    def charge(order: dict, key: Secret) -> str: ...

Rules:
    - A function is read for when it is called; nothing is kept between calls. All functions of a process share one
      reader: reads are coalesced, and a vault that is away is left alone.
    - What is read is held by the process's guard. Neither the result nor an error of the function leaves with it.
    - The framework sees a function without the parameters that are filled in: Azure Functions binds each parameter that
      the signature shows to a trigger or binding of that name, and refuses to load a function where it finds none
      (https://learn.microsoft.com/azure/azure-functions/functions-reference-python#triggers-and-inputs).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import os
import random
import threading
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from keyleaf.client.addresses import VaultAddresses
from keyleaf.client.callers import Caller
from keyleaf.client.guard import SecretGuard
from keyleaf.client.reader import SecretReader
from keyleaf.client.reading import Reading
from keyleaf.client.reference import SecretReference
from keyleaf.client.unavailable import SecretUnavailable
from keyleaf.client.vault import AzureVaultConnection, VaultConnection
from keyleaf.core.clock import Clock, SystemClock
from keyleaf.core.secret import CURRENT_ACTIVITY, Secret, SecretEscape
from keyleaf.orchestrate.definitions import AuthenticationErrors, authentication_errors_of
from keyleaf.orchestrate.errors import ActivityFailed, CallError, DefinitionError

Readings = dict[str, Reading]


class JustInTime:
    """Reads secrets for the functions of one process, whichever threads and loops they run on.

    Args:
        connect: makes the connection to the vaults, when it is first needed.
        environment: where settings are looked up.
        clock: source of time.
        jitter: 0 to 1, for backoffs.
    """

    def __init__(
        self,
        connect: Callable[[], VaultConnection] = AzureVaultConnection,
        *,
        environment: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._connect = connect
        self._environment = os.environ if environment is None else environment
        self._clock = clock or SystemClock()
        self._jitter = jitter
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reader: SecretReader | None = None
        self.guard = SecretGuard()

    def with_secrets(
        self, *, authentication_errors: AuthenticationErrors = (), **secrets: SecretReference
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """See :func:`with_secrets`."""

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            _require_usable(function, secrets)
            rejected = authentication_errors_of(f"function {function.__qualname__}", authentication_errors)
            run = _Run(self, function.__name__, secrets, rejected)
            call = _asynchronous(run, function) if inspect.iscoroutinefunction(function) else _plain(run, function)
            _hide(call, function, frozenset(secrets))
            return call

        return decorate

    def read(self, secrets: Mapping[str, SecretReference], caller: Caller) -> concurrent.futures.Future[Readings]:
        """The secrets as the vault has them now. The future raises SecretUnavailable."""
        loop, reader = self._running()

        async def fetch() -> Readings:
            fetches = [reader.fetch(reference, caller=caller) for reference in secrets.values()]
            found = await asyncio.gather(*fetches, return_exceptions=True)
            readings: Readings = {}
            for name, reading in zip(secrets, found, strict=True):
                if isinstance(reading, BaseException):
                    raise reading
                self.guard.hold(reading.reference.label, reading.secret.reveal())
                readings[name] = reading
            return readings

        return asyncio.run_coroutine_threadsafe(fetch(), loop)

    def close(self) -> None:
        """Give up reads on their way and end the thread."""
        with self._lock:
            loop, reader, self._loop, self._reader = self._loop, self._reader, None, None
        if loop is not None and reader is not None:
            asyncio.run_coroutine_threadsafe(reader.close(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    def _running(self) -> tuple[asyncio.AbstractEventLoop, SecretReader]:
        with self._lock:
            if self._loop is None or self._reader is None:
                addresses = VaultAddresses.from_environment(self._environment)
                self._reader = SecretReader(self._connect(), addresses, clock=self._clock, jitter=self._jitter)
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="keyleaf-secrets", daemon=True).start()
            return self._loop, self._reader


class _Run:
    """What every call of one function does before and after it."""

    def __init__(
        self,
        just_in_time: JustInTime,
        name: str,
        secrets: Mapping[str, SecretReference],
        rejected: AuthenticationErrors,
    ) -> None:
        self._just_in_time = just_in_time
        self._name = name
        self._secrets = secrets
        self._rejected = rejected

    @contextmanager
    def named(self) -> Iterator[None]:
        """Errors of secrets name the function meanwhile."""
        token = CURRENT_ACTIVITY.set(self._name)
        try:
            yield
        finally:
            CURRENT_ACTIVITY.reset(token)

    def read(self) -> concurrent.futures.Future[Readings]:
        """The secrets as they are now."""
        return self._just_in_time.read(self._secrets, Caller(self._name, self._name))

    def given(self, readings: Readings) -> dict[str, Secret]:
        """The function's secret parameters."""
        return {name: Secret(each.secret.reveal(), each.reference.label) for name, each in readings.items()}

    def rejects(self, error: Exception) -> bool:
        """Whether the error says that a credential is not accepted."""
        if isinstance(error, SecretEscape | CallError):
            return False
        declared = self._rejected
        return isinstance(error, declared) if isinstance(declared, tuple | type) else bool(declared(error))

    def superseded(self, readings: Readings, fresh: Readings) -> bool:
        """Whether one of the secrets has a newer version."""
        return any(fresh[name].version != each.version for name, each in readings.items())

    def failed(self, error: Exception) -> Exception:
        """The error as it may leave."""
        if isinstance(error, SecretEscape | CallError) and self._just_in_time.guard.find(error) is None:
            return error
        name, message, details = self._just_in_time.guard.scrub_exception(error)
        return ActivityFailed(self._name, name, message, details=details)

    def checked(self, value: Any) -> Any:
        """The result, if no secret is in it. Raises SecretEscape, CallError."""
        if isinstance(value, Awaitable | Iterator | AsyncIterator):
            if inspect.iscoroutine(value):
                value.close()
            raise CallError(
                f"{self._name} returned a {type(value).__name__}, which would run after its result was looked through",
                hint="write an async def, or return a list",
            )
        escape = self._just_in_time.guard.find(value)
        if escape is not None:
            raise SecretEscape(
                f"{self._name} returned secret {escape.label}, {escape.form}; it was not handed on. Use the value where"
                " it is fetched, and return something that is not the value"
            )
        return value


def _asynchronous(run: _Run, function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        with run.named():
            readings, again = await asyncio.wrap_future(run.read()), False
            while True:
                try:
                    return run.checked(await function(*args, **kwargs, **run.given(readings)))
                except Exception as error:
                    if again or not run.rejects(error):
                        raise run.failed(error) from None
                    superseded, again = readings, True
                    try:
                        readings = await asyncio.wrap_future(run.read())
                    except SecretUnavailable:
                        raise run.failed(error) from None
                    if not run.superseded(superseded, readings):
                        raise run.failed(error) from None

    return call


def _plain(run: _Run, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with run.named():
            readings, again = run.read().result(), False
            while True:
                try:
                    return run.checked(function(*args, **kwargs, **run.given(readings)))
                except Exception as error:
                    if again or not run.rejects(error):
                        raise run.failed(error) from None
                    superseded, again = readings, True
                    try:
                        readings = run.read().result()
                    except SecretUnavailable:
                        raise run.failed(error) from None
                    if not run.superseded(superseded, readings):
                        raise run.failed(error) from None

    return call


def _require_usable(function: Callable[..., Any], secrets: Mapping[str, SecretReference]) -> None:
    if (
        not inspect.isfunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    ):
        raise DefinitionError(
            f"@with_secrets: {getattr(function, '__qualname__', type(function).__qualname__)} is not an ordinary"
            " function",
            hint="put @with_secrets right above the def, below the framework's decorators",
        )
    name = function.__qualname__
    missing = set(secrets) - set(inspect.signature(function).parameters)
    if missing:
        raise DefinitionError(f"{name} has no parameter {', '.join(sorted(missing))}")
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # the framework's to judge
        hints = {}
    for parameter, reference in secrets.items():
        if not isinstance(reference, SecretReference):
            raise DefinitionError(
                f"@with_secrets: {parameter} of {name} is not a secret(…)",
                hint=f'write @with_secrets({parameter}=secret("vault/name"))',
            )
        if hints.get(parameter, Secret) not in (Secret, Any):
            raise DefinitionError(f"{name}: parameter {parameter} is given a Secret", hint=f"write {parameter}: Secret")


def _hide(call: Any, function: Callable[..., Any], filled_in: frozenset[str]) -> None:
    """Let the framework not ask for what is filled in here."""
    signature = inspect.signature(function)
    visible = [each for each in signature.parameters.values() if each.name not in filled_in]
    call.__signature__ = signature.replace(parameters=visible)
    call.__annotations__ = {name: each for name, each in function.__annotations__.items() if name not in filled_in}


_OF_THIS_PROCESS = JustInTime()


def with_secrets(
    *, authentication_errors: AuthenticationErrors = (), **secrets: SecretReference
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a function, ``async`` or not, its secrets when it runs, and let none of them out of it.

    The function is called with one :class:`~keyleaf.core.secret.Secret` for each keyword. Its result is looked
    through before the framework can write it down, and the text of an exception is scrubbed. Reads go through
    Microsoft's SDK and ``DefaultAzureCredential``.

    Args:
        authentication_errors: exceptions, or a predicate of one, that say that a credential is not accepted: the
            function is then run once more at once if a newer version of a secret is there.
        secrets: what is fetched, by parameter.

    Raises (from the decorated function):
        SecretEscape: the result holds a secret.
        CallError: the result is a coroutine or a generator.
        ActivityFailed: the function raised; the message is scrubbed.
        keyleaf.client.SecretUnavailable: a secret cannot be had; the framework's own retries apply.
    """
    return _OF_THIS_PROCESS.with_secrets(authentication_errors=authentication_errors, **secrets)
