"""The snowball that does not roll: instances by the thousand, one secret, and a vault that is throttling or away.

What reaches the vault is counted where it arrives: at a TLS server in a process of its own that Microsoft's SDK talks
to. The vault turns bad before the first instance starts and is good again after ``outage`` seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import results
from bench.flows import durable_backend
from bench.snowball_plot import plot

BEFORE = 3.0
CASES: tuple[dict[str, Any], ...] = (
    {"outage": "429", "mode": {"mode": "throttled"}, "alone": False},
    {"outage": "429", "mode": {"mode": "throttled"}, "alone": True},
    {"outage": "429, Retry-After: 10", "mode": {"mode": "throttled", "retry_after": 10}, "alone": False},
    {"outage": "away", "mode": {"mode": "away"}, "alone": False},
    {"outage": "away", "mode": {"mode": "away"}, "alone": True},
    {"outage": "429", "mode": {"mode": "throttled"}, "alone": False, "engine": "durabletask"},
)


def main() -> None:
    """Measure, write ``snowball.json`` and draw ``docs/snowball.svg``."""
    cases = []
    for case in CASES:
        small = case.get("engine") == "durabletask"
        cases.append(_run(case, instances=200 if small else 1000, seconds=20.0 if small else 60.0))
        about = {key: value for key, value in cases[-1].items() if key != "per_second"}
        print(json.dumps(about), flush=True)
    results.write("snowball", {"cases": cases})
    plot(cases)


def _run(case: dict[str, Any], *, instances: int, seconds: float) -> dict[str, Any]:
    engine = case.get("engine", "sqlite")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyleaf-bench-")))
        url = stack.enter_context(durable_backend()) if engine == "durabletask" else f"sqlite:///{scratch}/flows.sqlite"
        vault = _program(stack, "bench.snowball_vault", str(scratch), {})
        there = _read(vault)
        variables = {
            "AZURE_KEYVAULT_URL": there["url"],
            "SSL_CERT_FILE": there["bundle"],
            "REQUESTS_CA_BUNDLE": there["bundle"],
            "NO_PROXY": "127.0.0.1",
        }
        settings = {"url": url, "alone": case["alone"], "instances": instances}
        worker = _program(stack, "bench.snowball_worker", json.dumps(settings), variables)
        _read(worker)
        bad = _tell(vault, case["mode"])
        time.sleep(BEFORE)
        begun = time.time()
        _write(worker, {})
        time.sleep(seconds)
        good = _tell(vault, {"mode": "good"})
        done = _read(worker)
        reached = [at for at, _ in _tell(vault, {"mode": "report"}) if at >= bad]
    while_bad = [at for at in reached if at < good]
    origin = begun
    last = int(done["ended_at"] - origin) + 1
    return {
        "outage": case["outage"],
        "engine": engine,
        "alone": case["alone"],
        "instances": instances,
        "outage_seconds": seconds,
        "started_after": round(done["started"] - origin, 1),
        "ended": done["ended"],
        "ended_after_outage": round(done["ended_at"] - good, 1),
        "requests_while_bad": len(while_bad),
        "most_in_a_second_while_bad": most_in_a_second(while_bad),
        "requests_afterwards": len(reached) - len(while_bad),
        "most_in_a_second_afterwards": most_in_a_second([at for at in reached if at >= good]),
        "per_second": [sum(1 for at in reached if second <= at - origin < second + 1) for second in range(last)],
    }


def most_in_a_second(times: list[float]) -> int:
    """The greatest number in any second, wherever it begins."""
    ordered, first, most = sorted(times), 0, 0
    for place, at in enumerate(ordered):
        while at - ordered[first] >= 1.0:
            first += 1
        most = max(most, place - first + 1)
    return most


def _program(
    stack: contextlib.ExitStack, module: str, argument: str, variables: dict[str, str]
) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "KEYLEAF_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", module, argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if os.environ.get("BENCH_ERRORS") else subprocess.DEVNULL,
        text=True,
        env={**kept, **variables},
    )

    def stop() -> None:
        process.kill()
        process.wait(20)

    stack.callback(stop)
    return process


def _write(process: subprocess.Popen[str], order: dict[str, Any]) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(order) + "\n")
    process.stdin.flush()


def _read(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a program ended; BENCH_ERRORS=1 shows what it says")
    return json.loads(line)


def _tell(process: subprocess.Popen[str], order: dict[str, Any]) -> Any:
    _write(process, order)
    return _read(process)


if __name__ == "__main__":
    main()
