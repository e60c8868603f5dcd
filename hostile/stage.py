"""One run of the harness: a vault with canaries, an engine, a worker in a process of its own, and the search."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.embedded import Embedded, start_embedded

from hostile import flows
from hostile.canaries import KINDS, Canaries, secret_name
from hostile.engines import Store, store
from hostile.search import Findings, Search
from hostile.ways import WAYS, Way
from keyleaf.core.errors import KeyleafError
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.engines.base import ENDED, Control, InstanceView, Query
from keyleaf.orchestrate.engines.opening import open_control
from keyleaf.orchestrate.errors import InstanceCancelled, OrchestrationFailed
from keyleaf.orchestrate.payload import PayloadCodec
from keyleaf.orchestrate.worker import new_start, result_of

PAYLOAD_KEY = "payload key of the hostile runs, of more than thirty-two characters"
_LONGEST = 60.0
_AT_ONCE = 100


@dataclass(frozen=True)
class Setting:
    """How a worker is run."""

    engine: str
    guard: bool = True
    encrypted: bool = True
    debug: bool = False

    def __str__(self) -> str:
        guard, encrypted = "on" if self.guard else "off", "on" if self.encrypted else "off"
        return f"{self.engine}, guard {guard}, encryption {encrypted}{', debug logs' if self.debug else ''}"


@dataclass
class Figures:
    """What a run did.

    Attributes:
        ends: how instances ended, and how often.
        problems: what did not end as it must.
        findings: of the search in the store (while the worker lives and after), the logs and everything else.
    """

    runs: int = 0
    seconds: float = 0.0
    ends: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    stored: Findings = field(default_factory=Findings)
    logged: Findings = field(default_factory=Findings)
    around: Findings = field(default_factory=Findings)
    tried: set[int] = field(default_factory=set)

    @property
    def searched(self) -> int:
        """Bytes."""
        return self.stored.searched + self.logged.searched + self.around.searched

    @property
    def hits(self) -> int:
        """All hits."""
        return sum(sum(each.hits.values()) for each in (self.stored, self.logged, self.around))


class Vault:
    """An embedded server with a secret for each way and kind, and an identity that may read them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.canaries = Canaries.from_seed(seed)
        self.search = Search(self.canaries, len(WAYS))
        self.state = folder / "state"
        self.server: Embedded = start_embedded(self.state, folder)
        vault, person = self.server.vault("canaries"), self.server.person()
        self.server.grant(person, vault["id"])
        self.key_version = self.server.put(vault, "payload-key", PAYLOAD_KEY)["id"].rsplit("/", 1)[1]
        self.environment = {**person.environment, "KEYLEAF_VAULTS": f"canaries={vault['url']}"}
        self._vault = vault
        self._there: set[str] = set()

    def put(self, chosen: list[tuple[Way, str]]) -> None:
        """Make sure that the secrets of these ways are there."""
        for way, kind in chosen:
            name = secret_name(kind, way.number)
            if name not in self._there:
                self.server.put(self._vault, name, self.canaries.value(kind, way.number))
                self._there.add(name)


@contextmanager
def vault(seed: int) -> Iterator[Vault]:
    """A vault that ends with the block."""
    folder = Path(tempfile.mkdtemp(prefix="keyleaf-hostile-"))
    try:
        made = Vault(folder, seed)
        try:
            yield made
        finally:
            made.server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def choose(runs: int, seed: int = 0) -> list[tuple[Way, str]]:
    """Ways and kinds: each way once with kinds in turn, then each way with every other kind, then again."""
    every: list[tuple[Way, str]] = []
    for turn in range(len(KINDS)):
        for way in WAYS:
            kinds = way.kinds or KINDS
            if turn < len(kinds):
                every.append((way, kinds[(way.number + seed + turn) % len(kinds)]))
    rounds = -(-runs // len(every))
    return (every * rounds)[:runs]


def perform(stage: Vault, setting: Setting, chosen: list[tuple[Way, str]]) -> Figures:
    """Run the chosen ways and search."""
    figures = Figures(runs=len(chosen), tried={way.number for way, _ in chosen})
    begun = time.monotonic()
    stage.put(chosen)
    folder = Path(tempfile.mkdtemp(prefix="keyleaf-hostile-"))
    try:
        with store(setting.engine, folder) as opened:
            log = folder / "worker.log"
            errors = folder / "worker.errors.log"
            names = folder / "flows.txt"
            names.write_text("\n".join(sorted({flows.flow_name(way, kind) for way, kind in chosen})))
            process = _start(stage, setting, opened, names, log, errors)
            try:
                _wait_until_ready(process, errors)
                codec = PayloadCodec({stage.key_version: PAYLOAD_KEY} if setting.encrypted else {})
                control = open_control(opened.url)
                _run(figures, control, codec, chosen, process, guarded=setting.guard)
                control.close()
                proc = Path(f"/proc/{process.pid}")
                stage.search.files("process", (proc / "cmdline", proc / "environ"), figures.around)
                _search(stage, opened, figures)
                process.terminate()
                try:
                    code = process.wait(60)
                except subprocess.TimeoutExpired:
                    figures.problems.append("the worker did not end when it was asked to")
                else:
                    if code:
                        figures.problems.append(f"the worker ended with {code}")
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            _search(stage, opened, figures)
            stage.search.files("worker's stdout", [log], figures.logged)
            stage.search.files("worker's stderr", [errors], figures.logged)
        state = [file for file in stage.state.rglob("*") if file.is_file() and not file.is_symlink()]
        stage.search.files("embedded server's state", state, figures.around)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures.seconds = round(time.monotonic() - begun, 1)
    return figures


def _start(
    stage: Vault, setting: Setting, opened: Store, names: Path, log: Path, errors: Path
) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        **stage.environment,
        "KEYLEAF_ORCHESTRATOR": opened.url,
        "KEYLEAF_PAYLOAD_KEY": "canaries/payload-key" if setting.encrypted else "plain",
        "HOSTILE_FLOWS": str(names),
        "HOSTILE_GUARD": "on" if setting.guard else "off",
        "HOSTILE_DEBUG": "1" if setting.debug else "",
    }
    with log.open("wb") as output, errors.open("wb") as problems:
        command = [sys.executable, "-m", "keyleaf.orchestrate", "--module", "hostile.flows"]
        return subprocess.Popen(command, env=environment, stdout=output, stderr=problems)


def _wait_until_ready(process: subprocess.Popen[bytes], errors: Path) -> None:
    end = time.monotonic() + 60
    while b" runs " not in errors.read_bytes():
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the worker did not start: {errors.read_text()[-2000:]}")
        time.sleep(0.05)


def _search(stage: Vault, opened: Store, figures: Figures) -> None:
    for place, data in opened.content():
        stage.search.bytes(place, data, figures.stored)


def _run(
    figures: Figures,
    control: Control,
    codec: PayloadCodec,
    chosen: list[tuple[Way, str]],
    process: subprocess.Popen[bytes],
    *,
    guarded: bool,
) -> None:
    """Start the instances, a few at once, and judge how each ended."""
    registry = Registry()
    waiting = {f"run-{number:04d}": pair for number, pair in enumerate(chosen)}
    names = list(waiting)
    random.Random(1).shuffle(names)
    running: dict[str, float] = {}
    views: dict[str, InstanceView] = {}
    while names or running:
        if process.poll() is not None:
            figures.problems.append(f"the worker died; {len(running)} instances ran: {_ways(waiting, running)}")
            return
        while names and len(running) < _AT_ONCE:
            instance = names.pop()
            way, kind = waiting[instance]
            definition = _definition(registry, flows.flow_name(way, kind))
            control.start(instance, new_start(definition, instance, (), {}, {}, codec, time.time()), "")
            running[instance] = time.monotonic()
        for view in control.list(Query(prefix="run-", limit=10 * len(chosen))):
            if view.instance in running and view.state in ENDED:
                del running[view.instance]
                views[view.instance] = view
        if running and time.monotonic() - min(running.values()) > _LONGEST:
            figures.problems.append(f"{len(running)} instances hang: {_ways(waiting, running)}")
            break
        time.sleep(0.25)
    for instance, view in sorted(views.items()):
        figures.ends[view.state] = figures.ends.get(view.state, 0) + 1
        if guarded:
            _judge(figures, view, codec, registry, *waiting[instance])
    hanging = [view for view in control.list(Query(limit=100_000)) if view.state not in ENDED]
    if hanging:
        figures.problems.append(f"{len(hanging)} instances have not ended: {hanging[0].instance} ({hanging[0].name})")


def _ways(waiting: dict[str, tuple[Way, str]], running: dict[str, float]) -> str:
    return "; ".join(sorted({f"{waiting[each][0].channel}: {waiting[each][0].name}" for each in running})[:12])


def _definition(registry: Registry, name: str) -> Any:
    """A definition that starts the orchestration of that name, declared or not in this process."""
    if name not in registry.orchestrations:
        from keyleaf.orchestrate import words

        async def stands_for() -> Any:
            return None

        words.orchestration(stands_for, name=name, registry=registry)
    return registry.orchestration(name)


def _judge(figures: Figures, view: InstanceView, codec: PayloadCodec, registry: Registry, way: Way, kind: str) -> None:
    """Whether the instance ended as it must, and says why."""
    told = f"{way.channel}: {way.name} ({kind})"
    try:
        result_of(view, codec, registry)
        end, said = "completed", ""
    except (OrchestrationFailed, InstanceCancelled) as error:
        end, said = "failed", f"{error}\n{getattr(error, 'details', '')}"
    except KeyleafError as error:
        end, said = "unreadable", str(error)
    if way.end not in ("either", end):
        figures.problems.append(f"{told} {end}: {said[:300]}")
        return
    if end == "failed":
        if flows.flow_name(way, kind) not in said and not way.flow:
            figures.problems.append(f"{told}: the error does not name the activity: {said[:200]}")
        if view.error.startswith("engine: "):
            figures.problems.append(f"{told}: the engine's own error: {view.error[:200]}")
        if "cannot be" in said and "reveal" not in said and "return something" not in said:
            figures.problems.append(f"{told}: the error does not say what to do: {said[:200]}")
