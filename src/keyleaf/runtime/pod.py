"""One replica: its directories, its volumes, its identity, its processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyleaf.core.errors import KeyleafError
from keyleaf.runtime.backoff import Backoff
from keyleaf.runtime.container import Container
from keyleaf.runtime.fetching import Fetcher, json_members
from keyleaf.runtime.flows import worker_environment
from keyleaf.runtime.health import PodStatus
from keyleaf.runtime.identity import TOKEN_FILE, Endpoints, TokenKeeper
from keyleaf.runtime.launching import Place, field_value, launch
from keyleaf.runtime.logs import LogFile
from keyleaf.runtime.materialise import mount, write_volume
from keyleaf.runtime.process import Guard, Launch
from keyleaf.runtime.specs import ContainerSpec, FieldReference, TokenProjection, VariablesOf, Volume, WorkloadSpec
from keyleaf.runtime.timing import Timer
from keyleaf.runtime.values import Literal, VaultValue

DEFAULT_REFRESH = 60.0
SHORTEST_REFRESH = 15.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pods of a supervisor share.

    Attributes:
        private: 0700, on tmpfs where there is one: tokens and secret files; ``state`` for everything else.
        shortest_refresh: seconds; no secret is asked for more often, whatever its manifest says.
    """

    state: Path
    private: Path
    tokens: TokenKeeper
    fetcher: Fetcher
    guard: Guard
    timer: Timer
    shortest_refresh: float = SHORTEST_REFRESH


class Pod:
    """One pod of a workload."""

    def __init__(
        self,
        spec: WorkloadSpec,
        name: str,
        surroundings: Surroundings,
        endpoints: Endpoints,
        *,
        ports: dict[int, int],
        addresses: Sequence[tuple[str, str]],
        log: LogFile,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self.status = PodStatus(name, ports=ports)
        self._s = surroundings
        self._endpoints = endpoints
        self._addresses = addresses
        self._log = log
        self._changed = changed
        self._private = surroundings.private / f"{spec.namespace}.{spec.kind}.{name}"
        self._scratch = surroundings.state / "run" / "pods" / f"{spec.namespace}.{spec.kind}.{name}"
        self._seen: dict[VaultValue, bytes] = {}
        self._restart = asyncio.Event()

    async def run(self) -> bool:
        """Run it to its end, which only Jobs have: whether it succeeded. Cancelling it stops its processes first."""
        refreshing: asyncio.Task[None] | None = None
        try:
            self._make_directories()
            await self._fill_until_done()
            refreshing = asyncio.create_task(self._refresh())
            for container in self.spec.init_containers:
                policy = "Never" if self.spec.restart_policy == "Never" else "OnFailure"
                if await self._container(container, policy).run() != 0:
                    return self._end("failed", f"the init container {container.name} failed")
                del self.status.containers[container.name]
            return await self._run_containers()
        finally:
            if refreshing is not None:
                refreshing.cancel()
            self._s.tokens.forget(self._private)
            shutil.rmtree(self._private, ignore_errors=True)
            shutil.rmtree(self._scratch, ignore_errors=True)

    async def _run_containers(self) -> bool:
        while True:
            self._restart.clear()
            policy = self.spec.restart_policy
            running = [
                asyncio.create_task(self._container(container, policy).run()) for container in self.spec.containers
            ]
            again = asyncio.create_task(self._restart.wait())
            self.status.phase = "running"
            self._changed()
            ending = asyncio.create_task(_all(running))
            try:
                waited: set[asyncio.Future[Any]] = {ending, again}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if ending.done():
                    codes = ending.result()
                    named = zip(self.spec.containers, codes, strict=True)
                    bad = [f"{container.name} ended with {code}" for container, code in named if code]
                    return self._end("failed", "; ".join(bad)) if bad else self._end("succeeded", "")
            finally:
                again.cancel()
                ending.cancel()
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _container(self, spec: ContainerSpec, policy: str) -> Container:
        label = self.status.name if len(self.spec.containers) == 1 else f"{self.status.name}/{spec.name}"
        container = Container(
            spec,
            prepare=self._launch,
            policy=policy,  # type: ignore[arg-type]
            grace=self.spec.grace_seconds,
            ports=self.status.ports,
            guard=self._s.guard,
            timer=self._s.timer,
            write=lambda line: self._log.write(label, line),
            changed=self._changed,
        )
        self.status.containers[spec.name] = container.status
        return container

    async def _launch(self, container: ContainerSpec) -> Launch:
        values, objects = await self._values(self.spec.environment_values())
        for mounted in container.mounts:
            volume = next(v for v in self.spec.volumes if v.name == mounted.volume)
            target = self._volume_directory(volume) / mounted.sub_path if mounted.sub_path else None
            mount(self._root(container), mounted.path, target or self._volume_directory(volume))
        client_id = self._client_id()
        vaults = [self._endpoints.vaults[v.lower()] for v in self.spec.vaults if v.lower() in self._endpoints.vaults]
        place = Place(
            pod=self.status.name,
            root=self._root(container),
            base={
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
                "HOME": str(self._scratch / "home"),
                "TMPDIR": str(self._scratch / "tmp"),
                "LANG": "C.UTF-8",
                **self._endpoints.trust(),
                **worker_environment(self.spec, self._endpoints, self._s.state),
            },
            identity=self._endpoints.variables(client_id, self._private / TOKEN_FILE) if client_id else {},
            ports=self.status.ports,
            addresses=self._addresses,
            vault_url=vaults[0] if len(vaults) == 1 else "",
        )
        return launch(self.spec, container, place, values, objects)

    def _client_id(self) -> str:
        if not self.spec.identity:
            return ""
        return self._endpoints.client_ids.get((self.spec.namespace, self.spec.service_account), "")

    def _root(self, container: ContainerSpec) -> Path:
        return self._private / "root" / container.name

    def _volume_directory(self, volume: Volume) -> Path:
        if volume.kind == "persistent":
            return self._s.state / "volumes" / self.spec.namespace / volume.claim
        return (self._scratch if volume.kind == "empty" else self._private) / "volumes" / volume.name

    def _make_directories(self) -> None:
        for leftover in (self._private, self._scratch):
            shutil.rmtree(leftover, ignore_errors=True)
        for directory in (self._private, self._scratch / "home", self._scratch / "tmp"):
            directory.mkdir(mode=0o700, parents=True)
        for container in (*self.spec.init_containers, *self.spec.containers):
            self._root(container).mkdir(mode=0o700, parents=True)
        for volume in self.spec.volumes:
            self._volume_directory(volume).mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._client_id():
            self._s.tokens.project(
                self._private / TOKEN_FILE, self.spec.namespace, self.spec.service_account, pod=self.status.name
            )

    async def _fill_until_done(self) -> None:
        backoff = Backoff(longest=15)
        while True:
            try:
                await self._fill()
            except KeyleafError as error:
                self.status.reason = str(error)
                self._changed()
                await self._s.timer.sleep(backoff.after(0))
            else:
                self.status.reason = ""
                return

    async def _fill(self) -> bool:
        """Bring every volume up to date; whether one changed."""
        values, objects = await self._values(self.spec.volume_values())
        changed = False
        for volume in self.spec.volumes:
            if volume.kind != "files":
                continue
            files: dict[str, tuple[bytes, int]] = {}
            for file in volume.files:
                content = file.content
                if isinstance(content, VaultValue):
                    files[file.path] = values[content], file.mode
                elif isinstance(content, Literal):
                    files[file.path] = content.content, file.mode
                elif isinstance(content, FieldReference):
                    files[file.path] = field_value(content.path, self.spec, self.status.name).encode(), file.mode
            for whole in volume.objects:
                members = objects[whole.whole].items()
                files.update({name: (text.encode(), volume.object_mode) for name, text in members if "/" not in name})
            directory = self._volume_directory(volume)
            tokens = [file for file in volume.files if isinstance(file.content, TokenProjection)]
            if files or not tokens:
                changed |= write_volume(directory, files)
            for file in tokens:
                self._project(directory / file.path, file.content)
        return changed

    def _project(self, file: Path, token: object) -> None:
        assert isinstance(token, TokenProjection)
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._s.tokens.project(
                file,
                self.spec.namespace,
                self.spec.service_account,
                audience=token.audience,
                lifetime=token.lifetime,
                pod=self.status.name,
            )

    async def _values(
        self, wanted: frozenset[VaultValue]
    ) -> tuple[dict[VaultValue, bytes], dict[VaultValue, Mapping[str, str]]]:
        order = sorted(wanted, key=lambda v: (v.vault, v.secret, v.property, v.encoding))
        found = await asyncio.gather(*(self._s.fetcher.fetch(value, self.spec.service_account) for value in order))
        values = dict(zip(order, found, strict=True))
        self._seen.update(values)
        wholes = {o.whole for v in self.spec.volumes for o in v.objects} | {
            variable.source.whole
            for c in (*self.spec.init_containers, *self.spec.containers)
            for variable in c.variables
            if isinstance(variable, VariablesOf)
        }
        objects: dict[VaultValue, Mapping[str, str]] = {
            whole: json_members(f"{whole.secret} in vault {whole.vault}", values[whole].decode("utf-8", "replace"))
            for whole in wholes
            if whole in values
        }
        return values, objects

    async def _refresh(self) -> None:
        """Ask again for what the manifests let change, as often as they say."""
        in_files = self.spec.volume_values()
        watched = in_files | (self.spec.environment_values() if self.spec.restart_on_secret_change else frozenset())
        asked = [v.refresh_seconds for v in watched if v.refresh_seconds != 0 and not v.version]
        if not asked:
            return
        every = max(self._s.shortest_refresh, min(DEFAULT_REFRESH if a is None else a for a in asked))
        while True:
            await self._s.timer.sleep(every)
            before = dict(self._seen)
            # A vault that does not answer now takes nothing away from what is there.
            with contextlib.suppress(KeyleafError):
                if await self._fill():
                    self._changed()
                if self.spec.restart_on_secret_change:
                    values, _ = await self._values(self.spec.environment_values())
                    if any(before.get(value, content) != content for value, content in values.items()):
                        self._restart.set()

    def _end(self, phase: str, reason: str) -> bool:
        self.status.phase = "succeeded" if phase == "succeeded" else "failed"
        self.status.reason = reason
        self._changed()
        return phase == "succeeded"


async def _all(tasks: list[asyncio.Task[int]]) -> list[int]:
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]
