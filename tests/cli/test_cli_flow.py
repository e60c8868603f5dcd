"""``keyleaf flow``: the program itself, against a worker in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

MODULE = """
import asyncio
from datetime import timedelta
from keyleaf import Retry, activity, gather, orchestration, set_status, wait_for_event

TRIES = set()


@activity(retry=Retry(max_attempts=3, first=0.01))
async def reserve(line: str) -> str:
    if line == "cup" and line not in TRIES:
        TRIES.add(line)
        raise ConnectionError("busy")
    return f"reserved {line}"


@orchestration
async def pack(number: int) -> int:
    return number * 2


@orchestration
async def ship(lines: list[str]) -> str:
    await gather(*[reserve(line) for line in lines])
    number = await pack(len(lines))
    set_status("waits for a person")
    return f"{number} {await wait_for_event('approved', timeout=timedelta(hours=1))}"


@orchestration
async def sinks(depth: int) -> None:
    raise ValueError(f"sank to {depth}")
"""
Keyleaf = Callable[..., subprocess.CompletedProcess[str]]


def program(environment: dict[str, str]) -> Keyleaf:
    """The program with an engine in its environment."""

    def keyleaf(*words: str, code: int = 0, given: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", "from keyleaf.cli.app import main; main()", "flow", *words],
            env={**os.environ, **environment},
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return keyleaf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    (folder / "shipping.py").write_text(MODULE)
    return folder


def serve(url: str, folder: Path) -> Iterator[Keyleaf]:
    environment = {"KEYLEAF_ORCHESTRATOR": url, "KEYLEAF_PAYLOAD_KEY": "plain"}
    with (folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "keyleaf.orchestrate", "--module", "shipping", "--path", str(folder)],
            env={**os.environ, **environment},
            stderr=log,
        )
    try:
        end = time.monotonic() + 30
        while "runs pack, ship, sinks" not in (folder / "worker.log").read_text():
            assert worker.poll() is None and time.monotonic() < end, (folder / "worker.log").read_text()
            time.sleep(0.05)
        yield program(environment)
    finally:
        worker.terminate()
        worker.wait(20)


@pytest.fixture(scope="module")
def keyleaf(folder: Path) -> Iterator[Keyleaf]:
    """The program, and a worker on SQLite."""
    yield from serve(f"sqlite:///{folder}/flows.sqlite", folder)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.postgres),
        "durabletask",
    ]
)
def any_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyleaf]:
    """The program, and a worker on each engine."""
    (tmp_path / "shipping.py").write_text(MODULE)
    if request.param == "sqlite":
        yield from serve(f"sqlite:///{tmp_path}/flows.sqlite", tmp_path)
    elif request.param == "postgresql":
        place = request.getfixturevalue("postgres_socket")
        name = f"flows_{uuid.uuid4().hex}"
        with psycopg.connect(f"host={place} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        yield from serve(f"postgresql://postgres@/{name}?host={place}", tmp_path)
    else:
        from durabletask.testing.in_memory_backend import InMemoryOrchestrationBackend

        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = int(found.getsockname()[1])
        backend = InMemoryOrchestrationBackend(port=port)
        backend.start()
        try:
            yield from serve(f"durabletask://127.0.0.1:{port}", tmp_path)
        finally:
            backend.stop(grace=0)


def until(keyleaf: Keyleaf, instance: str, met: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What ``show --json`` says as soon as a condition is met."""
    end = time.monotonic() + 30
    while True:
        shown: dict[str, Any] = json.loads(keyleaf("show", instance, "--json").stdout)
        if met(shown):
            return shown
        assert time.monotonic() < end, shown
        time.sleep(0.1)


def waits_for_approval(shown: dict[str, Any]) -> bool:
    return any((each["kind"], each["name"]) == ("event", "approved") for each in shown["waiting"])


def module_of(folder: Path) -> list[str]:
    return ["--module", "shipping", "--path", str(folder)]


def test_an_order_from_its_start_to_its_end(any_engine: Keyleaf, tmp_path: Path) -> None:
    keyleaf = any_engine
    lines = ["cup", *(f"plate {number}" for number in range(11))]
    words = ["start", "ship", "--input", json.dumps({"lines": lines}), "--id", "order-1", "--tag", "shop=west"]
    assert keyleaf(*words, *module_of(tmp_path)).stdout == "order-1\n"
    assert keyleaf(*words, *module_of(tmp_path)).stdout == "order-1\n", "the same start again is the same"
    shown = until(keyleaf, "order-1", waits_for_approval)
    assert (shown["orchestration"], shown["version"], shown["state"]) == ("ship", "1", "running")
    assert (shown["status"], shown["tags"]) == ("waits for a person", {"shop": "west"})
    assert shown["progress"] == {"reserve": {"done": 12, "begun": 12}}
    (waiting,) = shown["waiting"]
    assert waiting["until"] > waiting["since"], "the time limit is told with the event"
    first = shown["steps"][0]
    assert (first["index"], first["kind"], first["name"], first["outcome"]) == (1, "activity", "reserve", "value")
    assert [(note["number"], note["outcome"]) for note in first["attempts"]] == [(1, "failed"), (2, "ok")]
    assert "ConnectionError" in first["attempts"][0]["error"]
    child = shown["steps"][12]
    assert (child["kind"], child["name"], child["instance"]) == ("child", "pack", "order-1.13")
    assert "payload" not in first

    listed = json.loads(keyleaf("list", "--json", "--tag", "shop=west", "--name", "ship").stdout)
    assert [each["instance"] for each in listed] == ["order-1"]
    assert json.loads(keyleaf("list", "--json", "--state-is", "completed", "--name", "ship").stdout) == []

    assert "was not seen waiting for aproved" in keyleaf("signal", "order-1", "aproved").stderr
    assert keyleaf("signal", "order-1", "approved", "--value", '"yes"').stderr == ""
    until(keyleaf, "order-1", lambda shown: shown["state"] == "completed")
    shown = json.loads(keyleaf("show", "order-1", "--json", "--payloads").stdout)
    assert (shown["input"], shown["result"]) == ({"lines": lines}, "24 yes")
    assert [step["payload"] for step in shown["steps"]][-2:] == [24, "yes"] or shown["steps"][-1]["kind"] == "timer"
    drawn = keyleaf("show", "order-1").stdout
    assert "1 failed" in drawn and "child pack order-1.13" in drawn and "completed" in drawn

    again = keyleaf("restart", "order-1", "--from", "pack", "--id", "order-2", *module_of(tmp_path))
    assert again.stdout == "order-2\n"
    shown = until(keyleaf, "order-2", waits_for_approval)
    assert [step["name"] for step in shown["steps"] if step["kind"] == "activity"] == [], "they were taken over"
    assert "steps before 13 are those of order-1" in keyleaf("show", "order-2").stdout
    keyleaf("cancel", "order-2", "--reason", "not wanted")
    assert until(keyleaf, "order-2", lambda shown: shown["state"] != "running")["state"] == "cancelled"


def test_suspended_resumed_terminated(keyleaf: Keyleaf, folder: Path) -> None:
    keyleaf("start", "ship", "--input", '{"lines": []}', "--id", "paused", *module_of(folder))
    until(keyleaf, "paused", waits_for_approval)
    assert json.loads(keyleaf("suspend", "paused", "--json").stdout) == {"instance": "paused", "asked": "suspend"}
    until(keyleaf, "paused", lambda shown: shown["state"] == "suspended")
    keyleaf("resume", "paused")
    until(keyleaf, "paused", waits_for_approval)
    keyleaf("terminate", "paused")
    until(keyleaf, "paused", lambda shown: shown["state"] == "terminated")


def test_waiting_for_the_end_and_following(keyleaf: Keyleaf, folder: Path) -> None:
    done = keyleaf("start", "pack", "--input", "-", "--wait", *module_of(folder), given='{"number": 21}')
    assert done.stdout == "42\n"
    done = keyleaf("start", "pack", "--input", '{"number": 2}', "--wait", "--json", *module_of(folder))
    assert json.loads(done.stdout)["result"] == 4
    failed = keyleaf("start", "sinks", "--input", '{"depth": 9}', "--wait", *module_of(folder), code=1)
    assert failed.stderr.splitlines()[-1].startswith("keyleaf: ") and "sank to 9" in failed.stderr
    keyleaf("start", "ship", "--input", '{"lines": ["cup", "jug"]}', "--id", "followed", *module_of(folder))
    until(keyleaf, "followed", waits_for_approval)
    keyleaf("signal", "followed", "approved")
    told = keyleaf("show", "followed", "--follow").stdout
    assert "followed: 1 activity reserve" in told and "followed: completed" in told


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["show", "nobody"], 2, "no instance is called nobody (keyleaf flow list shows them)"),
        (["signal", "nobody", "approved"], 2, "no instance is called nobody"),
        (["cancel", "nobody"], 2, "no instance is called nobody"),
        (["start", "sail", "--module", "shipping", "--path", "."], 2, "no orchestration is called sail"),
        (["start", "ship"], 2, "it is not known what is to be started (name the module: --module M --path P)"),
        (["start", "ship", "--module", "nowhere"], 2, "module nowhere cannot be imported"),
        (["start", "ship", "--module", "shipping", "--path", ".", "--input", '{"lines": [3]}'], 2, "argument lines"),
        (["start", "ship", "--module", "shipping", "--path", ".", "--input", "[1]"], 2, "--input is no JSON object"),
        (["start", "ship", "--module", "shipping", "--path", ".", "--input", "{"], 2, "--input is not JSON (line 1"),
        (["start", "ship", "--module", "shipping", "--path", ".", "--input", "@none"], 2, "none cannot be read"),
        (["start", "ship", "--module", "shipping", "--path", ".", "--tag", "x"], 2, "'x' is no tag"),
        (["list", "--state-is", "lost"], 2, "no instance is ever lost (one of pending, running"),
        (["list", "--state", "running"], 2, "instances are chosen by --state-is running"),
        (["list", "--since", "soon"], 2, "--since 'soon' is no time"),
        (["list", "--orchestrator", "sqlite:////nowhere/flows.sqlite"], 2, "/nowhere"),
        (["list", "--orchestrator", "postgresql://user:hunter2@127.0.0.1:1/flows"], 4, "cannot be opened"),
        (["list", "--orchestrator", "durabletask://127.0.0.1:1"], 4, "no Durable Task backend answers at 127.0.0.1:1"),
    ],
)
def test_bad_input_gets_one_clear_line(keyleaf: Keyleaf, folder: Path, words: list[str], code: int, told: str) -> None:
    words = [str(folder) if word == "." else word for word in words]
    done = keyleaf(*words, code=code)
    (line,) = done.stderr.splitlines()
    assert line.startswith("keyleaf: ") and told in line
    assert "hunter2" not in line


def test_a_file_that_no_worker_has_served_is_not_made(tmp_path: Path) -> None:
    keyleaf = program({"KEYLEAF_ORCHESTRATOR": f"sqlite:///{tmp_path}/none.sqlite"})
    assert "no worker has served it yet" in keyleaf("list", code=4).stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty.sqlite").touch()
    keyleaf = program({"KEYLEAF_ORCHESTRATOR": f"sqlite:///{tmp_path}/empty.sqlite"})
    assert "no worker has served the engine's database yet" in keyleaf("list", code=4).stderr


def test_a_payload_key_that_cannot_be_had(keyleaf: Keyleaf, folder: Path) -> None:
    keyleaf("start", "pack", "--input", '{"number": 3}', "--id", "sealed", "--wait", *module_of(folder))
    environment = {
        "KEYLEAF_ORCHESTRATOR": f"sqlite:///{folder}/flows.sqlite",
        "KEYLEAF_PAYLOAD_KEY": "ops/payload-key",
        "KEYLEAF_VAULTS": "ops=https://127.0.0.1:1",
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    other = program(environment)
    assert json.loads(other("show", "sealed", "--json").stdout)["state"] == "completed", "no key is needed to look"
    (line,) = other("show", "sealed", "--payloads", code=4).stderr.splitlines()
    assert line.startswith("keyleaf: ") and "ops/payload-key" in line and "again by itself" not in line
    large = json.dumps({"lines": ["x" * 1_100_000]})
    told = keyleaf("start", "ship", "--input", "-", "--id", "large", *module_of(folder), given=large, code=2).stderr
    assert "more than the 1,048,576 that a payload may have" in told
    assert "no instance is called large" in keyleaf("show", "large", code=2).stderr


def test_an_instance_in_use_and_one_that_has_ended(keyleaf: Keyleaf, folder: Path) -> None:
    keyleaf("start", "pack", "--input", '{"number": 1}', "--id", "taken", "--wait", *module_of(folder))
    again = keyleaf("start", "pack", "--input", '{"number": 2}', "--id", "taken", *module_of(folder), code=2)
    assert "instance taken exists already: a run of pack with other arguments" in again.stderr
    assert "taken has ended (completed)" in keyleaf("signal", "taken", "approved", code=2).stderr
    assert "it cannot be suspended" in keyleaf("suspend", "taken", code=2).stderr
    assert "taken has no step nine" in keyleaf("restart", "taken", "--from", "nine", code=2).stderr
