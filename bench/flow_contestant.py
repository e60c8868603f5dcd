"""One engine in a process of its own, running four activities in a row: keyleaf on it, or the bare engine.

``python -m bench.flow_contestant '<settings>'`` says ``ready`` and then measures whatever a line on its input asks for.
Settings: ``kind`` (keyleaf, dbos, dbos-wal or durabletask), ``url``, ``payload_key``. In the secret variant the last of
the four activities reads a secret: by declaring it in keyleaf, by a shared client of Microsoft's SDK elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from keyleaf import Secret, Worker, activity, orchestration, secret
from keyleaf.orchestrate.engines.base import Query

Start = Callable[[str], Awaitable[Any]]
SECRET = "portal"


@activity
async def add_one(number: int) -> int:
    """Adds one."""
    return number + 1


@activity(secrets={"key": secret(SECRET)})
async def add_with_secret(number: int, key: Secret) -> int:
    """Adds one, and uses a secret."""
    return number + (len(key.reveal()) > 0)


@orchestration
async def four(number: int) -> int:
    """Four activities in a row."""
    for _ in range(4):
        number = await add_one(number)
    return number


@orchestration
async def four_with_secret(number: int) -> int:
    """The last of four reads a secret."""
    for _ in range(3):
        number = await add_one(number)
    return int(await add_with_secret(number))


@asynccontextmanager
async def keyleaf(settings: dict[str, str]) -> AsyncIterator[tuple[dict[str, Start], Any]]:
    """A worker of ours."""
    async with Worker(settings["url"], payload_key=settings["payload_key"]) as worker:

        async def plain(instance: str) -> Any:
            return await worker.run(four, 1, instance=instance)

        async def with_secret(instance: str) -> Any:
            return await worker.run(four_with_secret, 1, instance=instance)

        yield {"none": plain, "secret": with_secret}, worker


@asynccontextmanager
async def dbos(settings: dict[str, str]) -> AsyncIterator[tuple[dict[str, Start], Any]]:
    """Stock DBOS: its own database engine and serializer; ``dbos-wal`` is handed a SQLite engine in WAL mode."""
    import sqlalchemy as sa
    from azure.identity.aio import DefaultAzureCredential
    from azure.keyvault.secrets.aio import SecretClient
    from dbos import DBOS, DBOSConfig, SetWorkflowID

    client = SecretClient(os.environ["AZURE_KEYVAULT_URL"], DefaultAzureCredential())

    @DBOS.step()
    async def add(number: int) -> int:
        return number + 1

    @DBOS.step()
    async def add_reading(number: int) -> int:
        return number + (len((await client.get_secret(SECRET)).value or "") > 0)

    @DBOS.workflow()
    async def flow(number: int) -> int:
        for _ in range(4):
            number = await add(number)
        return number

    @DBOS.workflow()
    async def flow_reading(number: int) -> int:
        for _ in range(3):
            number = await add(number)
        return await add_reading(number)

    config: DBOSConfig = {"name": "bench", "system_database_url": settings["url"], "log_level": "CRITICAL"}
    if settings["kind"] == "dbos-wal":
        engine = sa.create_engine(settings["url"])

        @sa.event.listens_for(engine, "connect")
        def _wal(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA busy_timeout=30000")

        config["system_database_engine"] = engine
    DBOS(config=config)
    DBOS.launch()

    def start(workflow: Any) -> Start:
        async def run(instance: str) -> Any:
            with SetWorkflowID(instance):
                handle = await DBOS.start_workflow_async(workflow, 1)
            return await handle.get_result()

        return run

    yield {"none": start(flow), "secret": start(flow_reading)}, None
    os._exit(0)  # DBOS waits for its threads


@asynccontextmanager
async def durabletask(settings: dict[str, str]) -> AsyncIterator[tuple[dict[str, Start], Any]]:
    """The bare Durable Task SDK."""
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.secrets import SecretClient
    from durabletask import client, worker

    vault = SecretClient(os.environ["AZURE_KEYVAULT_URL"], DefaultAzureCredential())
    logger = logging.getLogger("bench")
    logger.setLevel(logging.CRITICAL)

    def add(_: Any, number: int) -> int:
        return number + 1

    def add_reading(_: Any, number: int) -> int:
        return number + (len(vault.get_secret(SECRET).value or "") > 0)

    def flow(context: Any, number: int) -> Any:
        for _ in range(4):
            number = yield context.call_activity(add, input=number)
        return number

    def flow_reading(context: Any, number: int) -> Any:
        for _ in range(3):
            number = yield context.call_activity(add, input=number)
        return (yield context.call_activity(add_reading, input=number))

    host = settings["url"].removeprefix("durabletask://")
    working = worker.TaskHubGrpcWorker(host_address=host, logger=logger)
    for orchestrator in (flow, flow_reading):
        working.add_orchestrator(orchestrator)
    for function in (add, add_reading):
        working.add_activity(function)
    working.start()
    asking = client.AsyncTaskHubGrpcClient(host_address=host, logger=logger)

    def start(name: str) -> Start:
        async def run(instance: str) -> Any:
            await asking.schedule_new_orchestration(name, input=1, instance_id=instance)
            state = await asking.wait_for_orchestration_completion(instance, timeout=60)
            assert state is not None
            return json.loads(state.serialized_output or "null")

        return run

    yield {"none": start("flow"), "secret": start("flow_reading")}, None
    os._exit(0)


KINDS = {"keyleaf": keyleaf, "dbos": dbos, "dbos-wal": dbos, "durabletask": durabletask}


async def measure(start: Start, prefix: str, concurrency: int, seconds: float, count: int = 0) -> dict[str, Any]:
    """So many clients, each of which starts an instance and waits for its result, for so long or until ``count``."""
    latencies: list[float] = []
    begun = 0
    processor, started = time.process_time(), time.perf_counter()

    async def client() -> None:
        nonlocal begun
        while begun < count if count else time.perf_counter() - started < seconds:
            begun += 1
            instance, asked = f"{prefix}-{begun}", time.perf_counter()
            result = await start(instance)
            if result != 5:
                raise SystemExit(f"{instance} gave {result!r} instead of 5")
            latencies.append((time.perf_counter() - asked) * 1000)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    passed = time.perf_counter() - started
    ordered = sorted(latencies)
    return {
        "count": len(ordered),
        "rate": len(ordered) / passed,
        "p50": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "processor_ms": (time.process_time() - processor) * 1000 / len(ordered),
        "first_100_ms": sum(latencies[:100]) / len(latencies[:100]),
        "last_100_ms": sum(latencies[-100:]) / len(latencies[-100:]),
    }


async def look(worker: Worker, instance: str) -> dict[str, float]:
    """Milliseconds that listing the newest hundred and getting one take; the middle of twenty."""

    async def timed(what: Callable[[], Any]) -> float:
        times = []
        for _ in range(20):
            asked = time.perf_counter()
            await asyncio.to_thread(what)
            times.append((time.perf_counter() - asked) * 1000)
        return statistics.median(times)

    control = worker.engine.control
    return {
        "list_ms": await timed(lambda: control.list(Query(limit=100))),
        "get_ms": await timed(lambda: control.get(instance)),
    }


async def serve(settings: dict[str, str]) -> None:
    """Measure what is asked for until the input ends."""
    asked = 0
    async with KINDS[settings["kind"]](settings) as (variants, worker):
        print(json.dumps("ready"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            asked += 1
            prefix = f"bench-{asked}"
            answer = await measure(
                variants[order["variant"]], prefix, order["concurrency"], order["seconds"], order.get("count", 0)
            )
            if order.get("look"):
                answer |= await look(worker, f"{prefix}-1")
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
