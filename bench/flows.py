"""Orchestrations: four activities in a row on each engine, beside the bare engine doing the same in the same run.

Contestants of one engine run in turn (A B A B …), each in a process of its own that idles meanwhile. Payloads of
keyleaf are encrypted with a key from the vault, as users run it; ``keyleaf, payloads in the clear`` tells what that
costs. The figures are medians of the rounds, the spread is smallest to largest.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from bench import results
from bench.furnished import PAYLOAD_KEY, furnished
from bench.postgres import postgres

ROUNDS = 3
SECONDS = 2.0
WARM_UP = 1.0
CONCURRENCY = (1, 16)
VARIANTS = ("none", "secret")
SIZES = (100, 1_000, 10_000)


class Contestant:
    """A running process of :mod:`bench.flow_contestant`."""

    def __init__(self, environment: dict[str, str], kind: str, url: str, payload_key: str = PAYLOAD_KEY) -> None:
        settings = {"kind": kind, "url": url, "payload_key": payload_key}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.flow_contestant", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_ERRORS") else subprocess.DEVNULL,
            text=True,
            env={**os.environ, **environment},
        )
        self.pid = self._process.pid
        self._answer()

    def measure(self, variant: str, concurrency: int, seconds: float, **more: Any) -> dict[str, Any]:
        """One measurement."""
        assert self._process.stdin is not None
        order = {"variant": variant, "concurrency": concurrency, "seconds": seconds, **more}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = self._answer()
        return answer

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a contestant ended; BENCH_ERRORS=1 shows what it says")
        return json.loads(line)

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)


def main() -> None:
    """Measure and write ``flows.json``."""
    figures: dict[str, Any] = {"rounds": ROUNDS, "seconds": SECONDS, "engines": {}}
    with furnished() as environment, tempfile.TemporaryDirectory(prefix="keyleaf-bench-") as scratch:
        figures["engines"]["SQLite"] = _compare(
            environment,
            {
                "stock DBOS": ("dbos", f"sqlite:///{scratch}/stock.sqlite", ""),
                "DBOS, handed WAL": ("dbos-wal", f"sqlite:///{scratch}/wal.sqlite", ""),
                "keyleaf": ("keyleaf", f"sqlite:///{scratch}/keyleaf.sqlite", PAYLOAD_KEY),
                "keyleaf, payloads in the clear": ("keyleaf", f"sqlite:///{scratch}/clear.sqlite", "plain"),
            },
        )
        results.write("flows", figures)
        with postgres() as url:
            if url is not None:
                figures["engines"]["Postgres"] = _compare(
                    environment,
                    {
                        "stock DBOS": ("dbos", _database(url, "stock"), ""),
                        "keyleaf": ("keyleaf", _database(url, "keyleaf"), PAYLOAD_KEY),
                    },
                )
        results.write("flows", figures)
        with durable_backend() as stock, durable_backend() as ours:
            figures["engines"]["Durable Task, in-memory backend"] = _compare(
                environment,
                {
                    "bare durabletask": ("durabletask", stock, ""),
                    "keyleaf": ("keyleaf", ours, PAYLOAD_KEY),
                },
            )
        results.write("flows", figures)
        figures["growth"] = _growth(environment, f"sqlite:///{scratch}/growth.sqlite")
    results.write("flows", figures)


def _compare(environment: dict[str, str], contestants: dict[str, tuple[str, str, str]]) -> list[dict[str, Any]]:
    running = {name: Contestant(environment, *settings) for name, settings in contestants.items()}
    peer = next(iter(contestants))
    rows: list[dict[str, Any]] = []
    try:
        for contestant in running.values():
            for variant in VARIANTS:
                contestant.measure(variant, 16, WARM_UP)
                contestant.measure(variant, 1, WARM_UP / 2)
        for concurrency in CONCURRENCY:
            measured: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for _ in range(ROUNDS):
                for variant in VARIANTS:
                    for name, contestant in running.items():
                        measured.setdefault((name, variant), []).append(
                            contestant.measure(variant, concurrency, SECONDS)
                        )
            for (name, variant), rounds in measured.items():
                rates = [each["rate"] for each in rounds]
                peers = [each["rate"] for each in measured[peer, variant]]
                without = [each["rate"] for each in measured[name, "none"]]
                row = {
                    "contestant": name,
                    "variant": variant,
                    "concurrency": concurrency,
                    "rate": statistics.median(rates),
                    "rate_least": min(rates),
                    "rate_most": max(rates),
                    **{key: statistics.median(each[key] for each in rounds) for key in ("p50", "p99", "processor_ms")},
                    "ratio": statistics.median(a / b for a, b in zip(rates, peers, strict=True)),
                    "ratio_without_secret": statistics.median(a / b for a, b in zip(rates, without, strict=True)),
                }
                rows.append(row)
                print(
                    f"{name:32} {variant:7} {concurrency:3} at once: {row['rate']:6.1f}/s"
                    f" ({row['rate_least']:.1f} to {row['rate_most']:.1f})  p50 {row['p50']:6.1f} ms"
                    f"  p99 {row['p99']:6.1f} ms  ratio {row['ratio']:.2f}"
                    f"  to without secret {row['ratio_without_secret']:.2f}  {row['processor_ms']:.1f} ms of processor",
                    flush=True,
                )
    finally:
        for contestant in running.values():
            contestant.stop()
    return rows


def _growth(environment: dict[str, str], url: str) -> dict[str, Any]:
    """One store that grows: what the last hundred instances cost beside the first hundred."""
    contestant = Contestant(environment, "keyleaf", url)
    rows: list[dict[str, Any]] = []
    try:
        contestant.measure("none", 4, 0, count=100)
        there = 0
        first: dict[str, Any] = {}
        for size in SIZES:
            started = time.perf_counter()
            if size - there > 100:
                contestant.measure("none", 4, 0, count=size - there - 100)
            last = contestant.measure("none", 4, 0, count=100, look=True)
            first = first or last
            rows.append(
                {
                    "instances": size,
                    "seconds": time.perf_counter() - started,
                    "last_100_rate": last["rate"],
                    "ratio_to_first_100": first["rate"] / last["rate"],
                    "processor_ratio_to_first_100": last["processor_ms"] / first["processor_ms"],
                    "list_ms": last["list_ms"],
                    "get_ms": last["get_ms"],
                }
            )
            there = size
            print("growth:", {key: round(value, 2) for key, value in rows[-1].items()}, flush=True)
    finally:
        contestant.stop()
    return {"concurrency": 4, "rows": rows}


def _database(url: str, name: str) -> str:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return url.replace("/postgres?", f"/{name}?")


@contextlib.contextmanager
def durable_backend() -> Iterator[str]:
    """The Durable Task SDK's in-memory backend in a process of its own.

    Its gRPC server is given 64 threads instead of 10: each wait for an instance's end holds one, so that 10 waiting
    clients would keep out the worker that they wait for.
    """
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    program = (
        "import logging, sys; logging.disable(logging.CRITICAL)\n"
        "from concurrent import futures\n"
        "many = type('Many', (futures.ThreadPoolExecutor,), {'__init__':"
        " lambda self, max_workers: futures.thread.ThreadPoolExecutor.__init__(self, 64)})\n"
        "futures.ThreadPoolExecutor = many\n"
        "from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend\n"
        f"backend = InMemoryOrchestrationBackend(port={port}, max_history_size=10_000_000); backend.start()\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield f"durabletask://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(20)


if __name__ == "__main__":
    main()
