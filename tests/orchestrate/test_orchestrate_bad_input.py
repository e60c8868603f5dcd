"""Bad input gets one clear line where it is given, and nothing that runs is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from test_orchestrate_engines import until, waits_for

from conftest import ENVIRONMENT
from keyleaf import OrchestrationFailed, Worker, activity, orchestration, set_status, sleep, wait_for_event
from keyleaf.core.errors import KeyleafError
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.engines.base import Query

pytestmark = pytest.mark.asyncio

NOT_ON_POSTGRES = pytest.mark.parametrize("orchestrator", ["sqlite", "durabletask"], indirect=True)
ON_SQLITE = pytest.mark.parametrize("orchestrator", ["sqlite"], indirect=True)


def shop() -> Registry:
    """Orchestrations that are given, and do, what cannot be."""
    registry = Registry()

    @activity(registry=registry)
    async def echo(text: str) -> str:
        return text

    @activity(registry=registry)
    async def grow(size: int) -> str:
        return "x" * size

    @activity(registry=registry)
    async def lies() -> int:
        return "one"  # type: ignore[return-value]

    @activity(registry=registry)
    async def opaque() -> object:
        return object()

    @orchestration(registry=registry)
    async def waits() -> str:
        return str(await wait_for_event("go", type=str))

    @orchestration(registry=registry)
    async def tries(what: str) -> str:
        try:
            if what == "wrong type":
                await echo(3)
            elif what == "missing":
                await echo()
            elif what == "surplus":
                await echo("a", "b")
            elif what == "large input":
                await echo("x" * 5000)
            elif what == "large result":
                await grow(5000)
            elif what == "false result":
                await lies()
            elif what == "opaque result":
                await opaque()
            elif what == "event name":
                await wait_for_event("two words")
            elif what == "negative":
                await sleep(-1)
            elif what == "status":
                set_status(3)  # type: ignore[arg-type]
        except KeyleafError as error:
            return str(error)
        return "nothing was refused"

    @orchestration(registry=registry)
    async def returns(size: int) -> object:
        return "x" * size if size else {1, 2}

    return registry


TRIES = {
    "wrong type": "tries-wrong-type: the input of activity echo, argument text is not what is declared: Expected `str`",
    "missing": "takes text, misses text",
    "surplus": "takes text",
    "large input": "has 5,011 bytes, more than the 2,048 that a payload may have (keep the data in a store of its own",
    "large result": "the result of activity grow has 5,002 bytes, more than the 2,048",
    "false result": "the result of activity lies is not what is declared: Expected `int`, got `str`",
    "opaque result": "the result of activity opaque cannot be kept: builtins.object cannot be written as JSON",
    "event name": "event name 'two words' is not usable",
    "negative": "a timer of -1.0 s cannot be set (use 0 or more seconds)",
    "status": "set_status() takes text, not int",
}


async def require_line(work: Awaitable[Any], told: str) -> None:
    """What is refused is refused in one line."""
    with pytest.raises(KeyleafError) as refused:
        await work
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def worker_on(url: str) -> Worker:
    """A worker that takes small payloads only."""
    environment = {**ENVIRONMENT, "KEYLEAF_MAX_PAYLOAD": "2048"}
    return Worker(url, registry=shop(), payload_key="plain", environment=environment)


@NOT_ON_POSTGRES
async def test_what_is_given_to_a_worker(orchestrator: str) -> None:
    async with worker_on(orchestrator) as worker:
        await worker.start("waits", instance="bystander", tags={"kept": "yes"})
        await until(worker, "bystander", waits_for("event", "go"))
        attempts: list[tuple[Callable[[], Awaitable[Any]], str]] = [
            (lambda: worker.start("sells"), "no orchestration is called sells (this worker has returns, tries, waits)"),
            (lambda: worker.start("tries", 3), "argument what is not what is declared: Expected `str`, got `int`"),
            (lambda: worker.start("tries", where="x"), "misses what, does not know where"),
            (lambda: worker.start("tries", "x", "y"), "takes what"),
            (lambda: worker.start("tries", "x" * 3000), "more than the 2,048 that a payload may have"),
            (lambda: worker.start("tries", "x", instance="a\nb"), "cannot be an instance id"),
            (lambda: worker.start("tries", "x", instance="x" * 257), "cannot be an instance id"),
            (
                lambda: worker.start("tries", "x", instance="bystander"),
                "instance bystander exists already: a run of wa",
            ),
            (lambda: worker.signal("nobody", "go", "x"), "no instance is called nobody"),
            (lambda: worker.signal("bystander", "go", object()), "event go cannot be kept"),
            (lambda: worker.signal("bystander", "go", "x" * 3000), "bystander: event go has 3,002 bytes, more than"),
            (lambda: worker.resume("bystander"), "bystander is running, not suspended"),
            (lambda: worker.restart("bystander", "1"), "bystander is running (cancel or terminate it first)"),
            (lambda: worker.restart("nobody", "1"), "no instance is called nobody"),
            (lambda: worker.get("nobody"), "no instance is called nobody"),
        ]
        for attempt, told in attempts:
            await require_line(attempt(), told)
        views = await asyncio.to_thread(worker.engine.control.list, Query())
        assert [view.instance for view in views] == ["bystander"], "nothing half-started is left"
        await worker.signal("bystander", "stop", 7)  # nobody waits for it, now or ever
        await worker.signal("bystander", "go", "on")
        assert await worker.result("bystander", 20) == "on"
        await require_line(
            worker.signal("bystander", "go"), "bystander has ended (completed); nobody would hear event go"
        )
        await require_line(worker.cancel("bystander"), "bystander has ended (completed); it cannot be cancelled")
        await require_line(worker.terminate("bystander"), "it cannot be terminated")
        await require_line(worker.suspend("bystander"), "it cannot be suspended")


@ON_SQLITE
async def test_what_an_orchestration_is_told(orchestrator: str) -> None:
    async with worker_on(orchestrator) as worker:
        for what, told in TRIES.items():
            instance = f"tries-{what.replace(' ', '-')}"
            answer = await worker.run("tries", what, instance=instance, timeout=20)
            assert told in answer, what
            assert "\n" not in answer
        for size, told in ((5000, "has 5,002 bytes, more than the 2,048"), (0, "completed")):
            instance = f"returns-{size}"
            if size:
                with pytest.raises(OrchestrationFailed) as failed:
                    await worker.run("returns", size, instance=instance, timeout=20)
                assert told in str(failed.value)
                assert "\n" not in str(failed.value)
            else:
                assert await worker.run("returns", size, instance=instance, timeout=20) == [1, 2]
                assert (await worker.get(instance)).state == told
