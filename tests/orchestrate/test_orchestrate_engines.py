"""What authors expect of orchestrations, on every engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from flows_of_tests import (
    JOURNAL,
    Order,
    booking,
    events_in_turn,
    fails,
    fans_out,
    four,
    fulfil,
    gives_up,
    limited,
    no_event,
    parent_of_failing,
    partly_fails,
    patient,
    races,
    repeatable,
    retries,
    too_slow,
    typed_event,
)

from keyleaf import InstanceCancelled, OrchestrationFailed, Worker
from keyleaf.orchestrate.engines.base import InstanceView, Query
from keyleaf.orchestrate.errors import CallError, InstanceInUse, InstanceNotFound

pytestmark = pytest.mark.asyncio


async def until(
    worker: Worker, instance: str, met: Callable[[InstanceView], bool], limit: float = 20.0
) -> InstanceView:
    """The instance as soon as a condition is met."""
    end = time.monotonic() + limit
    while True:
        view = await worker.get(instance)
        if met(view):
            return view
        assert time.monotonic() < end, f"not within {limit} s: {view}"
        await asyncio.sleep(0.05)


def waits_for(kind: str, name: str = "") -> Callable[[InstanceView], bool]:
    """Whether an instance waits for something."""
    return lambda view: any(each.kind == kind and name in (each.name, "") for each in view.waiting)


async def test_an_order_is_fulfilled(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(fulfil, Order(7, ["cup", "plate"]), instance="order-7", tags={"shop": "west"})
        view = await until(worker, instance, waits_for("event", "approved"))
        assert (view.state, view.status, view.tags) == ("running", "charged", {"shop": "west"})
        await worker.signal(instance, "approved", "somebody")
        assert await worker.result(instance, 20) == "True ['reserved cup', 'reserved plate'] box 7 by somebody"
        assert sorted(JOURNAL.of("order-7")) == ["charge 7", "reserve cup", "reserve plate"]
        steps = worker.engine.control.steps(instance)
        assert [
            (step.index, step.kind, step.name) for step in steps if step.kind in ("activity", "child", "event")
        ] == [
            (1, "activity", "charge"),
            (2, "activity", "reserve"),
            (3, "activity", "reserve"),
            (4, "child", "pack"),
            (5, "event", "approved"),
        ]
        assert (await worker.get(instance)).state == "completed"


async def test_the_same_start_again_is_the_same_instance(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        assert await worker.start(four, 1, instance="twice") == "twice"
        assert await worker.start(four, 1, instance="twice") == "twice"
        assert await worker.result("twice", 20) == 5
        assert await worker.start(four, 1, instance="twice") == "twice"
        assert JOURNAL.of("twice") == ["add 1", "add 2", "add 3", "add 4"]
        with pytest.raises(InstanceInUse, match="with other arguments"):
            await worker.start(four, 2, instance="twice")
        with pytest.raises(InstanceInUse, match="a run of four"):
            await worker.start(retries, 1, instance="twice")


async def test_an_activity_is_tried_again_as_often_as_declared(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        assert await worker.run(retries, 2, instance="tried", timeout=20) == 3
        with pytest.raises(OrchestrationFailed, match="attempt 4"):
            await worker.run(retries, 9, instance="tried-in-vain", timeout=20)
        assert len(JOURNAL.of("tried-in-vain")) == 4
        notes = [
            note
            for step in worker.engine.control.steps("tried")
            for envelope in step.envelopes
            for note in envelope.notes
        ]
        assert [(note.number, note.outcome) for note in notes] == [(1, "failed"), (2, "failed"), (3, "ok")]


async def test_an_error_that_is_not_worth_a_retry_is_not_retried(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        told = await worker.run(gives_up, instance="for-good", timeout=20)
        assert told == "broken ValueError after 1: activity broken failed: ValueError: for good"
        assert JOURNAL.of("for-good") == ["broken"]
        with pytest.raises(OrchestrationFailed, match="for good"):
            await worker.run(fails, timeout=20)
        assert await worker.run(parent_of_failing, timeout=20) == "OrchestrationFailed"
        found = await worker.run(partly_fails, timeout=20)
        assert found == ["reserved a", "ActivityFailed", "reserved b"]


async def test_time_limits(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        assert await worker.run(too_slow, timeout=20) == "TimeoutError"
        assert await worker.run(no_event, timeout=20) == "timeout of never"
        assert await worker.run(races, timeout=15) == "quick"
        with pytest.raises(OrchestrationFailed, match=r"did not end within 0\.3 s"):
            await worker.run(limited, timeout=20)


async def test_events_are_kept_until_somebody_waits_for_them(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(events_in_turn)
        await until(worker, instance, waits_for("event", "number"))
        await worker.signal(instance, "number", 1)
        await worker.signal(instance, "number", 2)
        assert await worker.result(instance, 20) == [1, 2]
        instance = await worker.start(typed_event)
        await worker.signal(instance, "number", "one")
        assert "event number is not what is declared" in await worker.result(instance, 20)


async def test_what_was_done_is_undone_when_a_later_step_fails(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        with pytest.raises(OrchestrationFailed, match="for good"):
            await worker.run(booking, Order(8), True, instance="booking-8", timeout=20)
        assert JOURNAL.of("booking-8") == ["charge 8", "broken", "refund 8"]


async def test_a_cancelled_instance_undoes_what_it_did(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(booking, Order(9), False, instance="booking-9")
        await until(worker, instance, waits_for("event", "go"))
        await worker.cancel(instance, "the customer changed his mind")
        with pytest.raises(InstanceCancelled, match="changed his mind"):
            await worker.result(instance, 20)
        assert JOURNAL.of("booking-9") == ["charge 9", "refund 9"]
        assert (await worker.get(instance)).state == "cancelled"
        with pytest.raises(CallError, match="has ended"):
            await worker.cancel(instance)


async def test_a_cancellation_ends_an_activity_that_runs(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(patient, instance="patient-1")
        while "long begins" not in JOURNAL.of("patient-1"):
            await asyncio.sleep(0.05)
        await worker.cancel(instance)
        with pytest.raises(InstanceCancelled):
            await worker.result(instance, 20)
        assert JOURNAL.of("patient-1") == ["long begins", "reserve what is left"]


async def test_a_terminated_instance_undoes_nothing(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(booking, Order(10), False, instance="booking-10")
        await until(worker, instance, waits_for("event", "go"))
        await worker.terminate(instance, "away with it")
        with pytest.raises(InstanceCancelled, match="terminated"):
            await worker.result(instance, 20)
        assert JOURNAL.of("booking-10") == ["charge 10"]
        assert (await worker.get(instance)).state == "terminated"


async def test_suspend_and_resume(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(booking, Order(11), False, instance="booking-11")
        await until(worker, instance, waits_for("event", "go"))
        await worker.suspend(instance, "for the night")
        await until(worker, instance, lambda view: view.state == "suspended")
        with pytest.raises(CallError, match="suspended already"):
            await worker.suspend(instance)
        await worker.signal(instance, "go")
        with pytest.raises(TimeoutError):
            await worker.result(instance, 1.5)
        await worker.resume(instance)
        assert await worker.result(instance, 20) == "booked"
        assert JOURNAL.of("booking-11") == ["charge 11"]


async def test_restart_from_a_step_takes_over_what_came_before(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        await worker.run(four, 1, instance="four-1", timeout=20)
        again = await worker.restart("four-1", "3", new_instance="four-2")
        assert await worker.result(again, 20) == 5
        assert JOURNAL.of("four-2") == ["add 3", "add 4"]
        with pytest.raises(CallError, match="has no step nothing"):
            await worker.restart("four-1", "nothing")
        order = await worker.start(fulfil, Order(12, ["cup"]), instance="order-12")
        await until(worker, order, waits_for("event", "approved"))
        await worker.signal(order, "approved", "one")
        first = await worker.result(order, 20)
        repeated = await worker.restart(order, "pack", new_instance="order-12-again")
        await worker.signal(repeated, "approved", "two")
        assert await worker.result(repeated, 20) == first.replace("one", "two")
        assert JOURNAL.of("order-12-again") == []


async def test_find_instances_by_name_state_tag_and_time(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        begun = time.time() - 1
        for number in range(3):
            await worker.start(four, number, instance=f"find-{number}", tags={"odd": str(number % 2)})
        for number in range(3):
            await worker.result(f"find-{number}", 20)
        waiting = await worker.start(booking, Order(13), False, instance="waiting-13")
        await until(worker, waiting, waits_for("event"))

        def found(**wanted: Any) -> set[str]:
            return {view.instance for view in worker.engine.control.list(Query(**wanted))}

        assert found(name="four") == {"find-0", "find-1", "find-2"}
        assert found(states=("completed",)) == {"find-0", "find-1", "find-2"}
        assert found(states=("running",)) == {"waiting-13"}
        assert found(tags=(("odd", "1"),)) == {"find-1"}
        assert found(prefix="find-") == {"find-0", "find-1", "find-2"}
        assert found(since=begun) == {"find-0", "find-1", "find-2", "waiting-13"}
        assert found(until=begun) == set()
        assert len(found(limit=2)) == 2


async def test_what_is_asked_in_an_orchestration_is_repeatable(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        found = await worker.run(repeatable, instance="repeatable-1", timeout=20)
        assert found[2:] == ["repeatable-1", "True"]
        assert await worker.run(repeatable, instance="repeatable-1", timeout=20) == found
        other = await worker.run(repeatable, instance="repeatable-2", timeout=20)
        assert other[0] != found[0]


async def test_a_wide_fan_out(orchestrator: str, make_worker: Any, vault: Any) -> None:
    async with make_worker(orchestrator) as worker:
        before = len(vault.requests)
        assert await worker.run(fans_out, 200, timeout=60) == 200 * len("s3cr3t-canary-value")
        # A batch gathers for two seconds at most; Durable Task may take longer to hand out so many activities.
        assert 1 <= len(vault.requests) - before <= (6 if orchestrator.startswith("durabletask") else 1)


async def test_bad_input_gets_one_clear_line(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator) as worker:
        with pytest.raises(CallError, match=r"argument number is not what is declared: Expected `int`, got `str`"):
            await worker.start(four, "one")
        with pytest.raises(CallError, match="misses number"):
            await worker.start(four)
        with pytest.raises(CallError, match="no orchestration is called five"):
            await worker.start("five", 1)
        with pytest.raises(InstanceNotFound, match="no instance is called nobody"):
            await worker.signal("nobody", "approved")
        with pytest.raises(InstanceNotFound, match="no instance is called nobody"):
            await worker.cancel("nobody")
        with pytest.raises(CallError, match="cannot be an instance id"):
            await worker.start(four, 1, instance=" ")
        with pytest.raises(CallError, match="more than the 1,048,576"):
            await worker.start(fulfil, Order(1, ["x" * 2_000_000]))
