"""An instance that runs finishes on the code that it began with; new instances take the version declared last."""

from __future__ import annotations

import pytest
from test_orchestrate_engines import until, waits_for

from keyleaf import OrchestrationFailed, Worker, activity, activity_info, orchestration, wait_for_event
from keyleaf.orchestrate.definitions import Registry

pytestmark = pytest.mark.asyncio

ON_SQLITE = pytest.mark.parametrize("orchestrator", ["sqlite"], indirect=True)


class Ledger:
    """What the activities of a test did."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def write(self, entry: str) -> None:
        """Note it."""
        self.entries.append(f"{activity_info().instance} {entry}")


def selling(ledger: Ledger, *versions: str) -> Registry:
    """A registry with these versions of an orchestration; version 2 gives other commands."""
    registry = Registry()

    @activity(registry=registry)
    async def charge() -> str:
        ledger.write("charge")
        return "charged"

    @activity(registry=registry)
    async def send() -> str:
        ledger.write("send")
        return "sent"

    @orchestration(registry=Registry(), name="sell")
    async def as_it_was() -> str:
        paid = await charge()
        await wait_for_event("go")
        return f"1: {paid}, {await send()}"

    @orchestration(registry=Registry(), name="sell", version="2")
    async def as_it_is() -> str:
        sent = await send()
        await wait_for_event("go")
        return f"2: {sent}, {await charge()}"

    for declared in (as_it_was, as_it_is):
        if declared.definition.version in versions:
            registry.add_orchestration(declared.definition)
    return registry


def worker_on(url: str, registry: Registry) -> Worker:
    """A worker without a vault."""
    return Worker(url, registry=registry, payload_key="plain", environment={})


async def test_an_old_instance_finishes_on_the_old_code(orchestrator: str) -> None:
    ledger = Ledger()
    async with worker_on(orchestrator, selling(ledger, "1")) as worker:
        await worker.start("sell", instance="old")
        await until(worker, "old", waits_for("event", "go"))
    async with worker_on(orchestrator, selling(ledger, "1", "2")) as worker:
        await worker.start("sell", instance="new")
        await until(worker, "new", waits_for("event", "go"))
        for instance in ("old", "new"):
            await worker.signal(instance, "go")
        assert await worker.result("old", 20) == "1: charged, sent"
        assert await worker.result("new", 20) == "2: sent, charged"
        assert ((await worker.get("old")).version, (await worker.get("new")).version) == ("1", "2")
    assert sorted(ledger.entries) == ["new charge", "new send", "old charge", "old send"]


async def test_an_instance_waits_for_a_worker_that_has_its_code(orchestrator: str) -> None:
    ledger = Ledger()
    async with worker_on(orchestrator, selling(ledger, "1")) as worker:
        await worker.start("sell", instance="old")
        await until(worker, "old", waits_for("event", "go"))
    async with worker_on(orchestrator, selling(ledger, "2")) as worker:
        if not orchestrator.startswith("durabletask"):  # there the scheduler keeps what no worker asks for
            view = await until(worker, "old", lambda view: "waits for a worker" in view.status)
            assert view.status == "waits for a worker that has sell version 1"
        await worker.signal("old", "go")
        await worker.start("sell", instance="new")
        await worker.signal("new", "go")
        assert await worker.result("new", 20) == "2: sent, charged"
        assert (await worker.get("old")).state == "running"
    async with worker_on(orchestrator, selling(ledger, "1", "2")) as worker:
        assert await worker.result("old", 20) == "1: charged, sent"
    assert ledger.entries.count("old charge") == ledger.entries.count("old send") == 1


@ON_SQLITE
async def test_code_that_changed_without_a_new_version_is_named(orchestrator: str) -> None:
    ledger = Ledger()
    changed = Registry()
    both = selling(ledger, "1", "2")
    changed.activities = both.activities
    found = both.orchestration("sell", "2")
    changed.orchestrations["sell"] = {"1": type(found)(**{**vars(found), "version": "1"})}
    async with worker_on(orchestrator, selling(ledger, "1")) as worker:
        await worker.start("sell", instance="old")
        await until(worker, "old", waits_for("event", "go"))
    async with worker_on(orchestrator, changed) as worker:
        with pytest.raises(OrchestrationFailed) as failed:
            await worker.result("old", 20)
    told = str(failed.value)
    assert "charge" in told, told
    assert "send" in told, told
    assert "\n" not in told
    assert ledger.entries == ["old charge"], "nothing was done by the code that does not fit"
