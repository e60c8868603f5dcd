"""A program that reads secrets through the real SDK and does what its standard input says, one JSON line each.

It is a process of its own, because aiohttp reads SSL_CERT_FILE once, when it is imported. Its loggers write everything
to standard error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from vault_contract import answers

from keyleaf.client import (
    AzureVaultConnection,
    Caller,
    SecretReader,
    SecretUnavailable,
    VaultAddresses,
    VaultAnswer,
    secret,
)
from keyleaf.core.clock import SystemClock


class CountingConnection:
    """Counts what passes."""

    def __init__(self) -> None:
        self.inner = AzureVaultConnection()
        self.count = 0

    async def get(self, vault_url: str, name: str, version: str, headers: Mapping[str, str]) -> VaultAnswer:
        self.count += 1
        return await self.inner.get(vault_url, name, version, headers)

    async def close(self) -> None:
        await self.inner.close()


async def fetch(reader: SecretReader, order: dict[str, Any], number: int) -> dict[str, Any]:
    """One fetch, told."""
    reference = secret(order["name"], version=order.get("version", ""), expired=order.get("expired", "block"))
    try:
        reading = await reader.fetch(reference, caller=Caller(f"order-{number}", "charge"))
    except SecretUnavailable as error:
        return {"reason": error.reason, "retry_after": error.retry_after, "text": str(error), "detail": error.detail}
    return {
        "value": reading.secret.reveal(),
        "version": reading.version,
        "request_id": reading.request_id,
        "expires_on": reading.expires_on,
        "shared": reading.shared,
    }


async def work() -> None:
    connection = CountingConnection()
    addresses = VaultAddresses.from_environment(os.environ)
    reader = SecretReader(connection, addresses, clock=SystemClock())
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        before = connection.count
        if order.get("contract"):
            answer: Any = await answers(connection, addresses.default, order["oldest"], order["newest"])
        else:
            fetches = (fetch(reader, order, number) for number in range(order.get("times", 1)))
            results = await asyncio.gather(*fetches)
            answer = {
                "results": results if order.get("times", 1) == 1 else None,
                "different": len({json.dumps(result) for result in results}),
                "first": results[0],
                "requests": connection.count - before,
            }
        print(json.dumps(answer), flush=True)
    await reader.close()
    print(json.dumps("closed"), flush=True)


logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
asyncio.run(work(), debug=os.environ.get("PYTHONASYNCIODEBUG") == "1")
