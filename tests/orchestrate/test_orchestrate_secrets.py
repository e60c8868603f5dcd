"""Secrets just in time, rotated in the middle, missing, and kept out of every record: on every engine."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flows_of_tests import ACCEPTED, JOURNAL, Order, fulfil, signs_in, uses_secret
from test_orchestrate_engines import until, waits_for

from client.simulated_vault import SimulatedVault
from conftest import ENVIRONMENT, OPS, PAYMENTS
from keyleaf import OrchestrationFailed
from keyleaf.core.errors import StateError
from keyleaf.orchestrate.envelope import AttemptNote
from keyleaf.orchestrate.worker import Worker

pytestmark = pytest.mark.asyncio


def notes_of(worker: Worker, instance: str) -> list[AttemptNote]:
    """Every attempt of an instance's activities."""
    steps = worker.engine.control.steps(instance)
    return [note for step in steps for envelope in step.envelopes for note in envelope.notes]


async def test_the_attempt_says_which_version_was_read(
    orchestrator: str, make_worker: Any, vault: SimulatedVault
) -> None:
    async with make_worker(orchestrator, environment={**ENVIRONMENT, "AZURE_CLIENT_ID": "client-1"}) as worker:
        assert await worker.run(uses_secret, instance="uses-1", timeout=20) == len("s3cr3t-canary-value")
        version = vault.put(PAYMENTS, "portal", "longer-canary-value-2")
        assert await worker.run(uses_secret, instance="uses-2", timeout=20) == len("longer-canary-value-2")
        (use,) = notes_of(worker, "uses-2")[0].secrets
        assert (use.name, use.version, use.identity) == ("payments/portal", version, "client-1")
        request = vault.requests[-1].headers
        assert request["x-ms-client-request-id"] == use.request_id
        assert request["x-keyleaf-activity"] == "uses-2/with_secret"


async def test_an_activity_that_held_a_superseded_secret_is_run_once_more(
    orchestrator: str, make_worker: Any, vault: SimulatedVault
) -> None:
    ACCEPTED.clear()
    ACCEPTED.add("rotated-canary-value")
    original = vault.get
    turned = asyncio.Event()

    async def rotate_after_first(url: str, name: str, version: str, headers: Any) -> Any:
        answer = await original(url, name, version, headers)
        if name == "portal" and not turned.is_set():
            turned.set()
            vault.put(PAYMENTS, "portal", "rotated-canary-value")
        return answer

    vault.get = rotate_after_first  # type: ignore[method-assign]
    async with make_worker(orchestrator) as worker:
        assert await worker.run(signs_in, instance="signs-in", timeout=20) == "signed in"
        assert [(note.number, note.outcome) for note in notes_of(worker, "signs-in")] == [
            (1, "stale secret"),
            (1, "ok"),
        ]
        first, second = (note.secrets[0].version for note in notes_of(worker, "signs-in"))
        assert first != second
        assert JOURNAL.of("signs-in") == ["sign in", "sign in"]
        asked = [request.headers["x-keyleaf-activity"] for request in vault.requests if request.name == "portal"]
        assert asked == ["signs-in/sign_in", "signs-in/sign_in"]


async def test_an_authentication_error_with_the_newest_secret_is_an_ordinary_error(
    orchestrator: str, make_worker: Any
) -> None:
    ACCEPTED.clear()
    async with make_worker(orchestrator) as worker:
        with pytest.raises(OrchestrationFailed, match="Rejected: 401"):
            await worker.run(signs_in, instance="refused", timeout=20)
        assert JOURNAL.of("refused") == ["sign in"]


@pytest.mark.parametrize("trouble", ["disabled", "missing", "expired", "forbidden"])
async def test_an_instance_waits_for_its_secret(
    orchestrator: str, make_worker: Any, vault: SimulatedVault, trouble: str
) -> None:
    if trouble == "disabled":
        vault.change(PAYMENTS, "portal", enabled=False)
    elif trouble == "missing":
        vault.delete(PAYMENTS, "portal")
    elif trouble == "expired":
        vault.change(PAYMENTS, "portal", expires_on=1.0)
    else:
        vault.forbidden.add("portal")
    async with make_worker(orchestrator, environment={**ENVIRONMENT, "KEYLEAF_OWNER": "team payments"}) as worker:
        instance = await worker.start(uses_secret, instance=f"waits-{trouble}")
        view = await until(worker, instance, waits_for("secret", "with_secret"))
        blocked = view.blocked[0]
        assert (blocked.secret, blocked.reason, blocked.owner) == ("payments/portal", trouble, "team payments")
        assert blocked.deadline > blocked.since
        vault.forbidden.clear()
        vault.put(PAYMENTS, "portal", "good-again")
        assert await worker.result(instance, 30) == len("good-again")
        assert notes_of(worker, instance)[-1].outcome == "ok"
        assert {note.outcome for note in notes_of(worker, instance)} == {"blocked", "ok"}


async def test_payloads_are_sealed_and_the_key_can_be_rotated(
    orchestrator: str, make_worker: Any, vault: SimulatedVault
) -> None:
    async with make_worker(orchestrator) as worker:
        instance = await worker.start(fulfil, Order(4711, ["visible-line"]), instance="sealed")
        await until(worker, instance, waits_for("event"))
        texts = [str(worker.engine.control.steps(instance)), str(await worker.get(instance))]
        assert not any("visible-line" in text or "4711" in text for text in texts)
    vault.put(OPS, "payload-key", "another key of the tests, of at least 32 characters")
    async with make_worker(orchestrator) as worker:
        await worker.signal(instance, "approved", "after the rotation")
        assert "after the rotation" in await worker.result(instance, 30)


async def test_a_payload_that_was_moved_does_not_open(make_worker: Any, tmp_path: Any) -> None:
    async with make_worker(f"sqlite:///{tmp_path / 'flows.sqlite'}") as worker:
        sealed = worker.codec.seal(b"1", "one/1/output")
        assert worker.codec.open(sealed, "one/1/output") == b"1"
        with pytest.raises(StateError, match="does not open"):
            worker.codec.open(sealed, "two/1/output")
