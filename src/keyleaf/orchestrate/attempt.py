"""One attempt of an activity: fetch its secrets, run its function, let nothing secret out.

Rules:
    - Secrets are fetched when the attempt begins, under the identity of this process, and let go when it ends.
    - An attempt never raises to the engine: value, error and "waits for a secret" are all recorded as an envelope.
    - A secret that is disabled, missing, expired, refused, or whose vault is away is waited for, outside the retries,
      up to the activity's deadline.
    - An authentication error while a newer version of a secret exists runs the function once more at once, outside the
      retries.
    - A value that holds a secret is not recorded; the attempt fails, and is not tried again.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from keyleaf.client.callers import Caller
from keyleaf.client.guard import SecretGuard
from keyleaf.client.reading import Reading
from keyleaf.client.reference import SecretReference
from keyleaf.client.tracebacks import type_name
from keyleaf.client.unavailable import SecretUnavailable
from keyleaf.core.clock import Clock
from keyleaf.core.errors import InputError, KeyleafError
from keyleaf.core.secret import CURRENT_ACTIVITY, Secret, SecretEscape
from keyleaf.orchestrate.activity_call import ActivityCall
from keyleaf.orchestrate.budget import VAULT_BUDGET, Budgets
from keyleaf.orchestrate.definitions import ActivityDefinition, Registry, RetryBudget
from keyleaf.orchestrate.envelope import AttemptNote, Blocked, Envelope, ErrorBody, SecretUse
from keyleaf.orchestrate.errors import NotAnException, PayloadTooLarge, is_interpreters
from keyleaf.orchestrate.payload import PayloadCodec, to_json
from keyleaf.orchestrate.tracing import activity_span, mark_attempts, mark_reading, secret_span

_THREADS = 64
"""Activities that are not ``async`` and run at once on one worker."""

_WITHHELD = "what it says cannot be kept"


class Fetcher(Protocol):
    """What an attempt needs of :class:`keyleaf.client.reader.SecretReader`."""

    async def fetch(self, reference: SecretReference, *, caller: Caller, expectation: Any = None) -> Reading:
        """The secret as it is now."""
        ...


@dataclass(frozen=True)
class ActivityInfo:
    """What a running activity may know about itself.

    Attributes:
        instance: id of the orchestration's instance.
        activity: its own name.
        attempt: counts from 1.
        idempotency_key: the same for every attempt of this call, also after a crash, and different for every other
            call: give it to services that know idempotency keys, so that the effect happens once.
    """

    instance: str
    activity: str
    attempt: int
    idempotency_key: str


_INFO: contextvars.ContextVar[ActivityInfo] = contextvars.ContextVar("keyleaf_activity")


def activity_info() -> ActivityInfo:
    """The activity that is running.

    Raises:
        InputError: none is.
    """
    try:
        return _INFO.get()
    except LookupError:
        raise InputError("activity_info() was called outside an activity") from None


@contextmanager
def as_running(info: ActivityInfo) -> Iterator[None]:
    """:func:`activity_info` gives this meanwhile."""
    token = _INFO.set(info)
    try:
        yield
    finally:
        _INFO.reset(token)


class ActivityRunner:
    """Runs attempts for one worker."""

    def __init__(
        self,
        registry: Registry,
        codec: PayloadCodec,
        guard: SecretGuard,
        reader: Fetcher | None,
        clock: Clock,
        *,
        worker: str,
        identity: str = "",
        owner: str = "",
        jitter: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._codec = codec
        self._guard = guard
        self._reader = reader
        self._clock = clock
        self._worker = worker
        self._identity = identity
        self._owner = owner
        self._jitter = jitter
        self._budgets = Budgets(clock)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="keyleaf-activity")

    async def attempt(self, call: ActivityCall, *, expectation: Any = None) -> Envelope:
        """Run the activity once (twice if its secret had been superseded)."""
        started = self._clock.now()
        notes: list[AttemptNote] = []
        token = CURRENT_ACTIVITY.set(call.activity)
        with activity_span(call) as span:
            try:
                definition = self._registry.activity(call.activity)
                return await self._attempt(definition, call, started, notes, expectation)
            except Exception as error:
                return self._failed(call, started, notes, error, -1.0)
            finally:
                mark_attempts(span, notes)
                CURRENT_ACTIVITY.reset(token)

    async def _attempt(
        self,
        definition: ActivityDefinition,
        call: ActivityCall,
        started: float,
        notes: list[AttemptNote],
        expected: Any,
    ) -> Envelope:
        data = self._codec.open(call.payload, f"{call.purpose}/input")
        what = f"{call.instance}: the input of activity {call.activity}"
        arguments = definition.parameters.decode(data, what)
        fresh: dict[str, Reading] = {}
        while True:
            begun = self._clock.now()
            try:
                readings = fresh or await self._fetch(definition, call, expected)
            except SecretUnavailable as unavailable:
                blocked = self._blocked(definition, call, started, begun, notes, unavailable)
                if blocked is None:
                    raise
                return blocked
            uses = self._uses(readings)
            try:
                value = await self._run(definition, call, arguments, readings)
                body = self._seal(definition, call, value)
            except SecretEscape:
                notes.append(AttemptNote(call.attempt, begun, self._clock.now(), "failed", "SecretEscape", uses))
                raise
            except Exception as error:
                ended = self._clock.now()
                name = self._guard.scrub(type_name(error))
                fresh = {} if fresh else await self._fresher(definition, call, readings, error)
                if fresh:
                    notes.append(AttemptNote(call.attempt, begun, ended, "stale secret", name, uses))
                    continue
                wait = self._retry_in(definition, call, error)
                notes.append(AttemptNote(call.attempt, begun, ended, "failed", name, uses, max(wait, 0.0)))
                return self._failed(call, started, notes, error, wait)
            ended = self._clock.now()
            notes.append(AttemptNote(call.attempt, begun, ended, "ok", "", uses))
            return Envelope("value", call.activity, call.index, started, ended, self._worker, body, notes=tuple(notes))

    async def _fetch(self, definition: ActivityDefinition, call: ActivityCall, expected: Any) -> dict[str, Reading]:
        if not definition.secrets:
            return {}
        if self._reader is None:
            raise InputError(
                f"activity {call.activity} declares secrets, and this worker was given no way to read them"
            )
        caller = Caller(call.instance, call.activity)
        fetches = [
            _traced(self._reader.fetch(reference, caller=caller, expectation=expected), reference)
            for reference in definition.secrets.values()
        ]
        readings = await asyncio.gather(*fetches, return_exceptions=True)
        for reading in readings:
            if isinstance(reading, BaseException):
                raise reading
        found = dict(zip(definition.secrets, readings, strict=True))
        for reading in found.values():
            assert isinstance(reading, Reading)
            self._guard.hold(reading.reference.label, reading.secret.reveal())
        return found  # type: ignore[return-value]

    async def _run(
        self,
        definition: ActivityDefinition,
        call: ActivityCall,
        arguments: Mapping[str, Any],
        readings: Mapping[str, Reading],
    ) -> Any:
        with as_running(ActivityInfo(call.instance, call.activity, call.attempt, f"{call.instance}:{call.index}")):
            run = functools.partial(
                definition.function,
                **arguments,
                **{name: Secret(each.secret.reveal(), each.reference.label) for name, each in readings.items()},
            )
            asynchronous = inspect.iscoroutinefunction(definition.function)
            work: Awaitable[Any] = _contained(run()) if asynchronous else self._in_thread(run)
            if definition.timeout is None:
                return await work
            try:
                async with asyncio.timeout(definition.timeout) as limit:
                    return await work
            except TimeoutError:
                if not limit.expired():
                    raise
                raise TimeoutError(
                    f"activity {call.activity} did not end within its {definition.timeout:g} s"
                ) from None

    async def _in_thread(self, run: Callable[[], Any]) -> Any:
        """Run a function that is not ``async`` on a thread of the activities' own: an engine's are not held up."""
        context = contextvars.copy_context()
        value, error = await asyncio.get_running_loop().run_in_executor(self._threads, context.run, _outcome, run)
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _seal(self, definition: ActivityDefinition, call: ActivityCall, value: Any) -> str:
        what = f"{call.instance}: the result of activity {call.activity}"
        data = to_json(value, what)
        return self._codec.seal(data, f"{call.purpose}/output", what)

    async def _fresher(
        self,
        definition: ActivityDefinition,
        call: ActivityCall,
        readings: Mapping[str, Reading],
        error: BaseException,
    ) -> dict[str, Reading]:
        """The secrets as they are now, if the error is one of authentication and one of them was superseded."""
        declared = definition.authentication_errors
        rejected = isinstance(error, declared) if isinstance(declared, tuple) else bool(declared(error))
        if not rejected or not readings:
            return {}
        try:
            fresh = await self._fetch(definition, call, None)
        except SecretUnavailable:
            return {}
        return fresh if any(fresh[name].version != each.version for name, each in readings.items()) else {}

    def _retry_in(self, definition: ActivityDefinition, call: ActivityCall, error: BaseException) -> float:
        """Seconds until the next attempt; negative: none."""
        retry = definition.retry
        if isinstance(error, KeyleafError) or not isinstance(error, retry.on) or call.attempt >= retry.max_attempts:
            return -1.0
        asked = getattr(error, "retry_after", None)
        jittered = retry.longest(call.attempt) * self._jitter()
        versions = self._registry.orchestrations.get(call.orchestration, {})
        budget = next((each.budget for each in reversed(versions.values())), RetryBudget())
        return max(
            jittered,
            float(asked) if isinstance(asked, int | float) and asked > 0 else 0.0,
            self._budgets.wait("activity", call.activity, definition.budget),
            self._budgets.wait("orchestration", call.orchestration, budget),
            *(
                self._budgets.wait("vault", vault, VAULT_BUDGET)
                for vault in {reference.vault or reference.url for reference in definition.secrets.values()}
            ),
        )

    def _blocked(
        self,
        definition: ActivityDefinition,
        call: ActivityCall,
        started: float,
        begun: float,
        notes: list[AttemptNote],
        unavailable: SecretUnavailable,
    ) -> Envelope | None:
        now = self._clock.now()
        deadline = call.since + definition.secrets_deadline
        if not unavailable.waits or now >= deadline:
            return None
        wait = min(max(unavailable.retry_after, 0.05), max(deadline - now, 0.05))
        notes.append(AttemptNote(call.attempt, begun, now, "blocked", unavailable.reason, wait=wait))
        blocked = Blocked(unavailable.reference.label, unavailable.reason, self._owner, begun, deadline)
        return Envelope(
            "blocked",
            call.activity,
            call.index,
            started,
            now,
            self._worker,
            retry_in=wait,
            blocked=blocked,
            notes=tuple(notes),
        )

    def _failed(
        self, call: ActivityCall, started: float, notes: list[AttemptNote], error: BaseException, wait: float
    ) -> Envelope:
        ended = self._clock.now()
        if not notes or notes[-1].ended < started:
            notes.append(AttemptNote(call.attempt, started, ended, "failed", self._guard.scrub(type_name(error))))
        purpose = f"{call.purpose}/error"
        sealed = seal_error(self._codec, self._guard, error, purpose, activity=call.activity, attempts=call.attempt)
        return Envelope(
            "error", call.activity, call.index, started, ended, self._worker, sealed, wait, notes=tuple(notes)
        )

    def _uses(self, readings: Mapping[str, Reading]) -> tuple[SecretUse, ...]:
        return tuple(
            SecretUse(reading.reference.label, reading.version, reading.request_id, self._identity)
            for reading in readings.values()
        )


def seal_error(
    codec: PayloadCodec,
    guard: SecretGuard,
    error: BaseException,
    purpose: str,
    *,
    activity: str = "",
    attempts: int = 1,
) -> str:
    """An error as it may be kept: scrubbed, and sealed as an :class:`ErrorBody`. Always succeeds."""
    name, message, details = guard.scrub_exception(error)
    shorter = message[: codec.limit // 32]
    bodies = (
        ErrorBody(name, message, details, activity, attempts),
        # Apart they are clean, put together they may not be; or they have more bytes than may be kept.
        ErrorBody(name, shorter if guard.find_text(shorter) is None else _WITHHELD, "", activity, attempts),
        ErrorBody("Exception", _WITHHELD, "", activity, attempts),
    )
    for body in bodies[:-1]:
        try:
            return codec.seal(msgspec.json.encode(body), purpose)
        except (SecretEscape, PayloadTooLarge):
            continue
    return codec.seal(msgspec.json.encode(bodies[-1]), purpose)


async def _traced(fetch: Awaitable[Reading], reference: SecretReference) -> Reading:
    with secret_span(reference) as span:
        reading = await fetch
        mark_reading(span, reading)
        return reading


async def _contained(work: Awaitable[Any]) -> Any:
    """Await an activity; what would end the loop, or looks like a cancellation and is none, becomes an Exception."""
    try:
        return await work
    except Exception:
        raise
    except BaseException as error:
        task = asyncio.current_task()
        cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
        if cancelled or is_interpreters(error):
            raise
        raise NotAnException(error) from error


def _outcome(run: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a function gives or raises, in a form that a future can carry: StopIteration is not."""
    try:
        return run(), None
    except StopIteration as error:
        return None, _raised_from(error)
    except Exception as error:
        return None, error
    except BaseException as error:
        return None, _raised_from(error)


def _raised_from(error: BaseException) -> Exception:
    refused = NotAnException(error)
    refused.__cause__ = error
    return refused
