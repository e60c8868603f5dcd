"""While a secret cannot be had an instance waits, visibly, up to its deadline; a pinned version stays pinned."""

from __future__ import annotations

import time
from typing import Any

import pytest
from test_orchestrate_engines import until, waits_for
from test_orchestrate_secrets import notes_of

from client.simulated_vault import SimulatedVault
from conftest import ENVIRONMENT, PAYMENTS
from keyleaf import OrchestrationFailed, Secret, activity, gather, orchestration, secret
from keyleaf.orchestrate.definitions import Registry

pytestmark = pytest.mark.asyncio

ON_SQLITE = pytest.mark.parametrize("orchestrator", ["sqlite"], indirect=True)
NOT_ON_POSTGRES = pytest.mark.parametrize("orchestrator", ["sqlite", "durabletask"], indirect=True)
OWNED = {**ENVIRONMENT, "KEYLEAF_APPLICATION": "shop/payments"}


def uses(deadline: float = 3600.0, **options: Any) -> Registry:
    """One orchestration that needs a secret, declared in one way."""
    registry = Registry()
    ran: list[int] = []

    @activity(
        registry=registry,
        secrets={"key": secret("payments/portal", **options)},
        secrets_deadline=deadline,
    )
    async def pay(key: Secret) -> int:
        ran.append(1)
        return len(key.reveal())

    @activity(registry=registry, secrets={"one": secret("payments/portal"), "two": secret("payments/second")})
    async def both(one: Secret, two: Secret) -> int:
        return len(one.reveal()) + len(two.reveal())

    @orchestration(registry=registry)
    async def sell() -> int:
        return int(await pay())

    @orchestration(registry=registry)
    async def sell_twice() -> list[int]:
        return list(await gather(pay(), pay()))

    @orchestration(registry=registry)
    async def sell_with_two() -> int:
        return int(await both())

    return registry


@NOT_ON_POSTGRES
async def test_the_deadline_passes(orchestrator: str, make_worker: Any, vault: SimulatedVault) -> None:
    vault.change(PAYMENTS, "portal", enabled=False)
    async with make_worker(orchestrator, registry=uses(deadline=1.5), environment=OWNED) as worker:
        begun = time.time()
        await worker.start("sell", instance="late")
        view = await until(worker, "late", waits_for("secret", "pay"))
        (waiting,) = view.waiting
        (blocked,) = view.blocked
        assert waiting.detail == "blocked on secret payments/portal: disabled"
        assert blocked.owner == "shop/payments"
        assert waiting.until == blocked.deadline
        assert begun + 1.5 <= blocked.deadline <= time.time() + 1.5
        with pytest.raises(OrchestrationFailed, match=r"SecretUnavailable: .*payments/portal.* disabled") as failed:
            await worker.result("late", 20)
        assert "\n" not in str(failed.value)
        assert time.time() >= begun + 1.5
        ended = await worker.get("late")
        assert (ended.state, ended.waiting, ended.blocked) == ("failed", (), ())
        notes = notes_of(worker, "late")
        assert [note.outcome for note in notes[:-1]] == ["blocked"] * (len(notes) - 1)
        assert notes[-1].outcome == "failed"
        assert {note.number for note in notes} == {1}, "waiting is no attempt"


@ON_SQLITE
async def test_with_no_deadline_it_fails_at_once(orchestrator: str, make_worker: Any, vault: SimulatedVault) -> None:
    vault.delete(PAYMENTS, "portal")
    async with make_worker(orchestrator, registry=uses(deadline=0.0)) as worker:
        with pytest.raises(OrchestrationFailed, match="SecretUnavailable: payments/portal is not in the vault"):
            await worker.run("sell", timeout=5)


@ON_SQLITE
@pytest.mark.parametrize("rule", ["block", "use"])
async def test_an_expired_secret_by_policy(
    orchestrator: str, make_worker: Any, vault: SimulatedVault, rule: str
) -> None:
    vault.change(PAYMENTS, "portal", expires_on=time.time() - 60)
    async with make_worker(orchestrator, registry=uses(expired=rule)) as worker:
        await worker.start("sell", instance="expired")
        if rule == "use":
            assert await worker.result("expired", 20) == len("s3cr3t-canary-value")
            return
        view = await until(worker, "expired", waits_for("secret", "pay"))
        assert view.blocked[0].reason == "expired"
        vault.change(PAYMENTS, "portal", expires_on=time.time() + 60)
        assert await worker.result("expired", 20) == len("s3cr3t-canary-value")


@NOT_ON_POSTGRES
async def test_a_pinned_version_stays_pinned(orchestrator: str, make_worker: Any, vault: SimulatedVault) -> None:
    pinned = vault.put(PAYMENTS, "portal", "pinned-canary")
    vault.put(PAYMENTS, "portal", "a-longer-canary-after-the-rotation")
    async with make_worker(orchestrator, registry=uses(version=pinned)) as worker:
        assert await worker.run("sell", instance="first", timeout=20) == len("pinned-canary")
        # Disabled, it is waited for: the newer one is not taken instead.
        vault.change(PAYMENTS, "portal", pinned, enabled=False)
        await worker.start("sell", instance="second")
        view = await until(worker, "second", waits_for("secret", "pay"))
        assert view.blocked[0].reason == "disabled"
        vault.change(PAYMENTS, "portal", pinned, enabled=True)
        assert await worker.result("second", 20) == len("pinned-canary")
        for instance in ("first", "second"):
            assert notes_of(worker, instance)[-1].secrets[0].version == pinned


@ON_SQLITE
async def test_a_cancellation_ends_the_wait(orchestrator: str, make_worker: Any, vault: SimulatedVault) -> None:
    vault.change(PAYMENTS, "portal", enabled=False)
    async with make_worker(orchestrator, registry=uses()) as worker:
        await worker.start("sell_twice", instance="two-wait")
        view = await until(worker, "two-wait", lambda view: len(view.blocked) == 2)
        assert {each.secret for each in view.blocked} == {"payments/portal"}
        await worker.cancel("two-wait", "no longer wanted")
        with pytest.raises(Exception, match="no longer wanted"):
            await worker.result("two-wait", 20)
        assert (await worker.get("two-wait")).state == "cancelled"


@ON_SQLITE
async def test_of_two_secrets_the_one_that_lacks_is_named(
    orchestrator: str, make_worker: Any, vault: SimulatedVault
) -> None:
    async with make_worker(orchestrator, registry=uses()) as worker:
        await worker.start("sell_with_two", instance="one-lacks")
        view = await until(worker, "one-lacks", waits_for("secret", "both"))
        assert (view.blocked[0].secret, view.blocked[0].reason) == ("payments/second", "missing")
        vault.put(PAYMENTS, "second", "12345678")
        assert await worker.result("one-lacks", 20) == len("s3cr3t-canary-value") + 8


@ON_SQLITE
async def test_a_wait_survives_the_worker(orchestrator: str, make_worker: Any, vault: SimulatedVault) -> None:
    vault.change(PAYMENTS, "portal", enabled=False)
    registry = uses()
    async with make_worker(orchestrator, registry=registry) as worker:
        await worker.start("sell", instance="patient")
        first = await until(worker, "patient", waits_for("secret", "pay"))
    async with make_worker(orchestrator, registry=registry) as worker:
        second = await until(worker, "patient", waits_for("secret", "pay"))
        assert second.blocked[0].deadline == pytest.approx(first.blocked[0].deadline), "the deadline does not move"
        vault.change(PAYMENTS, "portal", enabled=True)
        assert await worker.result("patient", 20) == len("s3cr3t-canary-value")
