"""What runs locally, as frozen data: equal specs mean that nothing has to restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal as Choice

from keyleaf.core.location import Location
from keyleaf.runtime.values import Literal, Value, VaultObject, VaultValue


@dataclass(frozen=True, slots=True)
class FieldReference:
    """A field of the pod that only its start decides (the downward API), for example ``metadata.name``."""

    path: str


@dataclass(frozen=True, slots=True)
class TokenProjection:
    """A projected service account token, refreshed before it expires. ``lifetime`` in seconds."""

    audience: str
    lifetime: float


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: text in which ``$(NAME)`` is expanded, a value, or a field of the pod."""

    name: str
    value: str | Value | FieldReference


@dataclass(frozen=True, slots=True)
class VariablesOf:
    """Every member of a secret's JSON object, as variables with ``prefix``."""

    prefix: str
    source: VaultObject


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe of a container; times in seconds.

    Rules and defaults: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
    """

    kind: Choice["exec", "http", "tcp"]
    command: tuple[str, ...] = ()
    port: int | str = 0
    path: str = "/"
    scheme: str = "http"
    headers: tuple[tuple[str, str], ...] = ()
    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True, slots=True)
class VolumeFile:
    """One file of a volume: relative path, where its content comes from, and its mode."""

    path: str
    content: Value | FieldReference | TokenProjection
    mode: int


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume of a pod.

    Attributes:
        kind: ``files`` is filled by keyleaf and swapped as a whole; ``empty`` lives as long as the pod; ``persistent``
            outlives it, and is shared by the pods of a namespace that name the same ``claim``.
        objects: secrets whose JSON members become files.
    """

    name: str
    kind: Choice["files", "empty", "persistent"]
    files: tuple[VolumeFile, ...] = ()
    objects: tuple[VaultObject, ...] = ()
    object_mode: int = 0o440
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """Where a container sees a volume, or ``sub_path`` of it."""

    volume: str
    path: str
    sub_path: str = ""


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container listens on."""

    number: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container that runs as a process. ``argv`` and ``variables`` are as written: expanded only at its start."""

    name: str
    argv: tuple[str, ...]
    working_directory: str
    variables: tuple[Variable | VariablesOf, ...] = ()
    mounts: tuple[Mount, ...] = ()
    ports: tuple[Port, ...] = ()
    liveness: Probe | None = None
    readiness: Probe | None = None
    startup: Probe | None = None

    def texts(self) -> tuple[str, ...]:
        """The text of the manifest in which addresses and paths are replaced."""
        said = [v.value for v in self.variables if isinstance(v, Variable)]
        plain = [v for v in said if isinstance(v, str)]
        public = [v.content.decode("utf-8", "replace") for v in said if isinstance(v, Literal) and not v.private]
        return (*self.argv, *plain, *public)


@dataclass(frozen=True, slots=True)
class FlowSpec:
    """What makes a workload the worker of an Orchestration. Secrets are ``vault/name``.

    Attributes:
        path: folder on the import path, absolute; empty for none.
        orchestrator: URL of the engine as written; empty for a SQLite file of its own, or if ``orchestrator_secret``
            holds it.
        vault: the one that a secret's name means which names no vault.
    """

    module: str
    path: str
    vault: str
    payload_key: str
    orchestrator: str = ""
    orchestrator_secret: str = ""
    owner: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """A Deployment, StatefulSet, Job, CronJob or Orchestration that runs here.

    Attributes:
        application: key of the Application that renders it; ``wave`` its sync wave in there.
        identity: whether its pods ask for a workload identity's token.
        backoff_limit: how often a Job's pod may fail; ``completions`` how often it has to succeed.
        schedule: cron expression of a CronJob, in ``time_zone`` (UTC if empty).
        restart_on_secret_change: whether a new version of a secret in its environment restarts it.
        not_run: containers that do not run here, with the reason.
        flow: set for an Orchestration.
    """

    kind: Choice["Deployment", "StatefulSet", "Job", "CronJob", "Orchestration"]
    name: str
    namespace: str
    application: str
    where: Location = field(compare=False)
    service_account: str
    identity: bool
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    containers: tuple[ContainerSpec, ...]
    init_containers: tuple[ContainerSpec, ...] = ()
    volumes: tuple[Volume, ...] = ()
    replicas: int = 1
    restart_policy: Choice["Always", "OnFailure", "Never"] = "Always"
    grace_seconds: float = 30
    wave: int = 0
    backoff_limit: int = 6
    completions: int = 1
    schedule: str = ""
    time_zone: str = ""
    suspended: bool = False
    concurrency: Choice["Allow", "Forbid", "Replace"] = "Allow"
    restart_on_secret_change: bool = False
    vaults: tuple[str, ...] = ()
    not_run: tuple[tuple[str, str], ...] = ()
    flow: FlowSpec | None = None

    @property
    def key(self) -> str:
        """Unique in a tree: ``application/Kind/namespace/name``."""
        return f"{self.application}/{self.kind}/{self.namespace}/{self.name}"

    def environment_values(self) -> frozenset[VaultValue]:
        """The vault values that its processes have in their environment."""
        found: set[VaultValue] = set()
        for container in (*self.init_containers, *self.containers):
            for variable in container.variables:
                if isinstance(variable, VariablesOf):
                    found.add(variable.source.whole)
                elif isinstance(variable.value, VaultValue):
                    found.add(variable.value)
        return frozenset(found)

    def volume_values(self) -> frozenset[VaultValue]:
        """The vault values that its volumes hold."""
        files = {f.content for v in self.volumes for f in v.files if isinstance(f.content, VaultValue)}
        return frozenset(files | {o.whole for v in self.volumes for o in v.objects})


@dataclass(frozen=True, slots=True)
class NotRun:
    """Something that a cluster would run and this machine does not, with the reason."""

    application: str
    kind: str
    name: str
    namespace: str
    where: Location
    reason: str


@dataclass(frozen=True, slots=True)
class Service:
    """A Kubernetes Service: ``ports`` maps its port to the number or name of the pods' port."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    ports: tuple[tuple[int, int | str], ...]


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that runs of one tree.

    Attributes:
        order: Application keys, parents before children; ``parents`` by key, empty for a root.
    """

    workloads: tuple[WorkloadSpec, ...]
    not_run: tuple[NotRun, ...]
    services: tuple[Service, ...]
    order: tuple[str, ...]
    parents: Mapping[str, str]
