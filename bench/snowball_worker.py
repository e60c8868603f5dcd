"""A worker with many instances that each need one secret of one vault, once by keyleaf and once by the SDK alone.

``python -m bench.snowball_worker '<settings>'`` says ``ready``, starts the instances at the next line of its input and
tells how they ended. ``alone`` is the control: each activity calls a client of Microsoft's SDK that all share, with the
SDK's own retries, and is tried again when those are used up.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import Any

from keyleaf import Retry, RetryBudget, Secret, Worker, activity, orchestration, secret

_STARTING = 32
CLIENTS: list[Any] = []
UNLIMITED = RetryBudget(burst=1e6, rate=1e6)


@activity(secrets={"key": secret("portal")})
async def charge(number: int, key: Secret) -> int:
    """Needs the secret."""
    return number * (len(key.reveal()) > 0)


@activity(retry=Retry(max_attempts=50, first=1.0), budget=UNLIMITED)
async def charge_alone(number: int) -> int:
    """Reads the secret by itself."""
    found = await CLIENTS[0].get_secret("portal")
    return number * (len(found.value or "") > 0)


@orchestration
async def order(number: int) -> int:
    """One activity."""
    return int(await charge(number))


@orchestration(budget=UNLIMITED)
async def order_alone(number: int) -> int:
    """The control."""
    return int(await charge_alone(number))


async def work(settings: dict[str, Any]) -> None:
    """Start, wait, tell."""
    flow = order_alone if settings["alone"] else order
    async with Worker(settings["url"], payload_key="payload-key") as worker:
        if settings["alone"]:
            from azure.identity.aio import DefaultAzureCredential
            from azure.keyvault.secrets.aio import SecretClient

            CLIENTS.append(SecretClient(os.environ["AZURE_KEYVAULT_URL"], DefaultAzureCredential()))
        print(json.dumps("ready"), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        numbers = iter(range(1, settings["instances"] + 1))

        async def start() -> None:
            for number in numbers:
                await worker.start(flow, number, instance=f"order-{number}")

        await asyncio.gather(*(start() for _ in range(_STARTING)))
        started = time.time()
        ended: Counter[str] = Counter()
        for number in range(1, settings["instances"] + 1):
            try:
                ended["right" if await worker.result(f"order-{number}") == number else "wrong"] += 1
            except Exception as error:
                ended[type(error).__name__] += 1
        print(json.dumps({"started": started, "ended_at": time.time(), "ended": ended}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(work(json.loads(sys.argv[1])))
