"""ServiceAccounts that workload identity may use, and the pods that run under them.

Source: https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keyleaf.tree.model import POD_TEMPLATES, Manifest, SecretNeed, ServiceAccount
from keyleaf.tree.objects import Object, items, mapping, text
from keyleaf.tree.placeholders import known

CLIENT_ID = "azure.workload.identity/client-id"
TENANT_ID = "azure.workload.identity/tenant-id"
CSI_DRIVER = "secrets-store.csi.k8s.io"


@dataclass(frozen=True, slots=True)
class Mount:
    """A pod template that mounts a SecretProviderClass, under a service account."""

    namespace: str
    provider_class: str
    service_account: str
    publishes_secret: bool


def pod_spec(source: Object) -> Mapping[str, Any]:
    """The pod spec of a workload; empty for anything else."""
    path = POD_TEMPLATES.get(source.kind)
    if path is None:
        return {}
    value: Any = source.body
    for step in path:
        value = mapping(value).get(step)
    return mapping(mapping(value).get("spec"))


def account_of(spec: Mapping[str, Any]) -> str:
    """The service account that a pod runs under."""
    return text(spec.get("serviceAccountName")) or text(spec.get("serviceAccount")) or "default"


def mounts(pairs: Iterable[tuple[Object, Manifest]]) -> Iterator[Mount]:
    """The SecretProviderClasses that pods mount."""
    for source, manifest in pairs:
        spec = pod_spec(source)
        for volume in items(spec.get("volumes")):
            csi = mapping(mapping(volume).get("csi"))
            name = text(mapping(csi.get("volumeAttributes")).get("secretProviderClass"))
            if csi.get("driver") == CSI_DRIVER and name:
                publishes = bool(mapping(csi.get("nodePublishSecretRef")))
                yield Mount(manifest.namespace, name, account_of(spec), publishes)


def service_accounts(
    pairs: Iterable[tuple[Object, Manifest]], needs: Iterable[SecretNeed]
) -> tuple[ServiceAccount, ...]:
    """The declared ServiceAccounts, then those that only a workload or a need names."""
    found: dict[tuple[str, str, str], ServiceAccount] = {}
    declared: set[tuple[str, str]] = set()
    pairs = list(pairs)
    for source, manifest in pairs:
        if source.kind == "ServiceAccount" and source.api_version == "v1":
            annotations = mapping(mapping(source.body.get("metadata")).get("annotations"))
            found[manifest.application, manifest.namespace, manifest.name] = ServiceAccount(
                manifest.name,
                manifest.namespace,
                manifest.application,
                source.where,
                known(annotations.get(CLIENT_ID)),
                known(annotations.get(TENANT_ID)),
            )
            declared.add((manifest.namespace, manifest.name))
    named = [
        (manifest.application, manifest.namespace, account_of(spec), source.where)
        for source, manifest in pairs
        if (spec := pod_spec(source))
    ]
    named += [(need.application, need.namespace, need.service_account, need.where) for need in needs]
    for application, namespace, name, where in named:
        if name and (namespace, name) not in declared:
            found.setdefault(
                (application, namespace, name), ServiceAccount(name, namespace, application, where, implicit=True)
            )
    return tuple(found.values())
