"""What the tests of the reader share: a reader on virtual time in front of simulated vaults."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from simulated_vault import SimulatedVault

from keyleaf.client import (
    Caller,
    Expectation,
    ReaderSettings,
    Reading,
    SecretReader,
    SecretReference,
    SecretUnavailable,
    VaultAddresses,
    secret,
)
from keyleaf.core.clock import SeededRandomness
from virtual_time import VirtualClock, run_virtually

PAYMENTS = "https://payments.vault.azure.net"
STOCK = "https://stock.vault.azure.net"
KEY = secret("payments/key")
Result = TypeVar("Result")


@dataclass
class Room:
    """A reader, the vaults it asks, and their time."""

    reader: SecretReader
    vault: SimulatedVault
    clock: VirtualClock

    async def fetch(
        self, reference: SecretReference = KEY, instance: str = "order-1", expectation: Expectation | None = None
    ) -> Reading:
        """One fetch of the activity ``charge``."""
        return await self.reader.fetch(reference, caller=Caller(instance, "charge"), expectation=expectation)

    async def outcome(self, reference: SecretReference = KEY, instance: str = "order-1") -> str | SecretUnavailable:
        """The value, or why there is none."""
        try:
            return (await self.fetch(reference, instance)).secret.reveal()
        except SecretUnavailable as error:
            return error

    async def until(self, moment: float) -> None:
        """Wait until a moment of the virtual time."""
        await asyncio.sleep(moment - self.clock.monotonic())

    async def patiently(self, reference: SecretReference = KEY, instance: str = "order-1") -> float:
        """Fetch as an orchestration does, coming again when it is told to; returns when it had the value."""
        while True:
            try:
                await self.fetch(reference, instance)
            except SecretUnavailable as error:
                await asyncio.sleep(error.retry_after)
            else:
                return self.clock.monotonic()

    def sent(self) -> list[float]:
        """When each request left."""
        return sorted(request.sent for request in self.vault.requests)


def in_room(
    program: Callable[[Room], Coroutine[Any, Any, Result]], *, jitter: Callable[[], float] | None = None
) -> Result:
    """Run a program in a room of its own, where ``payments/key`` holds ``value-1``."""

    async def work(clock: VirtualClock) -> Result:
        vault = SimulatedVault(clock)
        vault.put(PAYMENTS, "key", "value-1")
        reader = SecretReader(
            vault,
            VaultAddresses(),
            clock=clock,
            jitter=jitter or random.Random(11).random,
            randomness=SeededRandomness(),
            settings=ReaderSettings(),
        )
        result = await program(Room(reader, vault, clock))
        await reader.close()
        assert vault.closed
        return result

    return run_virtually(work)


def most_in_a_second(times: list[float]) -> int:
    """The most that left in any second."""
    return max((sum(1 for time in times if start <= time < start + 1) for start in times), default=0)
