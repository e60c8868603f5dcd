"""A vault that is throttling or away is left alone, however many instances want a secret of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flows_of_tests import uses_secret

from client.simulated_vault import SimulatedVault
from conftest import PAYMENTS

pytestmark = pytest.mark.asyncio

BAD = 2.0


@pytest.mark.parametrize(
    ("orchestrator", "trouble"),
    [("sqlite", {"throttled": True}), ("durabletask", {"away": True})],
    indirect=["orchestrator"],
)
async def test_instances_that_want_a_secret_do_not_snowball(
    orchestrator: str, make_worker: Any, vault: SimulatedVault, trouble: dict[str, Any]
) -> None:
    count = 40 if orchestrator.startswith("durabletask") else 200
    async with make_worker(orchestrator) as worker:
        before = len(vault.requests)
        for name, value in trouble.items():
            setattr(vault, name, value)
        begun = vault.clock.monotonic()
        for number in range(count):
            await worker.start(uses_secret, instance=f"order-{number}")
        await asyncio.sleep(max(0.0, begun + BAD - vault.clock.monotonic()))
        good = vault.clock.monotonic()
        vault.throttled = vault.away = False
        for number in range(count):
            assert await worker.result(f"order-{number}", timeout=20) == len("s3cr3t-canary-value")
    sent = [request.sent for request in vault.requests[before:] if request.vault_url == PAYMENTS]
    while_bad = [at for at in sent if at < good]
    assert while_bad
    # Two a second: a third leaves a second after the first at the earliest.
    assert all(later - earlier >= 1.0 for earlier, later in zip(while_bad, while_bad[2:], strict=False)), while_bad
    assert len(sent) - len(while_bad) < count, "what was waited for together is read together afterwards"
