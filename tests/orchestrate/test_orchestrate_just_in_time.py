"""Functions of another framework get their secrets when they run; the framework sees neither them nor their values."""

from __future__ import annotations

import asyncio
import base64
import functools
import inspect
import threading
import typing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from client.simulated_vault import SimulatedVault
from conftest import ENVIRONMENT, PAYMENTS
from keyleaf import ActivityFailed, Secret, SecretEscape, secret, with_secrets
from keyleaf.client import SecretUnavailable
from keyleaf.core.clock import SystemClock
from keyleaf.core.errors import InputError
from keyleaf.orchestrate.errors import CallError, DefinitionError
from keyleaf.orchestrate.just_in_time import JustInTime

VALUE = "s3cr3t-canary-value"
PORTAL = secret("payments/portal")


@pytest.fixture
def just_in_time(vault: SimulatedVault) -> Iterator[JustInTime]:
    made = JustInTime(lambda: vault, environment=ENVIRONMENT, clock=SystemClock(), jitter=lambda: 0.0)
    yield made
    made.close()


Decorate = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


def called(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a framework gets of a function, be it async or not."""
    value = function(*args, **kwargs)
    return asyncio.run(value) if inspect.iscoroutine(value) else value


def both(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """A function, and the same as an ``async def``."""

    @functools.wraps(function)
    async def asynchronous(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return [function, asynchronous]


class FunctionApp:
    """Registers and calls functions by the rules of Azure Functions' worker for Python.

    Each parameter that the signature shows must be that of a binding, ``context`` apart; types are those of
    ``typing.get_type_hints``; arguments are given by name; a function that is not async runs on a pool of threads.
    """

    def __init__(self) -> None:
        self.functions: dict[str, tuple[Callable[..., Any], set[str], dict[str, Any]]] = {}
        self._threads = ThreadPoolExecutor(2)

    def activity_trigger(self, *, input_name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Declare an activity of Durable Functions."""

        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            shown = set(inspect.signature(function).parameters) - {"context"}
            if shown != {input_name}:
                raise TypeError(f"parameters without a binding: {shown - {input_name}}")
            hints = typing.get_type_hints(function)
            if set(hints) - shown - {"return", "context"}:
                raise TypeError(f"types of unknown parameters: {hints}")
            self.functions[function.__name__] = function, shown, hints
            return function

        return register

    async def invoke(self, name: str, given: Any) -> Any:
        """Run an activity."""
        function, (parameter,), _ = self.functions[name]
        if asyncio.iscoroutinefunction(function):
            return await function(**{parameter: given})
        call = functools.partial(function, **{parameter: given})
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Another decorator, as applications have them."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return call


def test_the_framework_does_not_see_the_secret(just_in_time: JustInTime, vault: SimulatedVault) -> None:
    app = FunctionApp()

    @app.activity_trigger(input_name="order")
    @logged
    @just_in_time.with_secrets(key=PORTAL)
    def charge(order: dict[str, int], key: Secret) -> str:
        """Charge an order."""
        return f"{order['number']} with {len(key.reveal())} on {threading.current_thread().name}"

    @app.activity_trigger(input_name="number")
    @just_in_time.with_secrets(key=PORTAL)
    async def ship(number: int, key: Secret) -> int:
        return number + len(key.reveal())

    @app.activity_trigger(input_name="number")
    @just_in_time.with_secrets(key=PORTAL)
    async def count(key: Secret, number: int) -> int:
        return number + len(key.reveal())

    assert (charge.__name__, charge.__doc__) == ("charge", "Charge an order.")
    assert app.functions["charge"][2] == {"order": dict[str, int], "return": str}
    assert typing.get_type_hints(inspect.unwrap(charge))["key"] is Secret, "the function itself stays as it was"

    async def run() -> tuple[Any, ...]:
        return await asyncio.gather(app.invoke("charge", {"number": 7}), app.invoke("ship", 1), app.invoke("count", 2))

    charged, shipped, counted = asyncio.run(run())
    assert charged.startswith(f"7 with {len(VALUE)} on ThreadPoolExecutor")
    assert (shipped, counted) == (1 + len(VALUE), 2 + len(VALUE))
    headers = [request.headers["x-keyleaf-activity"] for request in vault.requests]
    assert {entry.partition(";")[0] for header in headers for entry in header.split(",")} == {
        "charge/charge",
        "ship/ship",
        "count/count",
    }


def test_without_the_decorator_that_app_would_refuse_it() -> None:
    def charge(order: dict[str, int], key: Secret) -> str: ...  # type: ignore[empty-body]

    with pytest.raises(TypeError, match=r"without a binding: \{'key'\}"):
        FunctionApp().activity_trigger(input_name="order")(charge)


@pytest.mark.parametrize(
    "leak",
    [
        lambda key: key.reveal(),
        lambda key: {"note": [f"key={key.reveal()}"]},
        lambda key: base64.b64encode(b"x" + key.reveal().encode()).decode(),
        lambda key: key.reveal().encode().hex(),
        lambda key: key,
    ],
)
def test_a_result_that_holds_the_secret_does_not_leave(just_in_time: JustInTime, leak: Callable[[Secret], Any]) -> None:
    def leaks(key: Secret) -> Any:
        return leak(key)

    for function in both(leaks):
        with pytest.raises(SecretEscape) as refused:
            called(just_in_time.with_secrets(key=PORTAL)(function))
        assert "leaks" in str(refused.value)
        assert "payments/portal" in str(refused.value)
        assert VALUE not in repr(refused.value)


def test_an_error_leaves_scrubbed(just_in_time: JustInTime) -> None:
    def fails(key: Secret) -> None:
        password = key.reveal()
        try:
            raise KeyError(password)
        except KeyError as error:
            raise ConnectionError(f"POST https://bank/?key={password} was refused") from error

    for function in both(fails):
        with pytest.raises(ActivityFailed) as failed:
            called(just_in_time.with_secrets(key=PORTAL)(function))
        assert str(failed.value) == (
            "activity fails failed: ConnectionError: POST https://bank/?key=[secret payments/portal] was refused"
        )
        assert failed.value.__cause__ is None
        assert failed.value.__suppress_context__
        assert VALUE not in failed.value.details
        assert "KeyError" in failed.value.details


def test_a_secret_rotated_in_the_middle_is_fetched_again(just_in_time: JustInTime, vault: SimulatedVault) -> None:
    class Refused(Exception):
        """401."""

    for number, kind in enumerate(("plain", "asynchronous")):
        seen: list[str] = []

        def sign_in(key: Secret, seen: list[str] = seen, number: int = number) -> int:
            seen.append(key.reveal())
            if len(seen) == 1:
                vault.put(PAYMENTS, "portal", f"rotated-canary-{number}")
            if key.reveal() != f"rotated-canary-{number}":
                raise Refused(key.reveal())
            return len(seen)

        function = dict(zip(("plain", "asynchronous"), both(sign_in), strict=True))[kind]
        assert called(just_in_time.with_secrets(key=PORTAL, authentication_errors=Refused)(function)) == 2
        assert seen[1] == f"rotated-canary-{number}"


def test_an_authentication_error_with_the_newest_secret_is_an_error(just_in_time: JustInTime) -> None:
    runs: list[int] = []

    def refused(key: Secret) -> None:
        runs.append(1)
        raise PermissionError("401")

    for function in both(refused):
        runs.clear()
        with pytest.raises(ActivityFailed, match="401"):
            called(just_in_time.with_secrets(key=PORTAL, authentication_errors=lambda e: "401" in str(e))(function))
        assert len(runs) == 1


def test_the_next_call_has_the_new_version_and_a_pinned_one_stays(
    just_in_time: JustInTime, vault: SimulatedVault
) -> None:
    version = vault.put(PAYMENTS, "portal", "pinned-canary")

    @just_in_time.with_secrets(latest=PORTAL, pinned=secret("payments/portal", version=version))
    def lengths(latest: Secret, pinned: Secret) -> tuple[int, int]:
        return len(latest.reveal()), len(pinned.reveal())

    assert lengths() == (13, 13)
    vault.put(PAYMENTS, "portal", "a-longer-new-canary")
    assert lengths() == (19, 13)


def test_many_calls_at_once_share_a_request(just_in_time: JustInTime, vault: SimulatedVault) -> None:
    @just_in_time.with_secrets(key=PORTAL)
    async def uses(key: Secret) -> int:
        return len(key.reveal())

    async def all_at_once() -> list[int]:
        return await asyncio.gather(*[uses() for _ in range(200)])

    vault.latency = 0.05
    assert set(asyncio.run(all_at_once())) == {len(VALUE)}
    assert len(vault.requests) <= 4


def test_what_cannot_be_had_is_told_to_the_framework(just_in_time: JustInTime, vault: SimulatedVault) -> None:
    ran: list[int] = []

    def uses(key: Secret) -> None:
        ran.append(1)

    vault.change(PAYMENTS, "portal", enabled=False)
    for function in both(uses):
        with pytest.raises(SecretUnavailable, match="disabled"):
            called(just_in_time.with_secrets(key=PORTAL)(function))
    assert not ran


def test_what_would_run_after_the_guard_has_looked_is_refused(just_in_time: JustInTime) -> None:
    async def late(key: Secret) -> str:
        return key.reveal()

    @functools.wraps(late)
    def looks_plain(key: Secret) -> Any:
        return late(key)

    def lazy(key: Secret) -> Any:
        return (part for part in key.reveal())

    for function in (looks_plain, lazy):
        with pytest.raises(CallError, match=rf"{function.__name__} returned a (coroutine|generator)"):
            just_in_time.with_secrets(key=PORTAL)(function)()


def test_what_cannot_be_decorated() -> None:
    def takes_nothing() -> None: ...
    def wants_text(key: str) -> None: ...
    def wants_secret(key: Secret) -> None: ...

    cases: list[tuple[Any, dict[str, Any], str]] = [
        (takes_nothing, {"key": PORTAL}, "has no parameter key"),
        (wants_text, {"key": PORTAL}, r"parameter key is given a Secret \(write key: Secret\)"),
        (wants_secret, {"key": "payments/portal"}, r"is not a secret\(…\)"),
        (object(), {"key": PORTAL}, "right above the def, below the framework's decorators"),
        (wants_secret, {"key": PORTAL, "authentication_errors": 401}, "401 is not a class of exceptions"),
    ]
    for function, options, told in cases:
        with pytest.raises(DefinitionError, match=told):
            with_secrets(**options)(function)


def test_a_vault_that_nobody_named() -> None:
    made = JustInTime(lambda: SimulatedVault(SystemClock()), environment={})

    def uses(key: Secret) -> None: ...

    with pytest.raises(InputError, match="AZURE_KEYVAULT_URL"):
        made.with_secrets(key=secret("portal"))(uses)()
    made.close()
