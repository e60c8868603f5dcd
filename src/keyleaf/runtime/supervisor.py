"""Runs a whole tree: starts in order, restarts what changed and nothing else, ends everything."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyleaf.core.errors import InputError
from keyleaf.runtime.addresses import service_addresses, vault_addresses
from keyleaf.runtime.fetching import Fetcher
from keyleaf.runtime.flows import describe_flows
from keyleaf.runtime.health import Health, WorkloadStatus, workload_health, worst
from keyleaf.runtime.identity import Endpoints, TokenKeeper, private_directory
from keyleaf.runtime.imports import module_files
from keyleaf.runtime.logs import LogFile, log_name
from keyleaf.runtime.pod import SHORTEST_REFRESH, Pod, Surroundings
from keyleaf.runtime.ports import PortBook
from keyleaf.runtime.process import Guard
from keyleaf.runtime.schedule import next_run
from keyleaf.runtime.specs import NotRun, RunSpec, WorkloadSpec
from keyleaf.runtime.timing import SystemTimer, Timer

WAVE_PATIENCE = 60.0
_NOTHING = RunSpec((), (), (), (), {})


@dataclass(frozen=True, slots=True)
class Changes:
    """What one :meth:`Supervisor.apply` did, as keys of workloads."""

    started: tuple[str, ...]
    restarted: tuple[str, ...]
    stopped: tuple[str, ...]
    kept: tuple[str, ...]


class _Run:
    """One workload under supervision."""

    def __init__(self, spec: WorkloadSpec, fingerprint: object) -> None:
        self.spec = spec
        self.fingerprint = fingerprint
        self.pods: list[Pod] = []
        self.task: asyncio.Task[None] | None = None
        self.next_run = 0.0
        self.problem = ""


class Supervisor:
    """Owns every process of a tree. Use :meth:`start` first and :meth:`stop` last, in one event loop."""

    def __init__(
        self,
        state: Path,
        tokens: TokenKeeper,
        fetcher: Fetcher,
        *,
        timer: Timer | None = None,
        private: Path | None = None,
        changed: Callable[[], None] = lambda: None,
        shortest_refresh: float = SHORTEST_REFRESH,
    ) -> None:
        """
        Args:
            state: the state directory. ``private``: for tokens and secret files; None finds a tmpfs.
            changed: called after each change of any status.
        """
        self._timer = timer or SystemTimer()
        self._state = state
        self._guard = Guard()
        self._tokens = tokens
        self._private = private or private_directory(state)
        self._surroundings = Surroundings(
            state, self._private, tokens, fetcher, self._guard, self._timer, shortest_refresh
        )
        self._ports = PortBook(state / "app-ports.json")
        self._logs: dict[str, LogFile] = {}
        self._runs: dict[str, _Run] = {}
        self._spec = _NOTHING
        self._on_change = changed
        self._wake = asyncio.Event()
        self._renewing: asyncio.Task[None] | None = None
        self._starting: set[asyncio.Task[None]] = set()

    @property
    def mark(self) -> str:
        """The value of ``KEYLEAF_SUPERVISOR`` in the environment of each process started here."""
        return self._guard.mark

    @property
    def not_run(self) -> tuple[NotRun, ...]:
        """What the tree declares and does not run here."""
        return self._spec.not_run

    async def start(self) -> None:
        """Start what watches over the processes."""
        for leftover in self._private.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        await self._guard.start()
        self._renewing = asyncio.create_task(self._tokens.run())

    async def apply(self, spec: RunSpec, endpoints: Endpoints) -> Changes:
        """Let exactly ``spec`` run: stop what is gone, restart what differs, leave the rest alone.

        It returns when everything that has to stop has stopped and every start is under way.
        """
        ports = self._assign_ports(spec)
        addresses = {
            namespace: [*service_addresses(spec, ports, namespace), *vault_addresses(endpoints.vaults)]
            for namespace in {workload.namespace for workload in spec.workloads}
        }
        wanted = {w.key: (w, _fingerprint(w, endpoints, addresses[w.namespace])) for w in spec.workloads}
        gone = [key for key in self._runs if key not in wanted]
        changed = [k for k, (_, mark) in wanted.items() if k in self._runs and self._runs[k].fingerprint != mark]
        kept = tuple(key for key in self._runs if key not in gone and key not in changed)
        await asyncio.gather(*(self._stop_run(self._runs.pop(key)) for key in (*gone, *changed)))
        self._spec = spec
        describe_flows(self._state, spec.workloads, endpoints, addresses)
        new = {key: _Run(*both) for key, both in wanted.items() if key not in self._runs}
        self._runs.update(new)
        started_apps = {key: asyncio.Event() for key in spec.order}
        for application in dict.fromkeys((*spec.order, *(w.application for w in spec.workloads))):
            runs = [run for run in new.values() if run.spec.application == application]
            parent = started_apps.get(spec.parents.get(application, ""))
            begun = started_apps.setdefault(application, asyncio.Event())
            task = asyncio.create_task(self._start_application(runs, endpoints, addresses, parent, begun))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)
        self._changed()
        return Changes(tuple(k for k in new if k not in changed), tuple(changed), tuple(gone), kept)

    def status(self) -> tuple[WorkloadStatus, ...]:
        """Every workload with its health, in the order of the tree."""
        order = {key: place for place, key in enumerate(self._spec.order)}
        found = []
        for run in sorted(self._runs.values(), key=lambda r: (order.get(r.spec.application, 0), r.spec.wave)):
            pods = tuple(pod.status for pod in run.pods)
            health, message = workload_health(run.spec, pods)
            if run.problem:
                health, message = Health.DEGRADED, run.problem
            found.append(WorkloadStatus(run.spec, health, message, pods, run.next_run))
        return tuple(found)

    def health(self, application: str) -> tuple[Health, str]:
        """The worst health of an Application's own workloads; Healthy where it has none."""
        return worst((s.health, s.message) for s in self.status() if s.spec.application == application)

    async def settled(self, patience: float) -> bool:
        """Wait until nothing is Progressing any more, at most ``patience`` seconds; whether that is so."""
        end = self._timer.monotonic() + patience
        while any(status.health is Health.PROGRESSING for status in self.status()):
            left = end - self._timer.monotonic()
            if left <= 0:
                return False
            await self._wait_for_change(left)
        return True

    def log_file(self, application: str) -> Path:
        """Where the output of an Application's processes goes."""
        return self._state / "logs" / log_name(application)

    async def stop(self) -> None:
        """End every process, gracefully where they let it, children before parents; then the guard."""
        for task in tuple(self._starting):
            task.cancel()
        runs, self._runs = list(self._runs.values()), {}
        await asyncio.gather(*(self._stop_run(run) for run in runs))
        if self._renewing is not None:
            self._renewing.cancel()
        await self._surroundings.fetcher.close()
        await self._guard.stop()
        for log in self._logs.values():
            log.close()
        shutil.rmtree(self._private, ignore_errors=True)

    async def _start_application(
        self,
        runs: list[_Run],
        endpoints: Endpoints,
        addresses: dict[str, list[tuple[str, str]]],
        parent: asyncio.Event | None,
        begun: asyncio.Event,
    ) -> None:
        """Start an Application after its parent, wave after wave: a wave waits for the health of the one before."""
        if parent is not None:
            await parent.wait()
        waves = sorted({run.spec.wave for run in runs})
        if not waves:
            begun.set()
        for wave in waves:
            now = [run for run in runs if run.spec.wave == wave]
            for run in now:
                if self._runs.get(run.spec.key) is run:
                    run.task = asyncio.create_task(self._supervise(run, endpoints, addresses[run.spec.namespace]))
            begun.set()
            if wave != waves[-1]:
                await self._healthy(now)

    async def _healthy(self, runs: list[_Run]) -> None:
        end = self._timer.monotonic() + WAVE_PATIENCE
        fine = (Health.HEALTHY, Health.SUSPENDED)
        while any(workload_health(r.spec, [p.status for p in r.pods])[0] not in fine for r in runs):
            left = end - self._timer.monotonic()
            if left <= 0:
                return
            await self._wait_for_change(left)

    async def _supervise(self, run: _Run, endpoints: Endpoints, addresses: list[tuple[str, str]]) -> None:
        spec = run.spec
        if spec.kind == "CronJob":
            await self._run_cron(run, endpoints, addresses)
        elif spec.kind == "Job":
            if not spec.suspended:
                await self._run_job(run, endpoints, addresses, spec.name)
        else:
            run.pods = [
                self._pod(run, number, f"{spec.name}-{number}", endpoints, addresses) for number in range(spec.replicas)
            ]
            self._changed()
            await _together(run.pods)

    async def _run_job(self, run: _Run, endpoints: Endpoints, addresses: list[tuple[str, str]], name: str) -> None:
        """Run pods one after the other until enough have succeeded or too many failed."""
        succeeded = failures = 0
        wait = 0.5
        while succeeded < run.spec.completions:
            pod = self._pod(run, 0, name, endpoints, addresses)
            run.pods = [*run.pods[-2:], pod] if run.spec.kind == "CronJob" else [pod]
            self._changed()
            if await pod.run():
                succeeded += 1
                continue
            failures += 1
            if failures > run.spec.backoff_limit:
                pod.status.reason = f"BackoffLimitExceeded: {pod.status.reason}"
                self._changed()
                return
            pod.status.phase, pod.status.reason = "pending", ""
            await self._timer.sleep(wait)
            wait = min(60.0, wait * 2)

    async def _run_cron(self, run: _Run, endpoints: Endpoints, addresses: list[tuple[str, str]]) -> None:
        jobs: set[asyncio.Task[None]] = set()
        if run.spec.suspended:
            return
        try:
            while True:
                try:
                    run.next_run = next_run(run.spec.schedule, run.spec.time_zone, self._timer.now())
                except InputError as error:
                    run.problem = error.message
                    self._changed()
                    return
                self._changed()
                await self._timer.sleep(run.next_run - self._timer.now())
                jobs = {job for job in jobs if not job.done()}
                if jobs and run.spec.concurrency == "Forbid":
                    continue
                if run.spec.concurrency == "Replace":
                    await _end(jobs)
                name = f"{run.spec.name}-{int(run.next_run // 60)}"
                jobs.add(asyncio.create_task(self._run_job(run, endpoints, addresses, name)))
        finally:
            await _end(jobs)

    def _pod(self, run: _Run, number: int, name: str, endpoints: Endpoints, addresses: list[tuple[str, str]]) -> Pod:
        spec = run.spec
        if spec.application not in self._logs:
            self._logs[spec.application] = LogFile(self.log_file(spec.application))
        ports = {
            port.number: self._ports.assign(_owner(spec, number), port.number, in_use=True)
            for container in spec.containers
            for port in container.ports
        }
        return Pod(
            spec,
            name,
            self._surroundings,
            endpoints,
            ports=ports,
            addresses=addresses,
            log=self._logs[spec.application],
            changed=self._changed,
        )

    def _assign_ports(self, spec: RunSpec) -> dict[tuple[str, int], int]:
        owners = {_owner(w, number) for w in spec.workloads for number in range(max(1, w.replicas))}
        self._ports.forget_all_but(owners)
        first: dict[tuple[str, int], int] = {}
        for workload in spec.workloads:
            for number in range(max(1, workload.replicas)):
                for container in workload.containers:
                    for port in container.ports:
                        here = self._ports.assign(
                            _owner(workload, number), port.number, in_use=workload.key in self._runs
                        )
                        first.setdefault((workload.key, port.number), here)
        return first

    async def _stop_run(self, run: _Run) -> None:
        if run.task is not None:
            await _end({run.task})

    def _changed(self) -> None:
        self._wake.set()
        self._wake = asyncio.Event()
        self._on_change()

    async def _wait_for_change(self, longest: float) -> None:
        changed = asyncio.create_task(self._wake.wait())
        waited = asyncio.create_task(self._timer.sleep(longest))
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({changed, waited}, return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        waited.cancel()


def _owner(spec: WorkloadSpec, number: int) -> str:
    return f"{spec.key}#{number}"


def _fingerprint(spec: WorkloadSpec, endpoints: Endpoints, addresses: list[tuple[str, str]]) -> object:
    """Equal as long as the workload would be started in the same way.

    Of the addresses only those count that its text mentions: a Service of somebody else may come and go. A program that
    its command line names by a path below its working directory counts with its content, and so does an
    Orchestration's module with what it imports from its folder.
    """
    texts = [text for c in (*spec.init_containers, *spec.containers) for text in c.texts()]
    mentioned = tuple(pair for pair in addresses if any(pair[0].lower() in text.lower() for text in texts))
    client_id = endpoints.client_ids.get((spec.namespace, spec.service_account), "") if spec.identity else ""
    vaults = tuple(endpoints.vaults.get(vault.lower(), "") for vault in spec.vaults)
    return (
        spec,
        client_id,
        vaults,
        mentioned,
        _programs(spec),
        endpoints.authority,
        endpoints.tenant_id,
        endpoints.ca_bundle,
    )


def _programs(spec: WorkloadSpec) -> tuple[str, ...]:
    found = []
    for container in (*spec.init_containers, *spec.containers):
        for argument in container.argv:
            with contextlib.suppress(OSError, ValueError):
                file = Path(container.working_directory) / argument
                if not Path(argument).is_absolute() and file.is_file():
                    found.append(hashlib.sha256(file.read_bytes()).hexdigest())
    if spec.flow is not None:
        # Python looks in the folder of --path first, then in the working directory.
        folders = [Path(folder) for folder in (spec.flow.path, spec.containers[0].working_directory) if folder]
        for file in module_files(spec.flow.module, folders):
            with contextlib.suppress(OSError):
                found.append(f"{file} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return tuple(found)


async def _together(pods: list[Pod]) -> None:
    tasks = [asyncio.create_task(pod.run()) for pod in pods]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)
