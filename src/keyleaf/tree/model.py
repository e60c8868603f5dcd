"""What a tree of applications is made of: frozen data that the reader fills and plan, runtime and CLI consume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from keyleaf.core.finding import Finding
from keyleaf.core.location import Location

POD_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "ReplicationController": ("spec", "template"),
    "Job": ("spec", "template"),
    "Rollout": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
"""Where each kind of workload keeps its pod's template."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that Git alone cannot tell.

    Attributes:
        kind: ``unresolved`` (a ``${VAR}`` or placeholder), ``dynamic`` (a generator that asks the world), or ``remote``
            (lives in another repository or chart that was not read).
        text: what is written.
        reason: why it cannot be known, for a person.
    """

    kind: Literal["unresolved", "dynamic", "remote"]
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """One source of an Application, as written, and what became of it.

    Attributes:
        repo_url / path / revision / chart: as in the manifest; empty where absent.
        tool: how it is rendered.
        state: ``rendered``; ``not-rendered`` (the tool is missing or failed), or the kind of an Unknown.
        reason: why it was not rendered, empty otherwise.
    """

    repo_url: str
    path: str = ""
    revision: str = ""
    chart: str = ""
    ref: str = ""
    tool: Literal["directory", "kustomize", "helm", "plugin", "none"] = "none"
    state: Literal["rendered", "not-rendered", "unresolved", "dynamic", "remote"] = "rendered"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """``spec.syncPolicy`` of an Application; defaults are Argo CD's."""

    automated: bool = False
    prune: bool = False
    self_heal: bool = False
    allow_empty: bool = False
    options: tuple[str, ...] = ()
    retry_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """One Kubernetes object as rendered.

    Attributes:
        namespace: where it lands: its own, else the Application's destination namespace.
        body: the whole object, plain Python.
        application: key of the Application that it belongs to; empty for what no Application renders.
        wave: sync wave.
    """

    api_version: str
    kind: str
    name: str
    namespace: str
    body: Mapping[str, Any]
    where: Location
    application: str = ""
    wave: int = 0


@dataclass(frozen=True, slots=True)
class Application:
    """An Argo CD Application: a parent if what it renders holds Applications.

    Attributes:
        key: its name, or ``namespace/name`` outside the control-plane namespace: unique in the tree.
        parent: key of the Application that renders it; empty for a root.
        depth: 0 for a root.
        generated_by: name of the ApplicationSet that made it; empty otherwise.
        namespace: where the Application object itself lives; ``destination_namespace`` is where its objects land.
    """

    key: str
    name: str
    namespace: str
    project: str
    sources: tuple[Source, ...]
    destination_server: str
    destination_namespace: str
    where: Location
    parent: str = ""
    depth: int = 0
    wave: int = 0
    generated_by: str = ""
    sync_policy: SyncPolicy = SyncPolicy()
    finalizers: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A Kubernetes ServiceAccount that workload identity may use.

    Attributes:
        client_id / tenant_id: the ``azure.workload.identity/*`` annotations; empty where absent.
        implicit: named by a workload, SecretAccess or Orchestration, but no manifest declares it.
    """

    name: str
    namespace: str
    application: str
    where: Location
    client_id: str | Unknown = ""
    tenant_id: str | Unknown = ""
    implicit: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the value reaches the workload.

    Attributes:
        form: ``sdk`` (the app asks Key Vault itself), ``kubernetes-secret``, or ``file`` (CSI volume).
        target: name of the Kubernetes Secret or of the SecretProviderClass; empty for ``sdk``.
        key: key in that Secret, or file name in the volume. Empty: all keys (``dataFrom.extract``).
        property: JSON property taken out of the value; empty for the whole.
        encoding: ``utf-8``, ``base64`` or ``hex`` (objectEncoding / decodingStrategy).
        refresh_seconds: how often the manifest asks for it again; 0 never, None not said.
    """

    form: Literal["sdk", "kubernetes-secret", "file"]
    target: str = ""
    key: str = ""
    property: str = ""
    encoding: str = "utf-8"
    refresh_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class SecretNeed:
    """One declared need: this Application needs this secret, through this service account's identity.

    Attributes:
        vault: name of the vault (not its URL), or why it is not known.
        secret: name of the secret; ``find``-style declarations are Unknown("dynamic").
        object_type: ``secret``, ``key`` or ``cert``: certificates and keys are read as secrets where the tool does so.
        version: pinned version; empty takes the latest.
        service_account: name in ``namespace`` whose identity asks; empty if it is not workload identity.
        client_id: identity named by the manifest itself (SecretProviderClass ``clientID``, store ``identityId``).
        auth: how the manifest says that it authenticates.
        purpose: in the author's words (SecretAccess, Orchestration); empty otherwise.
        shared_service_account: ``namespace/name`` of the account that asks, where it stands in another namespace and
            serves every Application that uses its store; ``service_account`` is empty then.
        declared_by: kind and name of the declaring object, ``ExternalSecret/payments-db``.
        where: the line that names the secret.
    """

    application: str
    namespace: str
    vault: str | Unknown
    secret: str | Unknown
    delivery: Delivery
    declared_by: str
    where: Location
    object_type: Literal["secret", "key", "cert"] = "secret"
    version: str = ""
    service_account: str = ""
    client_id: str | Unknown = ""
    auth: Literal["workload-identity", "managed-identity", "service-principal", "unknown"] = "workload-identity"
    purpose: str = ""
    shared_service_account: str = ""


@dataclass(frozen=True, slots=True)
class SecretSeed:
    """A ``keyleaf.dev/v1alpha1 SecretSeed``: how a laptop's vault gets a first value that is never in Git.

    Attributes:
        generate: number of random bytes, written as URL-safe base64 into ``template`` in place of ``{random}``.
    """

    vault: str
    secret: str
    where: Location
    template: str = "{random}"
    generate: int = 24
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Orchestration:
    """A ``keyleaf.dev/v1alpha1 Orchestration``: the durable orchestrations of one Python module, and how they run.

    What it reads is among the tree's needs. One that has anything wrong is not here: its findings say what.

    Attributes:
        where: the object's first line.
        module: importable name of the module.
        path: folder that is put on the import path, relative to the tree's root; empty for none.
        payload_key: secret in ``vault`` whose value encrypts payloads at rest.
        orchestrator: URL of the engine, without a password; empty for a SQLite file of its own.
        orchestrator_secret: secret in ``vault`` whose value is that URL; empty for none.
        owner: who to call, in the author's words; empty for its Application.
        variables: (name, value) of further environment variables, in their order.
    """

    name: str
    namespace: str
    application: str
    where: Location
    module: str
    service_account: str
    vault: str | Unknown
    payload_key: str | Unknown
    path: str | Unknown = ""
    orchestrator: str | Unknown = ""
    orchestrator_secret: str | Unknown = ""
    replicas: int = 1
    purpose: str = ""
    owner: str = ""
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class AppTree:
    """The whole tree at one revision.

    Attributes:
        root: the path or URL that was read; ``revision`` its commit, empty for a plain directory.
        applications: by key, parents before children, then by sync wave and name.
        manifests: every rendered object that is not an Application, ApplicationSet or AppProject.
    """

    root: str
    revision: str
    applications: Mapping[str, Application]
    manifests: tuple[Manifest, ...]
    service_accounts: tuple[ServiceAccount, ...]
    needs: tuple[SecretNeed, ...]
    seeds: tuple[SecretSeed, ...]
    findings: tuple[Finding, ...]
    projects: Mapping[str, Manifest] = field(default_factory=dict)
    application_sets: tuple[Manifest, ...] = ()
    orchestrations: tuple[Orchestration, ...] = ()

    def children(self, key: str) -> tuple[Application, ...]:
        """The Applications that ``key`` renders; of ``""``, the roots."""
        return tuple(app for app in self.applications.values() if app.parent == key)

    def of(self, key: str) -> tuple[Manifest, ...]:
        """The objects that Application ``key`` renders, in sync-wave order."""
        return tuple(sorted((m for m in self.manifests if m.application == key), key=lambda m: m.wave))
