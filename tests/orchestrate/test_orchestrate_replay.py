"""``keyleaf.testing``: what users test their orchestrations with, without an engine or against a real history."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flows_of_tests import (
    ACCEPTED,
    FLOWS,
    Order,
    Receipt,
    add_one,
    booking,
    charge,
    events_in_turn,
    four,
    fulfil,
    gives_up,
    no_event,
    races,
    refund,
    repeatable,
    reserve,
    sign_in,
    signs_in,
    uses_secret,
    with_secret,
)
from test_orchestrate_engines import until, waits_for

from keyleaf import (
    ActivityFailed,
    EventTimeout,
    OrchestrationFailed,
    Secret,
    Worker,
    activity,
    compensating,
    first,
    gather,
    orchestration,
    secret,
    sleep,
    wait_for_event,
)
from keyleaf.core.secret import SecretEscape
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.determinism import NondeterminismError
from keyleaf.orchestrate.errors import CallError, InstanceNotFound
from keyleaf.orchestrate.words import Orchestration
from keyleaf.testing import Replay, replay_instance


def test_a_run_with_given_activities_and_events() -> None:
    charged: list[Order] = []

    def charging(order: Order) -> Receipt:
        charged.append(order)
        return Receipt(order.number, paid=True)

    async def reserving(line: str) -> str:
        return f"{line} is ours"

    run = Replay(
        fulfil,
        Order(7, ["cup", "plate"]),
        activities={"charge": charging, "reserve": reserving, "pack": "box 1"},
        events={"approved": "somebody"},
    )
    assert run.result == "True ['cup is ours', 'plate is ours'] box 1 by somebody"
    assert [(call.index, call.kind, call.name) for call in run.calls] == [
        (1, "activity", "charge"),
        (2, "activity", "reserve"),
        (3, "activity", "reserve"),
        (4, "child", "pack"),
        (5, "event", "approved"),
        (6, "timer", "time limit of event approved"),
    ]
    assert run.calls[1].arguments == {"line": "cup"}
    assert run.calls[5].seconds == 24 * 3600
    assert run.statuses == ["charged"]
    assert charged == [Order(7, ["cup", "plate"])], "replays do not run activities again, and arguments are typed"


def test_errors_events_that_do_not_come_and_races() -> None:
    told = Replay(gives_up, activities={"broken": ValueError("no stock")}).result
    assert told == "broken ValueError after 1: activity broken failed: ValueError: no stock"
    given = {"charge": Receipt(7, True), "pack": "box"}
    run = Replay(fulfil, Order(7), activities=given)
    assert isinstance(run.error, EventTimeout)
    with pytest.raises(EventTimeout, match="approved did not come within 86400 s"):
        print(run.result)
    assert Replay(no_event).result == "timeout of never"
    assert Replay(races).result == "quick"
    assert Replay(events_in_turn, events={"number": [1, 2]}).error is not None, "the event came before the timer"
    undone = Replay(booking, Order(3), True, activities={"charge": charge, "broken": KeyError("x"), "refund": refund})
    assert [call.name for call in undone.calls] == ["charge", "broken", "refund"]
    assert isinstance(undone.error, ActivityFailed)
    failed = Replay(fulfil, Order(7), activities={**given, "pack": RuntimeError("no box")})
    assert isinstance(failed.error, OrchestrationFailed)
    assert Replay(repeatable).result == Replay(repeatable).result


def test_results_are_given_out_in_turn() -> None:
    assert Replay(four, 0, activities={"add_one": [10, 20, 30, 40]}).result == 40
    results = [1, 2]
    with pytest.raises(CallError, match="activity add_one is called more often than the test's list"):
        Replay(four, 0, activities={"add_one": results})
    assert results == [1, 2], "what the test gave is still the test's"


@pytest.mark.asyncio
async def test_in_a_test_that_is_async() -> None:
    assert Replay(four, 1, activities={"add_one": add_one}).result == 5


def test_secrets_are_those_that_the_test_gives() -> None:
    run = Replay(uses_secret, activities={"with_secret": with_secret}, secrets={"payments/portal": "test-value"})
    assert run.result == len("test-value")
    ACCEPTED.clear()
    ACCEPTED.add("good")
    accepted = Replay(signs_in, activities={"sign_in": sign_in}, secrets={"portal": "good"})
    assert accepted.result == "signed in"
    own = Replay(uses_secret, activities={"with_secret": lambda key: len(key.reveal()) + 1}, secrets={"portal": "abc"})
    assert own.result == 4
    assert Replay(uses_secret, activities={"with_secret": lambda: 5}).result == 5, "no function need take it"
    with pytest.raises(CallError, match=r'gives no secret payments/portal .* add secrets=\{"payments/portal": "…"\}'):
        Replay(uses_secret, activities={"with_secret": with_secret})


def leaking(leak: Callable[[str], object]) -> Any:
    """An orchestration whose activity lets its secret out."""
    registry = Registry()

    @activity(registry=registry, secrets={"key": secret("payments/portal")})
    async def leaks(key: Secret) -> object:
        return leak(key.reveal())

    @orchestration(registry=registry)
    async def hostile() -> object:
        return await leaks()

    return hostile, leaks


def test_a_secret_that_would_be_recorded_is_found_in_the_users_own_test() -> None:
    for leak in (lambda value: value, lambda value: {"log": f"used {value}"}, lambda value: value.encode().hex()):
        hostile, leaks = leaking(leak)
        run = Replay(hostile, activities={"leaks": leaks}, secrets={"payments/portal": "s3cr3t-canary-value"})
        assert isinstance(run.error, ActivityFailed)
        assert run.error.error_type == "SecretEscape"
        assert "payments/portal" in str(run.error)
        assert "canary" not in str(run.error)
    with pytest.raises(SecretEscape):
        Replay(fulfil, Order(1, ["s3cr3t-canary-value"]), secrets={"payments/portal": "s3cr3t-canary-value"})


def test_what_the_test_gives_is_checked() -> None:
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: Replay(four, "one"), "argument number is not what is declared"),
        (lambda: Replay(four, 1), r'nothing for activity add_one \(add activities=\{"add_one": …\}\)'),
        (lambda: Replay(four, 1, activities={"add_two": 3}), "no activity or orchestration is called add_two"),
        (
            lambda: Replay(four, 1, activities={"add_one": "three"}),
            "result of activity add_one is not what is declared",
        ),
        (lambda: Replay(events_in_turn), "waits for event number, which the test does not give"),
        (lambda: Replay(fulfil, Order(1), activities={"charge": object()}), "is not what is declared|cannot be kept"),
    ]
    for make, told in cases:
        try:
            error: BaseException | None = getattr(make(), "error", None)
        except CallError as raised:
            error = raised
        assert error is not None
        assert re.search(told, str(error)), error


def wavering(turns: Callable[[], bool], *, late: bool = False) -> Any:
    """An orchestration that decides by something that is not recorded."""

    @orchestration(registry=Registry())
    async def wavers(number: int) -> int:
        got = await add_one(number)
        if turns():
            await (reserve("x") if not late else add_one(got + 1))
        else:
            await add_one(got)
        return int(got)

    return wavers


def test_another_way_at_replay_is_named() -> None:
    given = {"add_one": add_one, "reserve": "reserved"}
    turns = itertools.cycle([True, False])
    with pytest.raises(
        NondeterminismError, match=r"wavers took another way .*command 2 was activity reserve and is activity add_one"
    ):
        Replay(wavering(lambda: next(turns)), 1, activities=given, registry=FLOWS)
    turns = itertools.cycle([True, False])
    with pytest.raises(
        NondeterminismError,
        match=r"command 2, activity add_one, was given \{'number': 3\} and is given \{'number': 2\}",
    ):
        Replay(wavering(lambda: next(turns), late=True), 1, activities=given, registry=FLOWS)
    assert Replay(wavering(lambda: True), 1, activities=given, registry=FLOWS).result == 2


# Histories of an engine.


def shop(*, changed: str = "") -> Registry:
    """One orchestration as it was, or changed in one way."""
    registry = Registry()

    @activity(registry=registry)
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    @activity(registry=registry)
    async def pick() -> str:
        return "picked"

    @orchestration(registry=registry)
    async def label() -> str:
        return "label"

    async def sell_now(amount: int) -> str:
        if changed == "order":
            await pick()
        async with compensating() as undo:
            paid = await pay(amount)
            undo.add(pick)
        quick, slow = sleep(0.01), sleep(60)
        assert await first(slow, quick) is quick
        if changed != "fewer":
            await gather(pick(), label())
        if changed == "kind":
            await sleep(1)
        word = await wait_for_event("go" if changed != "event" else "proceed", timeout=600, type=str)
        if changed == "more":
            await pick()
        return f"{paid} {word}"

    if changed == "caught":

        async def sell_now(amount: int) -> str:  # type: ignore[no-redef]
            try:
                await pick()
            except Exception:
                return "never mind"
            return "no"

    orchestration(registry=registry, name="sell")(sell_now)
    return registry


@pytest.mark.asyncio
async def test_a_real_history_with_the_code_as_it_is_and_changed(orchestrator: str) -> None:
    registry = shop()
    async with Worker(orchestrator, registry=registry, payload_key="plain", environment={}) as worker:
        await worker.start("sell", 7, instance="running")
        await until(worker, "running", waits_for("event", "go"))
        await worker.start("sell", 8, instance="ended")
        await worker.signal("ended", "go", "now")
        assert await worker.result("ended", 20) == "paid 8 now"
        for instance in ("running", "ended"):
            await replay_instance(worker, instance)
            same = shop()
            await replay_instance(worker, instance, _declared(same))
        cases = [
            ("order", "ended", r"ended: command 1 was activity pay and is activity pick now \(the code changed"),
            ("order", "running", "running: command 1 was activity pay and is activity pick now"),
            ("fewer", "running", "command 5 was activity pick and is event go now"),
            ("kind", "ended", "command 7 was event go and is timer timer now"),
            ("event", "ended", "command 7 was event go and is event proceed now"),
            ("caught", "ended", "command 1 was activity pay and is activity pick now"),
        ]
        for changed, instance, told in cases:
            with pytest.raises(NondeterminismError, match=told):
                await replay_instance(worker, instance, _declared(shop(changed=changed)))
        await replay_instance(worker, "running", _declared(shop(changed="more")))  # it has not come so far
        with pytest.raises(InstanceNotFound):
            await replay_instance(worker, "nobody")


def _declared(registry: Registry) -> Any:
    return Orchestration(registry.orchestration("sell"), registry)


@pytest.mark.asyncio
async def test_a_sealed_history_and_one_that_was_restarted(tmp_path: Path, make_worker: Any) -> None:
    async with make_worker(f"sqlite:///{tmp_path / 'flows.sqlite'}") as worker:
        assert await worker.run(four, 1, instance="four", timeout=20) == 5
        await replay_instance(worker, "four")
        again = await worker.restart("four", "3")
        await worker.result(again, 20)
        with pytest.raises(CallError, match=r"was restarted from a step of four \(replay four\)"):
            await replay_instance(worker, again)
