"""Activities and orchestrations as they are declared, and the registry that finds them by name."""

from __future__ import annotations

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from keyleaf.client.reference import SecretReference
from keyleaf.core.secret import Secret
from keyleaf.orchestrate.errors import CallError, DefinitionError, UnknownOrchestration
from keyleaf.orchestrate.kept_types import unusable_type
from keyleaf.orchestrate.payload import from_json, to_json

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_RESERVED = ("keyleaf.", "dbos.", "_dbos")

AuthenticationErrors = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], bool]
"""Exceptions that say "this credential is not accepted", as types or as a predicate."""


@dataclass(frozen=True)
class Retry:
    """How an activity that fails is tried again: exponential backoff with full jitter.

    Args:
        max_attempts: runs in all, the first included.
        first: seconds of the first wait at most.
        factor: by how much the longest wait grows with each attempt.
        max_interval: seconds of a wait at most.
        on: exceptions worth a retry; others fail the activity at once.

    The wait is drawn evenly from 0 to its limit ("full jitter",
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """

    max_attempts: int = 1
    first: float = 1.0
    factor: float = 2.0
    max_interval: float = 60.0
    on: tuple[type[BaseException], ...] = (Exception,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", exception_types("Retry(on=…)", self.on))
        if not (
            _is_number(self.max_attempts, 1, whole=True)
            and _is_number(self.first, 0)
            and _is_number(self.factor, 1)
            and _is_number(self.max_interval, 0)
        ):
            raise DefinitionError(
                f"{self} is not usable", hint="max_attempts ≥ 1, first ≥ 0, factor ≥ 1, max_interval ≥ 0"
            )

    def longest(self, attempt: int) -> float:
        """Seconds that the wait after attempt ``attempt`` (from 1) may last."""
        try:
            return float(min(self.first * self.factor ** (attempt - 1), self.max_interval))
        except OverflowError:
            return self.max_interval


@dataclass(frozen=True)
class RetryBudget:
    """A token bucket for retries, per worker: ``burst`` at once, ``rate`` a second. A retry without a token waits."""

    burst: float = 20.0
    rate: float = 2.0

    def __post_init__(self) -> None:
        if not (_is_number(self.burst, 0) and _is_number(self.rate, 0) and self.rate > 0):
            raise DefinitionError(f"{self} is not usable", hint="burst ≥ 0, rate > 0")


@dataclass(frozen=True)
class Rate:
    """At most ``count`` starts in ``per`` seconds."""

    count: int
    per: float

    def __post_init__(self) -> None:
        if not (_is_number(self.count, 1, whole=True) and _is_number(self.per, 0) and self.per > 0):
            raise DefinitionError(f"{self} is not usable", hint="count ≥ 1, per > 0 seconds")


@dataclass(frozen=True)
class Queue:
    """Where instances of an orchestration line up.

    Args:
        name: of the queue; orchestrations may share it.
        concurrency: instances that run at once over all workers; None: no limit.
        worker_concurrency: instances that run at once on one worker; None: no limit.
        rate: starts per time over all workers; None: no limit.
    """

    name: str
    concurrency: int | None = None
    worker_concurrency: int | None = None
    rate: Rate | None = None

    def __post_init__(self) -> None:
        require_name("queue", self.name)
        limits = (self.concurrency, self.worker_concurrency)
        if not all(limit is None or _is_number(limit, 1, whole=True) for limit in limits):
            raise DefinitionError(f"{self} is not usable", hint="concurrency ≥ 1, worker_concurrency ≥ 1")
        if self.concurrency is not None and (self.worker_concurrency or 0) > self.concurrency:
            raise DefinitionError(
                f"queue {self.name}: one worker may run {self.worker_concurrency} at once, all together only"
                f" {self.concurrency}",
                hint="worker_concurrency is at most concurrency",
            )
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise DefinitionError(f"queue {self.name}: rate is not a Rate", hint="write rate=Rate(count, seconds)")


@dataclass(frozen=True)
class Parameters:
    """The names and types of what a function takes as input, and the type of its result."""

    function: str
    names: tuple[str, ...]
    types: Mapping[str, Any]
    required: frozenset[str]
    result: Any

    def encode(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], what: str) -> bytes:
        """Arguments as JSON, checked against the types.

        Raises:
            CallError: arguments missing, superfluous or of another type.
        """
        given = dict(zip(self.names, args, strict=False)) | dict(kwargs)
        surplus = len(args) > len(self.names) or set(kwargs) & set(self.names[: len(args)])
        unknown = set(given) - set(self.names)
        missing = self.required - set(given)
        if surplus or unknown or missing:
            parts = [
                f"takes {_count(self.names)}",
                *([f"misses {', '.join(sorted(missing))}"] if missing else []),
                *([f"does not know {', '.join(sorted(unknown))}"] if unknown else []),
            ]
            raise CallError(f"{what}: {self.function} {', '.join(parts)}")
        data = to_json(given, what)
        self.decode(data, what)
        return data

    def decode(self, data: bytes, what: str) -> dict[str, Any]:
        """Arguments by name, typed.

        Raises:
            CallError: they are not what is declared.
        """
        raw = from_json(data, dict[str, msgspec.Raw], what)
        return {
            name: from_json(bytes(value), self.types.get(name, Any), f"{what}, argument {name}")
            for name, value in raw.items()
            if name in self.types or name in self.names
        }


@dataclass(frozen=True)
class ActivityDefinition:
    """An activity: the part of a workflow that may touch the world."""

    name: str
    function: Callable[..., Any]
    parameters: Parameters
    retry: Retry
    secrets: Mapping[str, SecretReference]
    timeout: float | None
    authentication_errors: AuthenticationErrors
    secrets_deadline: float
    budget: RetryBudget


@dataclass(frozen=True)
class OrchestrationDefinition:
    """One version of an orchestration."""

    name: str
    version: str
    function: Callable[..., Any]
    parameters: Parameters
    queue: Queue | None
    cron: str
    timeout: float | None
    budget: RetryBudget


@dataclass
class Registry:
    """Everything that was declared in this process."""

    activities: dict[str, ActivityDefinition] = field(default_factory=dict)
    orchestrations: dict[str, dict[str, OrchestrationDefinition]] = field(default_factory=dict)

    def add_activity(self, definition: ActivityDefinition) -> None:
        """Raises DefinitionError if another function has the name."""
        known = self.activities.get(definition.name)
        if known is not None and not _same(known.function, definition.function):
            raise DefinitionError(f"two activities are called {definition.name}", hint="give one of them name=…")
        self.activities[definition.name] = definition

    def add_orchestration(self, definition: OrchestrationDefinition) -> None:
        """Raises DefinitionError if another function has this name and version."""
        versions = self.orchestrations.setdefault(definition.name, {})
        known = versions.get(definition.version)
        if known is not None and not _same(known.function, definition.function):
            raise DefinitionError(
                f"two orchestrations are called {definition.name} in version {definition.version}",
                hint="give one of them name=… or version=…",
            )
        versions[definition.version] = definition

    def activity(self, name: str) -> ActivityDefinition:
        """Raises UnknownOrchestration."""
        try:
            return self.activities[name]
        except KeyError:
            raise UnknownOrchestration(
                f"no activity is called {name}", hint=f"this worker has {_listed(self.activities)}"
            ) from None

    def orchestration(self, name: str, version: str = "") -> OrchestrationDefinition:
        """The version that is asked for, or the one declared last. Raises UnknownOrchestration."""
        versions = self.orchestrations.get(name)
        if not versions:
            raise UnknownOrchestration(
                f"no orchestration is called {name}", hint=f"this worker has {_listed(self.orchestrations)}"
            )
        if not version:
            return next(reversed(versions.values()))
        try:
            return versions[version]
        except KeyError:
            raise UnknownOrchestration(
                f"orchestration {name} has no version {version} here",
                hint=f"this worker has {_listed(versions)}; keep old versions until their instances have ended",
            ) from None


REGISTRY = Registry()
"""What the decorators fill unless they are given another one."""


def seconds(value: timedelta | float | int | None) -> float | None:
    """A duration in seconds."""
    if value is None:
        return None
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def duration(what: str, value: object, *, least: float | None = None) -> float | None:
    """A declared duration in seconds; more than 0, or at least ``least``. Raises DefinitionError."""
    if value is None and least is None:
        return None
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if not _is_number(number, least or 0.0) or (least is None and number == 0):
        asked = "more than 0" if least is None else f"{least:g} or more"
        raise DefinitionError(f"{what} is {value!r}", hint=f"give a timedelta or a number of seconds, {asked}")
    return float(typing.cast(float, number))


def exception_types(what: str, value: object) -> tuple[type[BaseException], ...]:
    """One class of exceptions, or a tuple of them, as a tuple. Raises DefinitionError."""
    given = value if isinstance(value, tuple) else (value,)
    for each in given:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise DefinitionError(
                f"{what}: {each!r} is not a class of exceptions", hint="write (FirstError, OtherError)"
            )
    return given


def authentication_errors_of(what: str, value: object) -> AuthenticationErrors:
    """What says that a credential is not accepted: classes as a tuple, or a predicate. Raises DefinitionError."""
    if callable(value) and not isinstance(value, type):
        return typing.cast(AuthenticationErrors, value)
    return exception_types(f"{what}: authentication_errors", value)


def parameters_of(function: Callable[..., Any], kind: str, injected: frozenset[str] = frozenset()) -> Parameters:
    """What ``function`` takes and returns, without the parameters that keyleaf fills in.

    Raises:
        DefinitionError: it takes what cannot be kept as JSON by name, or a type is unknown.
    """
    if not inspect.isroutine(function) or inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise DefinitionError(
            f"{kind} {getattr(function, '__qualname__', type(function).__qualname__)} is not an ordinary function",
            hint="write a def or an async def that returns its result",
        )
    name = f"{function.__module__}.{function.__qualname__}"
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError) as error:
        raise DefinitionError(f"{kind} {name}: a type in its signature is not known: {error}") from None
    names: list[str] = []
    required: set[str] = set()
    for parameter in _signature(kind, function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise DefinitionError(
                f"{kind} {name}: parameter {parameter} cannot be kept by name", hint="use ordinary named parameters"
            )
        if parameter.name in injected:
            if hints.get(parameter.name, Secret) not in (Secret, Any):
                raise DefinitionError(
                    f"{kind} {name}: parameter {parameter.name} is given a Secret and declares"
                    f" {_type_name(hints[parameter.name])}",
                    hint=f"write {parameter.name}: Secret, and call .reveal() where its value is used",
                )
            continue
        unusable = unusable_type(hints.get(parameter.name, Any))
        if unusable is Secret:
            raise DefinitionError(
                f"{kind} {name}: parameter {parameter.name} is a Secret, which is never an input",
                hint=f'declare it: @activity(secrets={{"{parameter.name}": secret("vault/name")}})',
            )
        if unusable is not None:
            raise DefinitionError(
                f"{kind} {name}: parameter {parameter.name} cannot be kept as JSON: {_type_name(unusable)}",
                hint="use msgspec.Struct, dataclasses, and the plain types of JSON",
            )
        names.append(parameter.name)
        if parameter.default is parameter.empty:
            required.add(parameter.name)
    unknown = injected - set(inspect.signature(function).parameters)
    if unknown:
        raise DefinitionError(
            f"{kind} {name} declares secrets for {_listed(unknown)}, which are not among its parameters"
        )
    result = hints.get("return", Any)
    unusable = unusable_type(result)
    if unusable is Secret:
        raise DefinitionError(f"{kind} {name} returns a Secret", hint="declare the secret where its value is used")
    if unusable is not None:
        raise DefinitionError(
            f"{kind} {name}: its result cannot be kept as JSON: {_type_name(unusable)}",
            hint="use msgspec.Struct, dataclasses, and the plain types of JSON",
        )
    return Parameters(name, tuple(names), {each: hints.get(each, Any) for each in names}, frozenset(required), result)


def require_name(kind: str, name: object) -> None:
    """Raises DefinitionError unless engines and headers can carry ``name``."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DefinitionError(
            f"{kind} name {name!r} is not usable",
            hint="text of letters, digits, '_', '.' and '-', at most 128 characters",
        )
    if name.casefold().startswith(_RESERVED):
        raise DefinitionError(f"{kind} name {name!r} is the engines' own", hint="choose another name")


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether one replaces the other: a module was loaded again. What a function makes each time is another one."""
    named_alike = (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
    return one is other or (named_alike and "<locals>" not in one.__qualname__)


def _signature(kind: str, function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:
        raise DefinitionError(
            f"{kind} {function.__qualname__} does not tell its parameters", hint="write a def around it"
        ) from None


def _is_number(value: object, least: float, *, whole: bool = False) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and least <= value < math.inf


def _type_name(wanted: Any) -> str:
    return wanted.__qualname__ if isinstance(wanted, type) else str(wanted)


def _count(names: tuple[str, ...]) -> str:
    return ", ".join(names) if names else "nothing"


def _listed(names: typing.Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
