"""Manifests to what runs locally. Pure: the same tree always gives the same specs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from keyleaf.runtime.containers import container_spec
from keyleaf.runtime.orchestrations import is_orchestration, orchestration_workload
from keyleaf.runtime.specs import ContainerSpec, NotRun, RunSpec, Service, Volume, WorkloadSpec
from keyleaf.runtime.values import NotRunnable, Values
from keyleaf.runtime.volumes import volume_spec
from keyleaf.runtime.yaml_shapes import at, integer, mapping, mappings, text
from keyleaf.tree.model import AppTree, Manifest

USES_WORKLOAD_IDENTITY = "azure.workload.identity/use"
RESTART_ANNOTATION = "keyleaf.dev/restart-on-secret-change"
DIRECTORY_ANNOTATION = "keyleaf.dev/working-directory"
_POD: Mapping[str, tuple[str, ...]] = {
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_ELSEWHERE: Mapping[str, str] = {
    "DaemonSet": "it runs once per node, and there are no nodes here",
    "Pod": "bare Pods are not run: use a Deployment or a Job",
    "ReplicaSet": "use the Deployment that makes it",
    "ReplicationController": "use a Deployment",
    "Rollout": "Argo Rollouts decides how it runs",
}


def run_spec(tree: AppTree, root: str) -> RunSpec:
    """What of ``tree`` runs on this machine, and what does not, with the reason.

    Args:
        root: directory that holds the tree's files, absolute.
    """
    values = Values(tree)
    workloads: list[WorkloadSpec] = []
    not_run: list[NotRun] = []
    for manifest in tree.manifests:
        if manifest.kind in _POD or is_orchestration(manifest):
            try:
                workloads.append(_workload(tree, manifest, values, root))
            except NotRunnable as reason:
                not_run.append(_not_run(manifest, str(reason)))
        elif manifest.kind in _ELSEWHERE:
            not_run.append(_not_run(manifest, _ELSEWHERE[manifest.kind]))
    return RunSpec(
        tuple(workloads),
        tuple(not_run),
        tuple(_services(tree)),
        tuple(tree.applications),
        {app.key: app.parent for app in tree.applications.values()},
    )


def _workload(tree: AppTree, manifest: Manifest, values: Values, root: str) -> WorkloadSpec:
    body = manifest.body
    if is_orchestration(manifest):
        annotations = _strings(at(body, "metadata", "annotations"))
        spec = orchestration_workload(tree, manifest, root, _directory(manifest, annotations, root))
        restarts = annotations.get(RESTART_ANNOTATION, "").lower() == "true"
        return replace(spec, annotations=annotations, restart_on_secret_change=restarts, vaults=_vaults(tree, manifest))
    job = at(body, "spec", "jobTemplate", "spec") if manifest.kind == "CronJob" else at(body, "spec")
    template = mapping(at(body, *_POD[manifest.kind]))
    pod = mapping(template.get("spec"))
    annotations = {
        **_strings(at(body, "metadata", "annotations")),
        **_strings(at(template, "metadata", "annotations")),
    }
    labels = _strings(at(template, "metadata", "labels"))
    directory = _directory(manifest, annotations, root)
    volumes = tuple(_volumes(manifest, pod, values))
    kinds = {volume.name for volume in volumes}
    runs: list[ContainerSpec] = []
    skipped: list[tuple[str, str]] = []
    for container in mappings(pod.get("containers")):
        try:
            runs.append(container_spec(container, manifest.namespace, values, directory, kinds))
        except NotRunnable as reason:
            skipped.append((text(container.get("name")), str(reason)))
    if not runs:
        raise NotRunnable("; ".join(dict.fromkeys(reason for _, reason in skipped)) or "it has no containers")
    first = tuple(
        container_spec(container, manifest.namespace, values, directory, kinds)
        for container in mappings(pod.get("initContainers"))
    )
    is_job = manifest.kind in ("Job", "CronJob")
    return WorkloadSpec(
        kind=manifest.kind,  # type: ignore[arg-type]
        name=manifest.name,
        namespace=manifest.namespace,
        application=manifest.application,
        where=manifest.where,
        service_account=text(pod.get("serviceAccountName")) or text(pod.get("serviceAccount")) or "default",
        identity=labels.get(USES_WORKLOAD_IDENTITY, "").lower() == "true",
        labels=labels,
        annotations=annotations,
        containers=tuple(runs),
        init_containers=first,
        volumes=volumes,
        replicas=1 if is_job else integer(at(body, "spec", "replicas"), 1),
        restart_policy=_restart_policy(pod, is_job),
        grace_seconds=integer(pod.get("terminationGracePeriodSeconds"), 30),
        wave=manifest.wave,
        backoff_limit=integer(mapping(job).get("backoffLimit"), 6),
        completions=integer(mapping(job).get("completions"), 1),
        schedule=text(at(body, "spec", "schedule")) if manifest.kind == "CronJob" else "",
        time_zone=text(at(body, "spec", "timeZone")),
        suspended=at(body, "spec", "suspend") is True or at(body, "spec", "paused") is True,
        concurrency=_concurrency(body),
        restart_on_secret_change=annotations.get(RESTART_ANNOTATION, "").lower() == "true",
        vaults=_vaults(tree, manifest),
        not_run=tuple(skipped),
    )


def _vaults(tree: AppTree, manifest: Manifest) -> tuple[str, ...]:
    """Vaults that its Application's programs ask themselves."""
    return tuple(
        sorted(
            {
                need.vault
                for need in tree.needs
                if need.application == manifest.application
                and need.delivery.form == "sdk"
                and isinstance(need.vault, str)
            }
        )
    )


def _volumes(manifest: Manifest, pod: Mapping[str, Any], values: Values) -> Iterator[Volume]:
    for volume in mappings(pod.get("volumes")):
        yield volume_spec(volume, manifest.namespace, values)
    for claim in mappings(at(manifest.body, "spec", "volumeClaimTemplates")):
        name = text(at(claim, "metadata", "name"))
        yield Volume(name, "persistent", claim=f"{name}-{manifest.name}")


def _directory(manifest: Manifest, annotations: Mapping[str, str], root: str) -> str:
    """The directory that stands for the image's: as annotated, else that of the manifest's file."""
    said = annotations.get(DIRECTORY_ANNOTATION)
    relative = PurePosixPath(said) if said is not None else PurePosixPath(manifest.where.file).parent
    if relative.is_absolute() or ".." in relative.parts:
        raise NotRunnable(f"the annotation {DIRECTORY_ANNOTATION} leaves the tree: {said}")
    return str(PurePosixPath(root) / relative)


def _services(tree: AppTree) -> Iterator[Service]:
    for manifest in tree.manifests:
        if manifest.kind == "Service" and manifest.api_version == "v1":
            selector = _strings(at(manifest.body, "spec", "selector"))
            ports = tuple(
                (integer(port.get("port"), 0), _target_port(port))
                for port in mappings(at(manifest.body, "spec", "ports"))
            )
            if selector:
                yield Service(manifest.name, manifest.namespace, selector, ports)


def _target_port(port: Mapping[str, Any]) -> int | str:
    target = port.get("targetPort", port.get("port"))
    return target if isinstance(target, int) else text(target)


def _restart_policy(pod: Mapping[str, Any], is_job: bool) -> Any:
    said = pod.get("restartPolicy")
    if is_job:
        return said if said in ("OnFailure", "Never") else "Never"
    return "Always"


def _concurrency(body: Mapping[str, Any]) -> Any:
    said = at(body, "spec", "concurrencyPolicy")
    return said if said in ("Forbid", "Replace") else "Allow"


def _not_run(manifest: Manifest, reason: str) -> NotRun:
    return NotRun(manifest.application, manifest.kind, manifest.name, manifest.namespace, manifest.where, reason)


def _strings(value: Any) -> dict[str, str]:
    return {str(key): text(item) for key, item in mapping(value).items()}
