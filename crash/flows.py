"""``kill -9`` of workers of orchestrations at random moments.

Each run starts 50 instances on an engine, kills the worker (on Postgres one of two) at random moments, starts another
one, and waits. Then every instance has to be completed with the right result, every activity has to have run at least
once, and every effect has to have happened once, by the idempotency key that the activity is given. On Postgres nobody
starts a worker in the dead one's place: the living one takes its instances over, and the time until it does is
measured; every fifth run restarts Postgres in the middle as well.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import psycopg

from crash.flows_of_kills import open_bank, transfer
from keyleaf.orchestrate.engines.base import ENDED, Control, InstanceView, Query
from keyleaf.orchestrate.engines.opening import open_control
from keyleaf.orchestrate.envelope import Envelope
from keyleaf.orchestrate.errors import EngineUnreachable, InstanceInUse
from keyleaf.orchestrate.payload import PayloadCodec
from keyleaf.orchestrate.worker import new_start, send_event

Found = TypeVar("Found")

INSTANCES = 50
_LONGEST = 120.0
_POSTGRES = Path("/usr/lib/postgresql")


@dataclass
class Figures:
    """What the kills did.

    Attributes:
        takeovers: seconds from a death on Postgres until the living worker owned all that the dead one had owned,
            where it owned something; from the end of the restart where Postgres restarted.
        reruns: activities that ran more than once because of a kill.
        problems: what was found, and how often.
    """

    runs: int = 0
    kills: int = 0
    restarts: int = 0
    instances: int = 0
    reruns: int = 0
    takeovers: list[float] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)


class _Worker:
    """A worker in a process of its own."""

    def __init__(self, url: str, bank: Path, log: Path) -> None:
        self.log = log
        environment = {
            **os.environ,
            "KEYLEAF_ORCHESTRATOR": url,
            "KEYLEAF_PAYLOAD_KEY": "plain",
            "KILLS_BANK": str(bank),
        }
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "keyleaf.orchestrate", "--module", "crash.flows_of_kills"],
                env=environment,
                stdout=output,
                stderr=output,
            )

    def wait_until_ready(self) -> None:
        """Return when it runs instances."""
        end = time.monotonic() + 60
        while b" runs book, transfer" not in self.log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the worker did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def sqlite_kills(runs: int, *, seed: int = 0, instances: int = INSTANCES) -> Figures:
    """Kill the one worker of a SQLite file one to three times in each run."""
    randomness = random.Random(seed)
    figures = Figures()
    for _ in range(runs):
        with _folder() as folder:
            url, bank = f"sqlite:///{folder / 'flows.sqlite'}", folder / "bank.sqlite"
            open_bank(bank)
            worker = _Worker(url, bank, folder / "worker-0.log")
            worker.wait_until_ready()
            control = open_control(url)
            names, starting = _start(control, instances)
            for number in range(randomness.randint(1, 3)):
                # A later worker may be killed while it starts.
                time.sleep(randomness.random() * (0.8 if number == 0 else 3.0))
                worker.kill()
                figures.kills += 1
                worker = _Worker(url, bank, folder / f"worker-{number + 1}.log")
            worker.wait_until_ready()
            starting.join()
            _finish(control, names)
            worker.kill()
            control.close()
            _judge(figures, open_control(url), bank, names)
    return figures


def postgres_kills(runs: int, *, seed: int = 0, instances: int = INSTANCES, restart_every: int = 5) -> Figures:
    """Kill one of two workers on Postgres in each run, and restart Postgres in every ``restart_every``-th."""
    randomness = random.Random(seed)
    figures = Figures()
    with _postgres() as server:
        for run in range(runs):
            with _folder() as folder:
                url, bank = server.database(f"kills_{run}"), folder / "bank.sqlite"
                open_bank(bank)
                workers = [_Worker(url, bank, folder / f"worker-{each}.log") for each in range(2)]
                for worker in workers:
                    worker.wait_until_ready()
                control = open_control(url)
                names, starting = _start(control, instances)
                time.sleep(0.2 + randomness.random() * 2.0)
                victim = workers.pop(randomness.randrange(2))
                victim.kill()
                died = time.monotonic()
                figures.kills += 1
                left = _owned_by_others(url, workers[0].process.pid)
                if run % restart_every == restart_every - 1:
                    server.restart()
                    figures.restarts += 1
                    died = time.monotonic()
                took = _taken_over(url, died, workers[0].process.pid)
                starting.join()
                if took is None:
                    figures.problems["not taken over within a minute"] += 1
                elif left:
                    figures.takeovers.append(took)
                _finish(control, names)
                workers[0].kill()
                control.close()
                control = open_control(url)
                _judge(figures, control, bank, names)
                control.close()
    return figures


def _owned_by_others(url: str, alive: int) -> int:
    """The instances that are owned by a process that is gone."""
    query = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'PENDING' AND executor_id NOT LIKE %s"
    with psycopg.connect(url, connect_timeout=2) as connection:
        row = connection.execute(query, (f"%-{alive}-%",)).fetchone()
        assert row is not None
        return int(row[0])


def _taken_over(url: str, died: float, alive: int) -> float | None:
    """Seconds from the death until no instance is owned by a process that is gone."""
    while time.monotonic() < died + 60:
        with suppress(psycopg.Error):
            if not _owned_by_others(url, alive):
                return time.monotonic() - died
        time.sleep(0.05)
    return None


def _start(control: Control, instances: int) -> tuple[list[str], threading.Thread]:
    """Start instances beside the kills."""
    codec = PayloadCodec({})
    names = [f"transfer-{number}" for number in range(instances)]

    def start_all() -> None:
        for number, name in enumerate(names):
            start = new_start(transfer.definition, name, (number,), {}, {}, codec, time.time())
            with suppress(InstanceInUse):  # asked again after an answer that did not arrive
                _patiently(partial(control.start, name, start, ""))

    thread = threading.Thread(target=start_all)
    thread.start()
    return names, thread


def _finish(control: Control, names: list[str]) -> None:
    """Send what the instances wait for, and wait until all have ended."""
    codec = PayloadCodec({})
    for name in names:
        _patiently(partial(send_event, control, codec, name, "release", None, time.time()))
    end = time.monotonic() + _LONGEST
    while time.monotonic() < end:
        found = _patiently(lambda: control.list(Query(name="transfer", limit=len(names))))
        if sum(view.state in ENDED for view in found) == len(names):
            return
        time.sleep(0.2)


def _patiently(ask: Callable[[], Found]) -> Found:
    """Ask again while the database starts."""
    end = time.monotonic() + 30
    while True:
        try:
            return ask()
        except (EngineUnreachable, psycopg.Error):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _judge(figures: Figures, control: Control, bank: Path, names: list[str]) -> None:
    figures.runs += 1
    figures.instances += len(names)
    views: dict[str, InstanceView] = {name: view for name in names if (view := control.get(name)) is not None}
    for number, name in enumerate(names):
        view = views.get(name)
        if view is None or view.state != "completed":
            figures.problems[f"an instance is {view.state if view else 'lost'}"] += 1
            continue
        ended = msgspec.json.decode(view.result, type=Envelope)
        if ended.body != f"p:{3 * number + 3}":
            figures.problems["a wrong result"] += 1
    with sqlite3.connect(bank) as connection:
        effects = Counter(dict(connection.execute("SELECT instance, count(*) FROM transfers GROUP BY instance")))
        figures.reruns += connection.execute(
            "SELECT count(*) FROM (SELECT key FROM runs WHERE activity = 'debit' GROUP BY key HAVING count(*) > 1)"
        ).fetchone()[0]
    for name in names:
        if effects[name] != 4:
            figures.problems[f"{effects[name]} effects of a transfer instead of 4"] += 1
        if sum(count for other, count in effects.items() if other.startswith(f"{name}.")) != 1:
            figures.problems["the booking did not happen once"] += 1


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="keyleaf-kills-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Server:
    """A PostgreSQL server of its own."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self._account = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []

    def make(self) -> None:
        """Make and start it."""
        data = str(self._folder / "data")
        self._run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync")
        self._control("start")

    def restart(self) -> None:
        """Stop it without warning, as a failure would, and start it."""
        self._control("stop", "-m", "immediate")
        self._control("start")

    def stop(self) -> None:
        """Stop it."""
        self._control("stop", "-m", "immediate")

    def database(self, name: str) -> str:
        """The URL of a new database."""
        with psycopg.connect(f"host={self._folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql://postgres@/{name}?host={self._folder}"

    def _control(self, *words: str) -> None:
        options = f"-k {self._folder} -c listen_addresses='' -c max_connections=200"
        data, log = str(self._folder / "data"), str(self._folder / "log")
        self._run("pg_ctl", "-D", data, "-w", "-s", "-l", log, "-o", options, *words)

    def _run(self, program: str, *words: str) -> None:
        subprocess.run([*self._account, str(self._binaries / program), *words], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _postgres() -> Iterator[_Server]:
    found = sorted(_POSTGRES.glob("*/bin/initdb"))
    if not found:
        raise SystemExit("PostgreSQL's server programs are not installed")
    with _folder() as folder:
        folder.chmod(0o777)
        server = _Server(found[-1].parent, folder)
        server.make()
        try:
            yield server
        finally:
            server.stop()
