"""Just-in-time secrets for functions that another framework runs, for example activities of Azure Durable Functions."""

from __future__ import annotations

import functools
import inspect
import os
import random
from collections.abc import Callable
from typing import Any

from keyleaf.client.addresses import VaultAddresses
from keyleaf.client.callers import Caller
from keyleaf.client.guard import SecretGuard
from keyleaf.client.reader import SecretReader
from keyleaf.client.reference import SecretReference
from keyleaf.client.vault import AzureVaultConnection
from keyleaf.core.clock import SystemClock
from keyleaf.core.secret import CURRENT_ACTIVITY, SecretEscape
from keyleaf.orchestrate.errors import ActivityFailed, DefinitionError


def with_secrets(**secrets: SecretReference) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give an ``async`` function its secrets when it runs, and let none of them out of it.

    The function is called with one :class:`~keyleaf.core.secret.Secret` for each keyword. Its result is looked
    through before the framework can write it down, and the text of an exception is scrubbed. Reads go through
    Microsoft's SDK and ``DefaultAzureCredential``.

    Raises (from the decorated function):
        SecretEscape: the result holds a secret.
        ActivityFailed: the function raised; the message is scrubbed.
        keyleaf.client.SecretUnavailable: a secret cannot be had; the framework's own retries apply.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__qualname__
        if not inspect.iscoroutinefunction(function):
            raise DefinitionError(f"{name} is not an async def", hint="@with_secrets needs one, because it reads first")
        missing = set(secrets) - set(inspect.signature(function).parameters)
        if missing:
            raise DefinitionError(f"{name} has no parameter {', '.join(sorted(missing))}")

        @functools.wraps(function)
        async def call(*args: Any, **kwargs: Any) -> Any:
            guard = SecretGuard()
            token = CURRENT_ACTIVITY.set(name)
            reader = SecretReader(
                AzureVaultConnection(),
                VaultAddresses.from_environment(os.environ),
                clock=SystemClock(),
                jitter=random.random,
            )
            try:
                given = {}
                for parameter, reference in secrets.items():
                    reading = await reader.fetch(reference, caller=Caller(name, name))
                    guard.hold(reading.reference.label, reading.secret.reveal())
                    given[parameter] = reading.secret
                try:
                    value = await function(*args, **kwargs, **given)
                except Exception as error:
                    _, message, details = guard.scrub_exception(error)
                    raise ActivityFailed(name, type(error).__qualname__, message, details=details) from None
                escape = guard.find(value)
                if escape is not None:
                    raise SecretEscape(f"{name} returned secret {escape.label}, {escape.form}; it was not handed on")
                return value
            finally:
                CURRENT_ACTIVITY.reset(token)
                await reader.close()

        # The framework must not ask for what is filled in here.
        signature = inspect.signature(function)
        visible = [each for each in signature.parameters.values() if each.name not in secrets]
        call.__signature__ = signature.replace(parameters=visible)  # type: ignore[attr-defined]
        return call

    return decorate
