"""While orchestration code runs, the world is refused to it, and to nothing else."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import io
import linecache
import logging
import logging.handlers
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.request
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import CoroutineType
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from keyleaf import activity, compensating, sleep
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.determinism import NondeterminismError, foreign_awaitable, orchestrating
from keyleaf.orchestrate.words import orchestration
from keyleaf.testing import Replay

FLOWS = Registry()


def line_of(function: Callable[..., Any], text: str) -> str:
    """The place of a line of a function, as errors write it."""
    lines, begin = inspect.getsourcelines(function)
    number = next(number for number, line in enumerate(lines, start=begin) if text in line)
    file = Path(function.__code__.co_filename)
    return f"{(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file).as_posix()}:{number}"


@pytest.fixture
def listener() -> Iterator[tuple[str, int]]:
    """A server that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()


def test_reading_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with orchestrating("flow"), pytest.raises(NondeterminismError) as raised:
        (tmp_path / "a").read_text()
    assert (tmp_path / "a").read_text() == "x"
    assert str(raised.value.where) == line_of(test_reading_a_file_is_refused, '(tmp_path / "a").read_text()' + "\n")
    assert raised.value.message == "orchestration flow used open() in test_reading_a_file_is_refused"
    assert raised.value.hint == "do it in an activity"


def test_writing_and_moving_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    attempts: list[tuple[Callable[[], object], str]] = [
        (lambda: (tmp_path / "b").write_text("x"), "open()"),
        (lambda: os.open(tmp_path / "b", os.O_WRONLY | os.O_CREAT), "open()"),
        (lambda: (tmp_path / "a").rename(tmp_path / "b"), "os.rename()"),
        (lambda: (tmp_path / "a").unlink(), "os.remove()"),
        (lambda: (tmp_path / "b").mkdir(), "os.mkdir()"),
        (lambda: tmp_path.rmdir(), "os.rmdir()"),
        (lambda: list(tmp_path.glob("*")), "pathlib.Path.glob()"),
        (lambda: list(os.scandir(tmp_path)), "os.scandir()"),
        (lambda: shutil.copyfile(tmp_path / "a", tmp_path / "b"), "shutil.copyfile()"),
        (lambda: shutil.rmtree(tmp_path), "shutil.rmtree()"),
        (lambda: tempfile.mkstemp(dir=tmp_path), "tempfile.mkstemp()"),
        (lambda: os.putenv("A", "b"), "os.putenv()"),
    ]
    for attempt, what in attempts:
        with orchestrating("flow"), pytest.raises(NondeterminismError) as raised:
            attempt()
        assert raised.value.message.startswith(f"orchestration flow used {what} in ")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_sockets_are_refused(listener: tuple[str, int]) -> None:
    with socket.socket() as before:
        with orchestrating("flow"):
            with pytest.raises(NondeterminismError, match=r"socket\.socket\(\)"):
                socket.socket()
            with pytest.raises(NondeterminismError, match=r"socket\.connect\(\)"):
                before.connect(listener)
            with pytest.raises(NondeterminismError, match=r"socket\.getaddrinfo\(\)"):
                socket.getaddrinfo("localhost", 80)
            with pytest.raises(NondeterminismError, match=r"urllib\.request\.urlopen\(\)"):
                urllib.request.urlopen(f"http://{listener[0]}:{listener[1]}")
        before.connect(listener)


def test_processes_and_databases_are_refused(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with orchestrating("flow"):
        for attempt, what in [
            (lambda: subprocess.run(["touch", mark], check=True), r"subprocess\.Popen\(\)"),
            (lambda: os.system(f"touch {mark}"), r"os\.system\(\)"),
            (lambda: os.posix_spawn("/bin/sh", ["sh", "-c", f"touch {mark}"], {}), r"os\.posix_spawn\(\)"),
            (lambda: os.fork(), r"os\.fork\(\)"),
            (lambda: sqlite3.connect(mark), r"sqlite3\.connect\(\)"),
        ]:
            with pytest.raises(NondeterminismError, match=what):
                attempt()
    assert not mark.exists()
    subprocess.run(["touch", mark], check=True)
    assert mark.exists()


def test_questions_are_refused() -> None:
    with orchestrating("flow"), pytest.raises(NondeterminismError, match=r"input\(\)"):
        input()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="time.sleep is audited since Python 3.13")
def test_sleep_is_refused() -> None:
    with orchestrating("flow"), pytest.raises(NondeterminismError, match=r"time\.sleep\(\)") as raised:
        time.sleep(0)
    assert raised.value.hint == "use await keyleaf.sleep(...)"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="threads are audited since Python 3.12")
def test_threads_are_refused() -> None:
    with orchestrating("flow"), pytest.raises(NondeterminismError, match=r"threading\.Thread\.start\(\)"):
        threading.Thread(target=print).start()


def test_what_is_open_may_be_used(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file, orchestrating("flow"):
        file.write("x")
        file.flush()
        io.StringIO("y").read()
    assert (tmp_path / "a").read_text() == "x"


def test_modules_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    data = tmp_path / "data"
    data.write_text("read while importing")
    (tmp_path / "imported_by_a_flow.py").write_text(
        f"from pathlib import Path\nTEXT = Path({str(data)!r}).read_text()\n"
    )
    importlib.invalidate_caches()
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delitem(sys.modules, "imported_by_a_flow", raising=False)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with orchestrating("flow"):
        import colorsys

        import imported_by_a_flow  # type: ignore[import-not-found]
    assert imported_by_a_flow.TEXT == "read while importing"
    assert colorsys.rgb_to_yiq(0, 0, 0)[0] == 0
    assert list((tmp_path / "__pycache__").iterdir())
    with orchestrating("flow"), pytest.raises(NondeterminismError):
        data.read_text()


def test_what_is_installed_may_be_read_and_not_written() -> None:
    with orchestrating("flow"):
        assert Path(logging.__file__).read_text()
        with pytest.raises(NondeterminismError), Path(logging.__file__).open("a"):
            pass
        with pytest.raises(NondeterminismError), Path(logging.__file__, "..", "..", "..", "nothing").open():
            pass


def test_time_zones_are_known() -> None:
    ZoneInfo.clear_cache()
    with orchestrating("flow"):
        assert ZoneInfo("Europe/Paris").key == "Europe/Paris"


def test_tracebacks_and_warnings_show_source(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text("def fail():\n    raise KeyError  # the line\n")
    names: dict[str, Any] = {}
    exec(compile((tmp_path / "elsewhere.py").read_text(), str(tmp_path / "elsewhere.py"), "exec"), names)
    linecache.clearcache()
    with orchestrating("flow"):
        try:
            names["fail"]()
        except KeyError:
            assert "# the line" in traceback.format_exc()
        linecache.clearcache()
        assert "# the line" in warnings.formatwarning("x", UserWarning, str(tmp_path / "elsewhere.py"), 2)


def test_logging_goes_on(tmp_path: Path) -> None:
    logger = logging.Logger("flow")
    delayed = logging.FileHandler(tmp_path / "delayed", delay=True)
    rotating = logging.handlers.RotatingFileHandler(tmp_path / "rotating", maxBytes=10, backupCount=2)
    logger.addHandler(delayed)
    logger.addHandler(rotating)
    with orchestrating("flow"):
        for number in range(3):
            logger.info("a long enough line %s", number)
    for handler in (delayed, rotating):
        handler.close()
    assert len((tmp_path / "delayed").read_text().splitlines()) == 3
    assert (tmp_path / "rotating.2").read_text() == "a long enough line 0\n"


def test_what_a_log_line_is_made_of_is_not_at_liberty(tmp_path: Path) -> None:
    with orchestrating("flow"), pytest.raises(NondeterminismError):
        logging.getLogger("flow").info("%s", (tmp_path / "a").read_text())


def test_finalizers_are_left_alone(tmp_path: Path) -> None:
    class Temporary:
        def __init__(self, path: Path) -> None:
            self.path = path
            self.itself = self

        def __del__(self) -> None:
            self.path.unlink()

    class Owner:
        pass

    (tmp_path / "a").write_text("x")
    (tmp_path / "b").write_text("x")
    Temporary(tmp_path / "a")
    owner = Owner()
    weakref.finalize(owner, (tmp_path / "b").unlink)
    with orchestrating("flow"):
        del owner
        gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_other_threads_are_left_alone(tmp_path: Path, listener: tuple[str, int]) -> None:
    begin, done, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        begin.wait(10)
        try:
            (tmp_path / "a").write_text("x")
            socket.create_connection(listener).close()
            subprocess.run(["true"], check=True)
            seen.append("all of it")
        finally:
            done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with orchestrating("flow"):
        begin.set()
        assert done.wait(10)
        with pytest.raises(NondeterminismError):
            (tmp_path / "a").read_text()
    thread.join()
    assert seen == ["all of it"]


def test_two_threads_are_orchestrating_at_once(tmp_path: Path) -> None:
    both, names = threading.Barrier(2, timeout=10), []

    def step(name: str) -> None:
        with orchestrating(name):
            both.wait()
            try:
                (tmp_path / "a").read_text()
            except NondeterminismError as error:
                names.append(error.message.split()[1])
            both.wait()
        (tmp_path / name).write_text("x")

    threads = [threading.Thread(target=step, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names) == ["one", "two"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_nested(tmp_path: Path) -> None:
    with orchestrating("outer"):
        with orchestrating("inner"), pytest.raises(NondeterminismError, match="orchestration inner"):
            (tmp_path / "a").read_text()
        with pytest.raises(NondeterminismError, match="orchestration outer"):
            (tmp_path / "a").read_text()
        with pytest.raises(KeyError), orchestrating("failing"):
            raise KeyError
        with pytest.raises(NondeterminismError, match="orchestration outer"):
            (tmp_path / "a").read_text()
    (tmp_path / "a").write_text("x")


def test_threads_that_ended_leave_nothing_behind() -> None:
    with orchestrating("flow"):
        pass
    before = gc.get_objects()
    held = [each for each in before if type(each).__name__ == "_Stretch"]
    assert held == []


def test_the_first_refusal_of_a_process(tmp_path: Path) -> None:
    program = (
        "from keyleaf.orchestrate.audit_hook import orchestrating\n"
        "from keyleaf.orchestrate.nondeterminism import NondeterminismError\n"
        "with orchestrating('flow'):\n    import colorsys\n    try:\n        open('a')\n"
        "    except NondeterminismError as error:\n        print(error)\n"
    )
    (tmp_path / "program.py").write_text(program)
    ran = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    expected = "program.py:6: orchestration flow used open() in <module> (do it in an activity)\n"
    assert (ran.stdout, ran.stderr) == (expected, "")


# Orchestrations that are driven.


def hidden(name: str) -> Any:
    """Something of a module that cannot be told by looking at the code."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


@activity(registry=FLOWS)
def read_file(path: str) -> str:
    """Reads a file, as it may."""
    return Path(path).read_text()


def reads(path: str) -> str:
    with hidden("builtins.open")(path) as file:
        return str(file.read())


@orchestration(registry=FLOWS)
async def reading(path: str) -> str:
    await sleep(1)
    return reads(path)


@orchestration(registry=FLOWS)
async def reading_by_a_library(path: str) -> str:
    return str(hidden("fileinput.input")(path).readline())


@orchestration(registry=FLOWS)
async def asking(path: str) -> str:
    return str(await read_file(path))


@orchestration(registry=FLOWS)
async def undoing(path: str) -> None:
    async def undo() -> None:
        reads(path)

    async with compensating() as compensations:
        compensations.add(undo)
        raise KeyError


def test_the_error_is_where_the_author_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    error = Replay(reading, str(tmp_path / "a"), registry=FLOWS).error
    assert isinstance(error, NondeterminismError)
    assert str(error.where) == line_of(reads, "as file")
    assert error.message == "orchestration reading used open() in reads"


def test_the_error_is_where_the_author_calls_a_library(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    error = Replay(reading_by_a_library, str(tmp_path / "a"), registry=FLOWS).error
    assert isinstance(error, NondeterminismError)
    assert str(error.where) == line_of(reading_by_a_library.definition.function, "fileinput")
    assert error.message == "orchestration reading_by_a_library used open() in reading_by_a_library"


def test_activities_may_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    run = Replay(asking, str(tmp_path / "a"), activities={"read_file": read_file.definition.function}, registry=FLOWS)
    assert run.result == "x"


def test_what_undoes_is_orchestration_code_too(tmp_path: Path) -> None:
    error = Replay(undoing, str(tmp_path / "a"), registry=FLOWS).error
    assert isinstance(error, ExceptionGroup)
    assert [type(each) for each in error.exceptions] == [KeyError, NondeterminismError]


# Foreign awaitables.


class Bare:
    """Awaits by hand."""

    def __await__(self) -> Iterator[str]:
        yield "something"


@asynccontextmanager
async def entered() -> AsyncIterator[None]:
    await hidden("asyncio.sleep")(0)  # in a context manager
    yield


async def inner() -> None:
    await hidden("asyncio.sleep")(0)  # in a helper


async def sleeps() -> None:
    await hidden("asyncio.sleep")(0)


async def calls() -> None:
    await inner()


async def enters() -> None:
    async with entered():
        pass


async def bare() -> None:
    await Bare()


async def waits_on_a_future() -> None:
    await asyncio.get_running_loop().create_future()


async def gathers() -> None:
    await hidden("asyncio.gather")(asyncio.sleep(0))


async def waits_for() -> None:
    await hidden("asyncio.wait_for")(asyncio.get_running_loop().create_future(), 1)


async def grouped() -> None:
    async with hidden("asyncio.TaskGroup")() as group:
        group.create_task(asyncio.sleep(0))


async def queued() -> None:
    await hidden("asyncio.Queue")().get()


async def connects() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


SLEEP = "use await keyleaf.sleep(...)"


@pytest.mark.parametrize(
    ("function", "place", "message", "hint"),
    [
        (sleeps, (sleeps, "asyncio.sleep"), "sleeps awaited asyncio.sleep()", SLEEP),
        (calls, (inner, "in a helper"), "inner awaited asyncio.sleep()", SLEEP),
        (enters, (entered.__wrapped__, "in a context"), "entered awaited asyncio.sleep()", SLEEP),  # type: ignore[attr-defined]
        (bare, (Bare.__await__, "yield"), "Bare.__await__ awaited a str", "await it in an activity"),
        (
            waits_on_a_future,
            (waits_on_a_future, "create_future"),
            "waits_on_a_future awaited an asyncio.Future",
            "use await keyleaf.gather(...) or await keyleaf.first(...)",
        ),
        (gathers, (gathers, "asyncio.gather"), "gathers awaited asyncio.gather()", "use await keyleaf.gather(...)"),
        (waits_for, (waits_for, "wait_for"), "waits_for awaited asyncio.wait_for()", "use await keyleaf.first(...)"),
        (grouped, (grouped, "TaskGroup"), "grouped awaited asyncio.TaskGroup()", "use await keyleaf.gather(...)"),
        (queued, (queued, "Queue"), "queued awaited asyncio.Queue()", "use await keyleaf.wait_for_event(...)"),
        (connects, (connects, "open_"), "connects awaited asyncio.open_connection()", "await it in an activity"),
    ],
)
def test_foreign_awaitables(
    function: Callable[[], CoroutineType[Any, Any, None]],
    place: tuple[Callable[..., Any], str],
    message: str,
    hint: str,
) -> None:
    async def driven() -> NondeterminismError:
        coroutine = function()
        try:
            return foreign_awaitable(coroutine.send(None), coroutine)
        finally:
            coroutine.close()

    error = asyncio.run(driven())
    assert error.message == message
    assert error.hint == hint
    assert str(error.where) == line_of(*place)


@orchestration(registry=FLOWS)
async def awaiting_another() -> None:
    await inner()


def test_a_driven_orchestration_fails_with_it() -> None:
    error = Replay(awaiting_another, registry=FLOWS).error
    assert isinstance(error, NondeterminismError)
    assert str(error) == f"{line_of(inner, 'in a helper')}: inner awaited asyncio.sleep() ({SLEEP})"


KEPT: list[Any] = []


@orchestration(registry=FLOWS)
async def keeping() -> None:
    KEPT.append(sleep(1))
    await sleep(1)


@orchestration(registry=FLOWS)
async def taking() -> None:
    await KEPT[0]


def test_a_task_of_another_instance_is_foreign() -> None:
    Replay(keeping, registry=FLOWS, instance="one")
    KEPT[:] = [task for task in KEPT if not task.settled][:1]
    error = Replay(taking, registry=FLOWS, instance="two").error
    assert isinstance(error, NondeterminismError)
    assert error.message == "taking awaited a task of one"
    assert str(error.where) == line_of(taking.definition.function, "KEPT[0]")
