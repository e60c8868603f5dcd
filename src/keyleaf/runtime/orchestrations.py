"""An Orchestration of the tree to the worker that runs it, as one more workload. Pure."""

from __future__ import annotations

import posixpath
import sys

from keyleaf.runtime.specs import ContainerSpec, FlowSpec, Port, Probe, Variable, WorkloadSpec
from keyleaf.runtime.values import Literal, NotRunnable, Value, VaultValue
from keyleaf.tree.model import AppTree, Manifest, Orchestration, Unknown
from keyleaf.tree.secrets_keyleaf import API_VERSION

# Ports below 1024 are never taken here as they are written: a free one stands for it.
_HEALTH = Port(80, "health")
_HEALTH_PATH = "/healthz"


def is_orchestration(manifest: Manifest) -> bool:
    """Whether it is keyleaf's own resource."""
    return manifest.kind == "Orchestration" and manifest.api_version == API_VERSION


def orchestration_workload(tree: AppTree, manifest: Manifest, root: str, directory: str) -> WorkloadSpec:
    """The worker of ``manifest``.

    Args:
        root: directory that holds the tree's files, absolute. ``directory``: where the worker runs.

    Raises:
        NotRunnable: something about it is wrong, or not known from Git.
    """
    found = _found(tree, manifest)
    vault = _known("vault", found.vault)
    account = found.service_account
    path = _known("path", found.path)
    flow = FlowSpec(
        found.module,
        posixpath.normpath(posixpath.join(root, path)) if path else "",
        vault,
        f"{vault}/{_known('payloadKey', found.payload_key)}",
        _known("orchestrator", found.orchestrator),
        f"{vault}/{name}" if (name := _known("orchestratorSecret", found.orchestrator_secret)) else "",
        found.owner or found.application,
    )
    # Values that are not the author's text: nothing in them is expanded.
    given: dict[str, Value] = {
        "KEYLEAF_APPLICATION": Literal(found.application.encode()),
        "KEYLEAF_OWNER": Literal(flow.owner.encode()),
        "KEYLEAF_FLOW": Literal(f"{found.namespace}/{found.name}".encode()),
        "KEYLEAF_PAYLOAD_KEY": Literal(flow.payload_key.encode()),
        "KEYLEAF_HEALTH_PORT": Literal(str(_HEALTH.number).encode()),
    }
    if flow.orchestrator:
        given["KEYLEAF_ORCHESTRATOR"] = Literal(flow.orchestrator.encode())
    elif name:
        given["KEYLEAF_ORCHESTRATOR"] = VaultValue(found.namespace, account, vault, name)
    variables = (
        *(Variable(name, value) for name, value in given.items()),
        *(Variable(name, text) for name, text in found.variables),
    )
    command = (sys.executable, "-m", "keyleaf.orchestrate", "--module", flow.module)
    worker = ContainerSpec(
        "worker",
        (*command, "--path", flow.path) if flow.path else command,
        directory,
        variables,
        ports=(_HEALTH,),
        readiness=Probe("http", port=_HEALTH.name, path=_HEALTH_PATH, period=5),
    )
    return WorkloadSpec(
        "Orchestration",
        found.name,
        found.namespace,
        found.application,
        manifest.where,
        account,
        identity=True,
        labels={},
        annotations={},
        containers=(worker,),
        replicas=found.replicas,
        wave=manifest.wave,
        vaults=(vault,),
        flow=flow,
    )


def _found(tree: AppTree, manifest: Manifest) -> Orchestration:
    if not manifest.application:
        raise NotRunnable("no Application renders it, so it has no identity")
    for one in tree.orchestrations:
        if (one.application, one.namespace, one.name, one.where) == (
            manifest.application,
            manifest.namespace,
            manifest.name,
            manifest.where,
        ):
            return one
    raise NotRunnable("something about it is wrong: its findings say what")


def _known(field: str, value: str | Unknown) -> str:
    if isinstance(value, Unknown):
        raise NotRunnable(f"spec.{field} is not known: {value.reason}")
    return value
