"""The pods that a tree declares: where each kind of workload keeps its template; and what else signs in like one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keyleaf.tree.model import POD_TEMPLATES, AppTree, Manifest
from keyleaf.tree.secrets_keyleaf import API_VERSION

USES_WORKLOAD_IDENTITY = "azure.workload.identity/use"


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload and its pod: ``service_account`` is ``default`` where the pod names none."""

    manifest: Manifest
    spec: Mapping[str, Any]
    labels: Mapping[str, Any]
    service_account: str

    @property
    def name(self) -> str:
        """``Deployment/payments``."""
        return f"{self.manifest.kind}/{self.manifest.name}"

    @property
    def uses_workload_identity(self) -> bool:
        """Whether its pods carry the label that Azure's webhook looks for.

        Rule: https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
        """
        return str(self.labels.get(USES_WORKLOAD_IDENTITY, "")).lower() == "true"

    def containers(self) -> Iterator[Mapping[str, Any]]:
        """Its containers, those that start first first."""
        for key in ("initContainers", "containers", "ephemeralContainers"):
            yield from mappings(self.spec.get(key))


def workloads(tree: AppTree) -> Iterator[Workload]:
    """Every workload of the tree whose pod template can be read."""
    for manifest in tree.manifests:
        path = POD_TEMPLATES.get(manifest.kind)
        if path is None:
            continue
        template: Any = manifest.body
        for key in path:
            template = mapping(template).get(key)
        spec = mapping(mapping(template).get("spec"))
        if spec:
            named = spec.get("serviceAccountName") or spec.get("serviceAccount")
            yield Workload(
                manifest,
                spec,
                mapping(mapping(mapping(template).get("metadata")).get("labels")),
                named if isinstance(named, str) else "default",
            )


def orchestrations(tree: AppTree) -> Iterator[Workload]:
    """Every Orchestration: it has no pod template, and always signs in by workload identity."""
    for manifest in tree.manifests:
        if manifest.kind == "Orchestration" and manifest.api_version == API_VERSION:
            named = mapping(manifest.body.get("spec")).get("serviceAccountName")
            account = named if isinstance(named, str) and named else "default"
            yield Workload(manifest, {}, {USES_WORKLOAD_IDENTITY: "true"}, account)


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one: manifests are read as they are written."""
    return value if isinstance(value, Mapping) else {}


def mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings in ``value`` if it is a list."""
    if isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Mapping))
