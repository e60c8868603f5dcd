"""The story of the shop's orders, told with the program: an approval, a rotation in the middle, and an order undone."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from up_running import KEYLEAF, Up, run

SHOP = Path(__file__).parents[2] / "examples" / "shop"


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("shop")
    shutil.copytree(SHOP, folder / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    up = Up(folder / "tree", folder / "state")
    try:
        up.until("come to rest", 90)
        yield folder / "state"
        assert up.stop() == 0
    finally:
        if up.process.poll() is None:
            up.stop(signal.SIGKILL)


def show(state: Path, order: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(run("flow", "show", order, "--json", "--state", str(state)))
    return shown


def until(state: Path, order: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    end = time.monotonic() + 40
    while True:
        shown = show(state, order)
        if met(shown):
            return shown
        assert time.monotonic() < end, shown
        time.sleep(0.1)


def start(state: Path, number: int, articles: list[str], total: int, code: int = 0, *more: str) -> str:
    order = json.dumps({"order": {"number": number, "articles": articles, "total": total}})
    return run(
        "flow", "start", "fulfil", "--id", f"order-{number}", "--input", order, "--state", str(state), *more, code=code
    )


def versions_read(shown: dict[str, Any], step: str) -> list[str]:
    return [
        use["version"]
        for each in shown["steps"]
        if each["name"] == step
        for note in each["attempts"]
        for use in note["secrets"]
    ]


def test_an_order_outlives_a_rotation(state: Path) -> None:
    start(state, 6, ["cup"], 40, 0, "--wait")
    before = versions_read(show(state, "order-6"), "charge")
    start(state, 7, ["cup", "plate"], 250)
    until(state, "order-7", lambda shown: any(each["kind"] == "event" for each in shown["waiting"]))
    rotated = subprocess.run(
        [*KEYLEAF, "secret", "set", "kv-shop-dev/payments-api-key", "--json", "--state", str(state)],
        input="sk_shop_rotated-canary-71c6",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert rotated.returncode == 0, rotated.stderr
    run("flow", "signal", "order-7", "approved", "--value", "true", "--state", str(state))
    shown = until(state, "order-7", lambda shown: shown["state"] != "running")
    assert (shown["state"], shown["status"]) == ("completed", "shipped")
    after = versions_read(shown, "charge")
    assert after == [json.loads(rotated.stdout)["version"]]
    assert before != after, "the step after the rotation had the new version"
    # The audit log says the same, under the identity of the orchestration alone.
    records = json.loads(run("audit", "query", "--instance", "order-7", "--json", "--state", str(state)))
    assert {record["application"] for record in records} == {"fulfilment-dev"}
    assert [record["version"] for record in records if record["activity"] == "order-7/charge"] == after
    assert {entry["request_id"] for entry in shown["audit"]} == {record["client_request_id"] for record in records}
    store = state / "flows" / "shop-warehouse-dev.fulfilment"
    found = [file.name for file in store.iterdir() if b"rotated-canary" in file.read_bytes()]
    assert found == []


def test_an_order_that_cannot_be_filled_is_undone(state: Path) -> None:
    told = start(state, 8, ["teapot", "teapot", "teapot"], 90, 1, "--wait")
    assert "order-8 failed" in told and "OutOfStock: teapot" in told
    steps = [(step["name"], step["outcome"]) for step in show(state, "order-8")["steps"]]
    # Whichever of the three it was, the other two are given back.
    assert sorted(steps[:3]) == [("reserve", "error"), ("reserve", "value"), ("reserve", "value")]
    assert steps[3:] == [("release", "value"), ("release", "value")]


def test_an_order_that_nobody_wants_to_pay_for_is_undone(state: Path) -> None:
    start(state, 9, ["teapot"], 900)
    until(state, "order-9", lambda shown: any(each["kind"] == "event" for each in shown["waiting"]))
    run("flow", "signal", "order-9", "approved", "--value", "false", "--state", str(state))
    shown = until(state, "order-9", lambda shown: shown["state"] != "running")
    assert shown["state"] == "failed"
    assert [step["name"] for step in shown["steps"] if step["kind"] == "activity"] == ["reserve", "release"]
