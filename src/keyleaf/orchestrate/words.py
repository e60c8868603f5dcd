"""The words that authors use: decorators, and what an orchestration may await or ask."""

from __future__ import annotations

import inspect
import random as random_module
import uuid as uuid_module
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from keyleaf.client.reference import SecretReference
from keyleaf.orchestrate.cron import require_cron
from keyleaf.orchestrate.definitions import (
    REGISTRY,
    ActivityDefinition,
    AuthenticationErrors,
    OrchestrationDefinition,
    Queue,
    Registry,
    Retry,
    RetryBudget,
    authentication_errors_of,
    duration,
    parameters_of,
    require_name,
    seconds,
)
from keyleaf.orchestrate.determinism import require_deterministic
from keyleaf.orchestrate.driver import Driver, current_driver
from keyleaf.orchestrate.errors import CallError, DefinitionError
from keyleaf.orchestrate.tasks import Task

T = TypeVar("T")

A_DAY = timedelta(days=1)


class Activity(Generic[T]):
    """A declared activity. Calling it inside an orchestration starts it; the result is awaited.

    ``definition.function`` is the plain function, for tests that pass secrets by hand.
    """

    __keyleaf_activity__ = True

    def __init__(self, definition: ActivityDefinition) -> None:
        self.definition = definition
        self.__name__ = definition.name
        self.__doc__ = definition.function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Task[T]:
        return _driver(f"activity {self.definition.name}").activity(self.definition, args, kwargs)


class Orchestration(Generic[T]):
    """A declared orchestration. Calling it inside another one starts a sub-orchestration."""

    __keyleaf_orchestration__ = True

    def __init__(self, definition: OrchestrationDefinition, registry: Registry = REGISTRY) -> None:
        self.definition = definition
        self.registry = registry
        self.__name__ = definition.name
        self.__doc__ = definition.function.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> Task[T]:
        return _driver(f"orchestration {self.definition.name}").child(self.definition, args, kwargs)


def activity(
    function: Callable[..., Any] | None = None,
    *,
    name: str = "",
    retry: Retry = Retry(),
    secrets: Mapping[str, SecretReference] | None = None,
    timeout: timedelta | float | None = None,
    authentication_errors: AuthenticationErrors = (),
    secrets_deadline: timedelta | float = A_DAY,
    budget: RetryBudget = RetryBudget(),
    registry: Registry = REGISTRY,
) -> Any:
    """Declare an activity: a function, ``async`` or not, that may touch the world.

    Args:
        name: under which it is recorded; the function's name if left out.
        retry: how often and when it is tried again.
        secrets: what is fetched for it just in time, by parameter.
        timeout: of one attempt. A function that is not ``async`` goes on in its thread after it.
        authentication_errors: exceptions, or a predicate of one, that say that a credential is not accepted: the
            activity is then run once more at once if a newer version of a secret is there.
        secrets_deadline: how long it waits for a secret that is disabled, missing, expired or out of reach.
        budget: retries that all its calls on one worker share.

    Raises:
        DefinitionError: its signature or name cannot be used.
    """

    def declare(function: Callable[..., Any]) -> Activity[Any]:
        called = name or getattr(function, "__name__", "")
        require_name("activity", called)
        _require_kind(f"activity {called}: retry", retry, Retry)
        _require_kind(f"activity {called}: budget", budget, RetryBudget)
        declared = dict(secrets or {})
        for parameter, reference in declared.items():
            if not isinstance(reference, SecretReference):
                raise DefinitionError(
                    f"activity {called}: secrets[{parameter!r}] is not a secret(…)",
                    hint=f'write secrets={{"{parameter}": secret("vault/name")}}',
                )
        definition = ActivityDefinition(
            called,
            function,
            parameters_of(function, "activity", frozenset(declared)),
            retry,
            declared,
            duration(f"activity {called}: timeout", timeout),
            authentication_errors_of(f"activity {called}", authentication_errors),
            duration(f"activity {called}: secrets_deadline", secrets_deadline, least=0.0) or 0.0,
            budget,
        )
        registry.add_activity(definition)
        return Activity(definition)

    return declare if function is None else declare(function)


def orchestration(
    function: Callable[..., Any] | None = None,
    *,
    name: str = "",
    version: str = "1",
    queue: Queue | None = None,
    cron: str = "",
    timeout: timedelta | float | None = None,
    budget: RetryBudget = RetryBudget(burst=100.0, rate=10.0),
    registry: Registry = REGISTRY,
) -> Any:
    """Declare an orchestration: an ``async def`` that calls activities and is replayed by the engine.

    Args:
        name: under which it is recorded; the function's name if left out.
        version: new instances take the version declared last; instances that run keep theirs.
        queue: where its instances line up.
        cron: five fields, in UTC, when instances start by themselves.
        timeout: after which an instance is terminated.
        budget: retries that all its instances on one worker share.

    Raises:
        DefinitionError: it is not an ``async def``, or name, signature or cron cannot be used.
        keyleaf.orchestrate.determinism.NondeterminismError: it does what only an activity may do.
    """

    def declare(function: Callable[..., Any]) -> Orchestration[Any]:
        called = name or getattr(function, "__name__", "")
        require_name("orchestration", called)
        require_name("version", version)
        _require_kind(f"orchestration {called}: budget", budget, RetryBudget)
        if queue is not None:
            _require_kind(f"orchestration {called}: queue", queue, Queue)
        if not inspect.iscoroutinefunction(function):
            raise DefinitionError(f"orchestration {called} is not an async def")
        parameters = parameters_of(function, "orchestration")
        if cron != "":
            require_cron(f"orchestration {called}", cron)
            if parameters.required:
                raise DefinitionError(
                    f"orchestration {called} starts by cron and needs {', '.join(sorted(parameters.required))}",
                    hint="give its parameters defaults",
                )
        require_deterministic(function)
        definition = OrchestrationDefinition(
            called,
            version,
            function,
            parameters,
            queue,
            cron,
            duration(f"orchestration {called}: timeout", timeout),
            budget,
        )
        registry.add_orchestration(definition)
        return Orchestration(definition, registry)

    return declare if function is None else declare(function)


def wait_for_event(name: str, timeout: timedelta | float | None = None, type: Any = Any) -> Task[Any]:
    """Wait until somebody signals ``name`` to this instance; the value is what was sent with it.

    An event that comes before it is waited for is kept. ``type`` checks the value.

    Raises (where awaited):
        EventTimeout: nothing came in time.
        CallError: what came is not of that type.
    """
    driver = _driver("wait_for_event()")
    require_name("event", name)
    return driver.event(name, seconds(timeout), type)


def sleep(duration: timedelta | float) -> Task[None]:
    """A durable timer."""
    return _driver("sleep()").timer(seconds(duration) or 0.0)


def gather(*tasks: Task[Any], return_exceptions: bool = False) -> Task[list[Any]]:
    """All results in order, once every task has ended; the first error by position, if there is one."""
    return _driver("gather()").all(tasks, return_exceptions=return_exceptions)


def first(*tasks: Task[Any]) -> Task[Task[Any]]:
    """The task that ended first. The others go on; an event that lost is kept for the next wait."""
    return _driver("first()").first(tasks)


def now() -> datetime:
    """The orchestration's time, in UTC: when the last thing that it awaited was recorded."""
    return datetime.fromtimestamp(_driver("now()").time, UTC)


def uuid() -> uuid_module.UUID:
    """A UUID that is the same at every replay."""
    return _driver("uuid()").uuid()


def random() -> random_module.Random:
    """A random generator that gives the same numbers at every replay. Not for secrets."""
    return _driver("random()").random


def instance_id() -> str:
    """The id of the running instance."""
    return _driver("instance_id()").instance


def set_status(text: str) -> None:
    """Show ``text`` as the instance's custom status."""
    _driver("set_status()").set_status(text)


class Compensations:
    """What has to be undone, newest first. Made by :func:`compensating`."""

    def __init__(self) -> None:
        self._steps: list[tuple[Callable[..., Awaitable[Any]], tuple[Any, ...], dict[str, Any]]] = []

    def add(self, step: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> None:
        """Call ``step(*args, **kwargs)`` if the block fails or is cancelled."""
        self._steps.append((step, args, kwargs))

    async def run(self) -> list[Exception]:
        """Undo; errors do not stop the rest and are returned."""
        errors: list[Exception] = []
        while self._steps:
            step, args, kwargs = self._steps.pop()
            try:
                await step(*args, **kwargs)
            except Exception as error:
                errors.append(error)
        return errors


@asynccontextmanager
async def compensating() -> AsyncIterator[Compensations]:
    """A saga: what was added is undone, newest first, when the block raises or the instance is cancelled.

    Raises:
        ExceptionGroup: undoing failed too; it holds the first error and those of the compensations.
    """
    compensations = Compensations()
    try:
        yield compensations
    except Exception as error:
        failed = await compensations.run()
        if failed:
            raise ExceptionGroup("the work failed, and undoing it failed too", [error, *failed]) from None
        raise


def _driver(what: str) -> Driver:
    driver = current_driver()
    if driver is None:
        raise CallError(
            f"{what} was called outside an orchestration",
            hint="start an orchestration with Worker.run() or `keyleaf flow start`; in tests, use keyleaf.testing",
        )
    return driver


def _require_kind(what: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise DefinitionError(f"{what} is {value!r}", hint=f"give a {kind.__name__}(…)")
