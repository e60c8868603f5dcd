"""What cannot work is refused when it is declared, or before a worker begins, never when it runs."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf import Queue, Rate, Retry, RetryBudget, Secret, Worker, activity, orchestration, secret
from keyleaf.core.errors import InputError
from keyleaf.orchestrate.cron import require_cron
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.errors import CallError, DefinitionError, UnknownOrchestration

KEY = {"key": secret("payments/portal")}


class Opaque:
    """Nothing that JSON knows."""


class Tree(msgspec.Struct):
    """Refers to itself."""

    children: list[Tree] = []
    price: Decimal | None = None


class Hides(msgspec.Struct):
    """Holds what JSON does not know, one level down."""

    inside: dict[str, list[Opaque]] = {}


def plain(number: int) -> int:
    """A function that is fine."""
    return number


def takes_any_number(*numbers: int) -> None: ...
def takes_keywords(**numbers: int) -> None: ...
def by_position(number: int, /) -> None: ...
def takes_secret(key: Secret) -> None: ...
def takes_secrets(keys: list[Secret]) -> None: ...
def may_take_secret(key: Secret | None = None) -> None: ...
def gives_secret() -> Secret: ...  # type: ignore[empty-body]
def gives_secrets() -> dict[str, Secret]: ...  # type: ignore[empty-body]
def takes_opaque(thing: Opaque) -> None: ...
def takes_hidden(thing: Hides) -> None: ...
def takes_function(thing: Callable[[], int]) -> None: ...
def takes_two_lists(thing: list[int] | list[str]) -> None: ...
def gives_opaque() -> Opaque: ...  # type: ignore[empty-body]
def takes_unknown(thing: Unheard) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def wants_text(key: str) -> None: ...


def generates() -> Iterator[int]:
    """Not a function with one result."""
    yield 1


async def generates_slowly() -> AsyncIterator[int]:
    """Not a function with one result."""
    yield 1


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (takes_any_number, r"parameter \*numbers: 'int' cannot be kept by name"),
        (takes_keywords, "cannot be kept by name"),
        (by_position, "cannot be kept by name"),
        (takes_secret, r'is a Secret, which is never an input \(declare it: @activity\(secrets={"key"'),
        (takes_secrets, "is a Secret, which is never an input"),
        (may_take_secret, "is a Secret, which is never an input"),
        (gives_secret, "returns a Secret"),
        (gives_secrets, "returns a Secret"),
        (takes_opaque, "parameter thing cannot be kept as JSON: Opaque"),
        (takes_hidden, "parameter thing cannot be kept as JSON: Opaque"),
        (takes_function, "parameter thing cannot be kept as JSON: Callable"),
        (takes_two_lists, "more than one array-like"),
        (gives_opaque, "its result cannot be kept as JSON: Opaque"),
        (takes_unknown, "a type in its signature is not known: name 'Unheard'"),
        (generates, "is not an ordinary function"),
        (generates_slowly, "is not an ordinary function"),
        (Opaque, "is not an ordinary function"),
        (functools.partial(plain, 1), "name '' is not usable"),
        (lambda: 1, "name '<lambda>' is not usable"),
        (3, "name '' is not usable"),
    ],
)
def test_a_function_that_cannot_be_an_activity(function: Any, told: str) -> None:
    registry = Registry()
    with pytest.raises(DefinitionError, match=told) as refused:
        activity(registry=registry)(function)
    assert "\n" not in str(refused.value)
    assert not registry.activities, "nothing half-declared is left"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"name": "two words"}, "name 'two words' is not usable"),
        ({"name": "x" * 129}, "at most 128"),
        ({"name": 7}, "name 7 is not usable"),
        ({"name": "keyleaf.timer"}, "the engines' own"),
        ({"name": "DBOS.sleep"}, "the engines' own"),
        ({"retry": 3}, r"activity plain: retry is 3 \(give a Retry\(…\)\)"),
        ({"budget": 3}, "activity plain: budget is 3"),
        ({"timeout": 0}, "activity plain: timeout is 0"),
        ({"timeout": timedelta(seconds=-1)}, "activity plain: timeout is"),
        ({"timeout": "1"}, "timeout is '1'"),
        ({"timeout": math.nan}, "timeout is nan"),
        ({"secrets_deadline": -1}, "secrets_deadline is -1"),
        ({"secrets": KEY}, "declares secrets for key, which are not among its parameters"),
        ({"secrets": {"number": "payments/portal"}}, r"secrets\['number'\] is not a secret\(…\)"),
        ({"secrets": {"number": KEY["key"]}}, "is given a Secret and declares int"),
        ({"authentication_errors": ("401",)}, "'401' is not a class of exceptions"),
        ({"authentication_errors": 401}, "401 is not a class of exceptions"),
        ({"authentication_errors": Opaque}, "is not a class of exceptions"),
    ],
)
def test_options_of_an_activity_that_cannot_be_kept(options: dict[str, Any], told: str) -> None:
    registry = Registry()
    with pytest.raises(DefinitionError, match=told):
        activity(registry=registry, **options)(plain)
    assert not registry.activities


def test_one_class_of_exceptions_need_not_be_in_a_tuple() -> None:
    declared = activity(
        registry=Registry(), retry=Retry(max_attempts=2, on=KeyError), authentication_errors=PermissionError
    )(plain)
    assert declared.definition.retry.on == (KeyError,)
    assert declared.definition.authentication_errors == (PermissionError,)
    predicate = activity(registry=Registry(), authentication_errors=lambda error: "401" in str(error))(plain)
    assert predicate.definition.authentication_errors(ValueError("401"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(max_attempts=0),
        lambda: Retry(max_attempts=1.5),  # type: ignore[arg-type]
        lambda: Retry(max_attempts="3"),  # type: ignore[arg-type]
        lambda: Retry(first=-1),
        lambda: Retry(first=math.nan),
        lambda: Retry(factor=0.5),
        lambda: Retry(max_interval=math.inf),
        lambda: Retry(on=("KeyError",)),  # type: ignore[arg-type]
        lambda: RetryBudget(rate=0),
        lambda: RetryBudget(burst=-1),
        lambda: RetryBudget(rate=math.inf),
        lambda: Rate(0, 1),
        lambda: Rate(1, 0),
        lambda: Queue("line", concurrency=0),
        lambda: Queue("line", worker_concurrency=-1),
        lambda: Queue("line", concurrency=True),
        lambda: Queue("line", concurrency=2, worker_concurrency=3),
        lambda: Queue("line", rate=5),  # type: ignore[arg-type]
        lambda: Queue("two words"),
        lambda: Queue("_dbos_internal_queue"),
    ],
)
def test_numbers_that_nothing_could_obey(make: Callable[[], object]) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_what_can_be_declared() -> None:
    registry = Registry()

    def everything(
        tree: Tree,
        moment: datetime,
        raw: bytes,
        either: int | str | None,
        pairs: dict[str, tuple[int, float]],
        anything: Any,
        bounded: Annotated[int, msgspec.Meta(ge=0)],
        untyped,  # type: ignore[no-untyped-def]
    ) -> list[Tree]: ...  # type: ignore[empty-body]

    assert activity(registry=registry)(everything).definition.parameters.required == {
        "tree",
        "moment",
        "raw",
        "either",
        "pairs",
        "anything",
        "bounded",
        "untyped",
    }

    async def uses(number: int, key: Any) -> object: ...

    used = activity(registry=registry, secrets=KEY)(uses)
    assert used.definition.parameters.names == ("number",)


async def nothing() -> None: ...
async def needs(number: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "told"),
    [
        (plain, {}, "orchestration plain is not an async def"),
        (generates_slowly, {}, "is not an async def"),
        (nothing, {"version": 2}, "version name 2 is not usable"),
        (nothing, {"version": "2 beta"}, "version name '2 beta' is not usable"),
        (nothing, {"queue": "orders"}, r"queue is 'orders' \(give a Queue\(…\)\)"),
        (nothing, {"budget": 1}, "budget is 1"),
        (nothing, {"timeout": 0}, "timeout is 0"),
        (nothing, {"name": "keyleaf.cron"}, "the engines' own"),
        (nothing, {"cron": "* * * *"}, "five fields"),
        (nothing, {"cron": "*/5 * * * * *"}, "five fields"),
        (nothing, {"cron": "@daily"}, "five fields"),
        (nothing, {"cron": 5}, "five fields"),
        (nothing, {"cron": "61 * * * *"}, "Bad minute"),
        (nothing, {"cron": "0 0 30 2 *"}, "Bad day-of-month"),
        (nothing, {"cron": "0 0 L * *"}, "'L'"),
        (nothing, {"cron": "0 0 * 4-4 *"}, r"'4-4' \(write 4\)"),
        (nothing, {"cron": "0 0 */2 * 5"}, "can be read in two ways"),
        (needs, {"cron": "* * * * *"}, "starts by cron and needs number"),
    ],
)
def test_an_orchestration_that_cannot_run(function: Any, options: dict[str, Any], told: str) -> None:
    registry = Registry()
    with pytest.raises(DefinitionError, match=told) as refused:
        orchestration(registry=registry, **options)(function)
    assert "\n" not in str(refused.value)
    assert not registry.orchestrations


FIELD = st.one_of(
    st.just("*"),
    st.integers(1, 12).map(str),
    st.integers(2, 9).map(lambda step: f"*/{step}"),
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: f"{min(pair)}-{max(pair)}"),
    st.tuples(st.integers(0, 7), st.integers(8, 12), st.integers(1, 4)).map(lambda p: f"{p[0]}-{p[1]}/{p[2]}"),
    st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda pair: f"{pair[0]},{pair[1]}"),
    st.sampled_from(["MON", "fri", "MON-FRI", "JAN", "L", "LW", "5#2", "5L", "?"]),
)


@settings(deadline=None, max_examples=400)
@given(st.tuples(FIELD, FIELD, FIELD, FIELD, FIELD).map(" ".join))
def test_what_is_accepted_as_cron_means_one_thing(cron: str) -> None:
    try:
        require_cron("orchestration x", cron)
    except DefinitionError:
        return
    begin = datetime(2026, 1, 1)
    ours, engines = CronSim(cron, begin), croniter(cron, begin, second_at_beginning=True)
    for _ in range(5):
        assert next(ours) == engines.get_next(datetime)


def test_two_of_one_name() -> None:
    registry = Registry()
    activity(registry=registry, name="charge")(plain)
    activity(registry=registry, name="charge")(plain)  # the same again: a module may be loaded twice
    with pytest.raises(DefinitionError, match=r"two activities are called charge \(give one of them name=…\)"):
        activity(registry=registry, name="charge")(wants_text)
    orchestration(registry=registry, name="fulfil")(nothing)
    with pytest.raises(DefinitionError, match="two orchestrations are called fulfil in version 1"):
        orchestration(registry=registry, name="fulfil")(needs)
    orchestration(registry=registry, name="fulfil", version="2")(needs)

    def made(rate: int) -> Callable[[], int]:
        def taxed() -> int:
            return rate

        return taxed

    activity(registry=registry)(made(1))
    with pytest.raises(DefinitionError, match="two activities are called taxed"):
        activity(registry=registry)(made(2))


def test_a_name_that_nobody_declared() -> None:
    registry = Registry()
    orchestration(registry=registry)(nothing)
    with pytest.raises(UnknownOrchestration, match=r"no activity is called charge \(this worker has none\)"):
        registry.activity("charge")
    with pytest.raises(UnknownOrchestration, match=r"no orchestration is called fulfil \(this worker has nothing\)"):
        registry.orchestration("fulfil")
    with pytest.raises(UnknownOrchestration, match=r"has no version 7 here .*keep old versions"):
        registry.orchestration("nothing", "7")
    with pytest.raises(CallError, match="activity plain was called outside an orchestration"):
        activity(registry=registry)(plain)(1)


def declared(**options: Any) -> Registry:
    """A registry with one orchestration."""
    registry = Registry()
    orchestration(registry=registry, **options)(nothing)
    return registry


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"queue": Queue("orders", concurrency=2)}, "declares queue orders, and Durable Task has no queues"),
        ({"cron": "0 3 * * *"}, "declares cron '0 3 \\* \\* \\*', and Durable Task has no cron"),
    ],
)
async def test_durable_task_refuses_what_it_cannot_do(durable_url: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told) as refused:
        async with Worker(durable_url, registry=declared(**options), payload_key="plain", environment={}):
            pytest.fail("it began")
    assert "PostgreSQL" in refused.value.hint


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Queue("orders", concurrency=2), Queue("orders", concurrency=3), "declared twice with different limits"),
        (Queue("orders"), Queue("orders", rate=Rate(1, 2)), "declared twice with different limits"),
        (Queue("keyleaf"), None, "keyleaf's own"),
    ],
)
async def test_dbos_refuses_queues_that_do_not_agree(
    tmp_path: Path, first: Queue, second: Queue | None, told: str
) -> None:
    registry = declared(queue=first)
    if second is not None:
        orchestration(registry=registry, queue=second)(needs)
    url = f"sqlite:///{tmp_path / 'flows.sqlite'}"
    with pytest.raises(DefinitionError, match=told):
        async with Worker(url, registry=registry, payload_key="plain", environment={}):
            pytest.fail("it began")


@pytest.mark.asyncio
async def test_a_worker_without_its_settings(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'flows.sqlite'}"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"orchestrator": ""}, "KEYLEAF_ORCHESTRATOR is not set"),
        ({"payload_key": ""}, "KEYLEAF_PAYLOAD_KEY is not set"),
        ({"payload_key": "a/b/c/d"}, "more than one '/'"),
        ({"environment": {"KEYLEAF_MAX_PAYLOAD": "much"}}, "KEYLEAF_MAX_PAYLOAD is 'much'"),
        ({"environment": {"KEYLEAF_VAULTS": "payments"}}, "KEYLEAF_VAULTS"),
    ]
    for changed, told in cases:
        options = {"orchestrator": url, "payload_key": "plain", "environment": {}, "registry": Registry(), **changed}
        with pytest.raises(InputError, match=told) as refused:
            async with Worker(options.pop("orchestrator"), **options):
                pytest.fail("it began")
        assert "\n" not in str(refused.value)
    async with Worker(url, payload_key="plain", environment={}, registry=Registry()):
        pass  # what failed before holds nothing back
