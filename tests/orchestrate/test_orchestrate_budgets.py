"""Retries wait for a token: of their activity's bucket and of their orchestration's, whichever is later."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.simulated_vault import SimulatedVault
from keyleaf import Retry, RetryBudget, Secret, activity, orchestration, secret
from keyleaf.client.addresses import VaultAddresses
from keyleaf.client.guard import SecretGuard
from keyleaf.client.reader import SecretReader
from keyleaf.orchestrate.activity_call import ActivityCall
from keyleaf.orchestrate.attempt import ActivityRunner
from keyleaf.orchestrate.budget import Bucket, Budgets
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.payload import PayloadCodec
from virtual_time import VirtualClock, run_virtually


class SetClock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def require_within(budget: RetryBudget, times: list[float]) -> None:
    """In no stretch of time are there more than the burst (one at least) and what came in that time."""
    ordered = sorted(times)
    for begin, end in itertools.combinations_with_replacement(range(len(ordered)), 2):
        stretch = ordered[end] - ordered[begin]
        assert end - begin + 1 <= max(budget.burst, 1) + budget.rate * stretch + 1e-6


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(1, 6)), min_size=1, max_size=25),
    st.floats(0, 20),
    st.floats(0.1, 20),
)
def test_tokens_never_come_faster_than_declared(steps: list[tuple[float, int]], burst: float, rate: float) -> None:
    clock = SetClock()
    budget = RetryBudget(burst, rate)
    bucket = Bucket(budget, clock)
    given_at: list[float] = []
    for pause, count in steps:
        clock.time += pause
        for _ in range(count):
            wait = bucket.take()
            assert wait >= 0
            given_at.append(clock.time + wait)
    require_within(budget, given_at)
    assert given_at == sorted(given_at), "who asked first is served first"


def test_a_bucket_that_rested_is_full_and_no_fuller() -> None:
    clock = SetClock()
    bucket = Bucket(RetryBudget(burst=2, rate=4), clock)
    assert [bucket.take() for _ in range(4)] == [0, 0, 0.25, 0.5]
    clock.time = 1000.0
    assert [bucket.take() for _ in range(3)] == [0, 0, 0.25]


def test_buckets_are_apart_by_kind_and_name() -> None:
    budgets = Budgets(SetClock())
    one = RetryBudget(burst=1, rate=1)
    assert budgets.wait("activity", "charge", one) == 0
    assert budgets.wait("activity", "charge", one) == 1
    assert budgets.wait("orchestration", "charge", one) == 0
    assert budgets.wait("activity", "send", one) == 0


class Failing:
    """Activities that always fail, run by a runner in virtual time, and when their retries began."""

    def __init__(self, clock: VirtualClock, registry: Registry, reader: SecretReader | None = None) -> None:
        self.retries: dict[str, list[float]] = {}
        self.waits: list[float] = []
        self._clock = clock
        self._codec = PayloadCodec({})
        self._runner = ActivityRunner(
            registry, self._codec, SecretGuard(), reader, clock, worker="w", jitter=lambda: 0.0
        )

    async def call(self, instance: str, orchestration: str, activity: str, until: float) -> None:
        """One call with all its retries, as an engine carries them out."""
        payload = self._codec.seal(b"{}", f"{instance}/1/input")
        attempt = 1
        while self._clock.monotonic() < until:
            if attempt > 1:
                self.retries.setdefault(activity, []).append(self._clock.monotonic())
            call = ActivityCall(instance, orchestration, activity, 1, payload, self._clock.now(), attempt)
            envelope = await self._runner.attempt(call)
            assert envelope.kind == "error"
            if envelope.retry_in < 0:
                return
            assert envelope.notes[-1].wait == envelope.retry_in, "how long it waits is on record"
            self.waits.append(envelope.retry_in)
            await asyncio.sleep(envelope.retry_in)
            attempt += 1


def broken_shop(of_activity: RetryBudget, of_orchestration: RetryBudget) -> Registry:
    """Two activities that fail, and two orchestrations."""
    registry = Registry()
    for name in ("charge", "send"):

        @activity(registry=registry, name=name, retry=Retry(max_attempts=10_000, first=0.0), budget=of_activity)
        async def fails() -> None:
            raise ConnectionError("away")

    for name in ("sell", "rent"):

        @orchestration(registry=registry, name=name, budget=of_orchestration)
        async def nothing() -> None: ...

    return registry


WIDE = RetryBudget(burst=1e6, rate=1e6)


@pytest.mark.parametrize("narrow", ["activity", "orchestration"])
def test_many_instances_that_fail_do_not_retry_faster_than_the_budget(narrow: str) -> None:
    budget = RetryBudget(burst=5, rate=2)
    registry = broken_shop(*((budget, WIDE) if narrow == "activity" else (WIDE, budget)))

    async def program(clock: VirtualClock) -> Failing:
        failing = Failing(clock, registry)
        calls: list[Any] = []
        for number in range(40):
            calls.append(failing.call(f"sell-{number}", "sell", "charge", 60.0))
            calls.append(failing.call(f"sell-{number}", "sell", "send", 60.0))
        await asyncio.gather(*calls)
        return failing

    failing = run_virtually(program)
    charges, sends = failing.retries["charge"], failing.retries["send"]
    if narrow == "activity":
        for times in (charges, sends):
            require_within(budget, times)
            assert len(times) >= 100, "what the budget allows is used"
    else:
        require_within(budget, charges + sends)
        assert len(charges + sends) >= 100
    assert max(failing.waits) > 10, "the others wait their turn"


def test_retries_of_all_activities_that_read_from_one_vault_share_a_budget() -> None:
    registry = Registry()
    for name in ("charge", "send"):

        @activity(
            registry=registry,
            name=name,
            secrets={"key": secret("payments/portal")},
            retry=Retry(max_attempts=10_000, first=0.0),
            budget=WIDE,
        )
        async def fails(key: Secret) -> None:
            raise ConnectionError("away")

    @orchestration(registry=registry, name="sell", budget=WIDE)
    async def nothing() -> None: ...

    async def program(clock: VirtualClock) -> Failing:
        vault = SimulatedVault(clock)
        vault.put("https://payments.vault.azure.net", "portal", "s3cr3t-canary-value")
        addresses = VaultAddresses({"payments": "https://payments.vault.azure.net"})
        failing = Failing(clock, registry, SecretReader(vault, addresses, clock=clock))
        await asyncio.gather(
            *[
                failing.call(f"sell-{number}", "sell", ("charge", "send")[number % 2], clock.monotonic() + 60.0)
                for number in range(300)
            ]
        )
        return failing

    failing = run_virtually(program)
    retries = failing.retries["charge"] + failing.retries["send"]
    # A retry begins when it has its token, and its read may take its turn behind another one.
    assert 0.8 * (100 + 60 * 10) < len(retries) <= 1.05 * (100 + 60 * 10) + 10


def test_one_orchestrations_retries_leave_anothers_alone() -> None:
    budget = RetryBudget(burst=1, rate=0.1)
    registry = broken_shop(WIDE, budget)

    async def program(clock: VirtualClock) -> list[float]:
        failing = Failing(clock, registry)
        await asyncio.gather(*[failing.call(f"sell-{number}", "sell", "charge", 5.0) for number in range(20)])
        before = clock.monotonic()
        other = Failing.call(failing, "rent-1", "rent", "charge", before + 1.0)
        failing.waits.clear()
        await other
        return failing.waits

    assert run_virtually(program)[0] == 0.0


def test_the_longest_of_backoff_retry_after_and_budget_is_waited() -> None:
    registry = Registry()

    class Throttled(Exception):
        retry_after = 7.0

    @activity(registry=registry, retry=Retry(max_attempts=3, first=4.0, factor=3.0, max_interval=10.0))
    async def throttled() -> None:
        raise Throttled

    @orchestration(registry=registry, name="sell")
    async def nothing() -> None: ...

    async def program(clock: VirtualClock) -> list[float]:
        codec = PayloadCodec({})
        runner = ActivityRunner(registry, codec, SecretGuard(), None, clock, worker="w", jitter=lambda: 1.0)
        waits = []
        for attempt in (1, 2, 3):
            call = ActivityCall("a", "sell", "throttled", 1, codec.seal(b"{}", "a/1/input"), clock.now(), attempt)
            waits.append((await runner.attempt(call)).retry_in)
        return waits

    assert run_virtually(program) == [7.0, 10.0, -1.0]
