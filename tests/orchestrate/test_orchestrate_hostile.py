"""Activities that try to carry a secret out: a slice of ``make hostile`` with its control, and what ends a worker."""

from __future__ import annotations

import asyncio
import base64
import html
import json
import urllib.parse
from typing import Any

import pytest
from hostile.__main__ import missing
from hostile.canaries import KINDS, Canaries
from hostile.search import Findings, Search
from hostile.stage import Setting, Vault, choose, perform, vault
from hostile.ways import WAYS

from client.simulated_vault import SimulatedVault
from conftest import ENVIRONMENT, PAYMENTS
from keyleaf import OrchestrationFailed, Secret, activity, orchestration, secret
from keyleaf.core.secret import SecretEscape
from keyleaf.orchestrate.definitions import Registry

LOCAL = Registry()
CANARY = "s3cr3t-canary-value"


class Leaves(BaseException):
    """Not an Exception."""


def _raiser(name: str, make: Any) -> Any:
    async def asynchronous(key: Secret) -> None:
        raise make(key.reveal())

    def threaded(key: Secret) -> None:
        raise make(key.reveal())

    flows = []
    for suffix, function in (("async", asynchronous), ("thread", threaded)):
        called = f"{name}-{suffix}"
        raises = activity(function, name=called, secrets={"key": secret("payments/portal")}, registry=LOCAL)

        async def flow(raises: Any = raises) -> str:
            await raises()
            return "done"

        flows.append(orchestration(flow, name=called, registry=LOCAL))
    return flows


EXITS = {
    "exit": SystemExit,
    "leave": Leaves,
    "cancel": asyncio.CancelledError,
    "stop": StopIteration,
    "interrupt": KeyboardInterrupt,
    "type": lambda value: type(value, (Exception,), {})("refused"),
}
for _name, _make in EXITS.items():
    _raiser(_name, _make)


@activity(secrets={"key": secret("payments/portal")}, registry=LOCAL)
async def looks(key: Secret) -> int:
    """Holds the secret."""
    return len(key.reveal())


@orchestration(registry=LOCAL)
async def holds() -> int:
    """Lets the worker hold the secret."""
    return await looks()


@orchestration(registry=LOCAL)
async def exits() -> None:
    """An orchestration that ends the program."""
    raise SystemExit(CANARY)


@activity(registry=LOCAL)
async def fails_at_length() -> None:
    """Raises more than a small limit lets through."""
    raise ValueError("x" * 6000)


@orchestration(registry=LOCAL)
async def long_error() -> None:
    """Awaits it."""
    await fails_at_length()


@pytest.mark.asyncio
async def test_what_would_end_the_worker_fails_the_activity(orchestrator: str, make_worker: Any) -> None:
    async with make_worker(orchestrator, registry=LOCAL) as worker:
        for name in EXITS:
            for suffix in ("async", "thread"):
                with pytest.raises(OrchestrationFailed) as failed:
                    await worker.run(f"{name}-{suffix}", timeout=20)
                assert f"activity {name}-{suffix} failed" in str(failed.value)
                assert CANARY not in f"{failed.value} {failed.value.error_type} {failed.value.details}"
        with pytest.raises(OrchestrationFailed, match="SystemExit was raised") as failed:
            await worker.run("exits", timeout=20)
        assert CANARY not in f"{failed.value} {failed.value.details}"
        assert await worker.run(holds, timeout=20) == len(CANARY)
        await worker.start("type-async", instance="type")
        with pytest.raises(OrchestrationFailed):
            await worker.result("type", 20)
        assert CANARY not in str(worker.engine.control.steps("type"))


@pytest.mark.asyncio
async def test_an_error_larger_than_the_limit_is_cut_short(orchestrator: str, make_worker: Any) -> None:
    environment = {**ENVIRONMENT, "KEYLEAF_MAX_PAYLOAD": "1024"}
    async with make_worker(orchestrator, registry=LOCAL, environment=environment) as worker:
        with pytest.raises(OrchestrationFailed, match="ValueError: x"):
            await worker.run("long_error", timeout=20)


@pytest.mark.asyncio
async def test_ids_tags_events_and_reasons_are_searched(
    orchestrator: str, make_worker: Any, vault: SimulatedVault
) -> None:
    vault.put(PAYMENTS, "portal", CANARY)
    async with make_worker(orchestrator, registry=LOCAL) as worker:
        assert await worker.run(holds, instance="holds", timeout=20) == len(CANARY)
        refused: list[Any] = [
            worker.start(holds, instance=f"job-{CANARY}"),
            worker.start(holds, instance=CANARY.encode().hex()),
            worker.start(holds, tags={CANARY: "1"}),
            worker.start(holds, tags={"customer": f"for {CANARY}"}),
            worker.signal("holds", CANARY, 1),
            worker.cancel("holds", f"because of {CANARY}"),
            worker.terminate("holds", CANARY),
            worker.suspend("holds", CANARY),
            worker.restart("holds", "1", new_instance=CANARY),
        ]
        for each in refused:
            with pytest.raises(SecretEscape) as escape:
                await each
            assert CANARY not in str(escape.value) and "payments/portal" in str(escape.value)


def test_the_search_finds_every_form() -> None:
    canaries = Canaries.from_seed(5)
    search = Search(canaries, 3)
    for kind in KINDS:
        value = canaries.value(kind, 2)
        for written in (
            value,
            json.dumps(json.dumps([value])),
            urllib.parse.quote_plus(value),
            html.escape(value),
            value.encode().hex(":"),
            json.dumps({"body": json.dumps(repr(value.encode()))}),
            *(base64.b64encode(b"x" * shift + value.encode() + b"y").decode() for shift in range(3)),
        ):
            found = Findings()
            search.bytes("here", b"\x00before" + written.encode() + b"after\xff", found)
            assert found.ways() == {2}, (kind, written)
        found = Findings()
        search.bytes("here", f"[secret canaries/{kind}-002] and some other text".encode(), found)
        assert not found.hits


@pytest.fixture(scope="module")
def stage() -> Any:
    with vault(7) as made:
        yield made


def test_no_way_out_leads_anywhere(stage: Vault) -> None:
    done = perform(stage, Setting("sqlite"), choose(len(WAYS), 7))
    assert done.problems == []
    assert not done.stored.hits and not done.logged.hits and not done.around.hits
    assert sum(done.ends.values()) == len(WAYS) and done.searched > 1_000_000


def test_without_guard_and_encryption_the_ways_lead_out(stage: Vault) -> None:
    control = perform(stage, Setting("sqlite", guard=False, encrypted=False), choose(len(WAYS), 7)[::4])
    assert missing(control) == []
    assert {WAYS[number - 1].channel for number in control.tried} == {way.channel for way in WAYS}
