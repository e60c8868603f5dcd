"""How Secrets reach the pods: references that nothing fulfils, found before a pod hangs in its start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keyleaf.core.finding import Finding, Severity
from keyleaf.plan.producers import CSI_DRIVER, SecretProducers, mounted_provider_classes
from keyleaf.plan.workloads import Workload, mapping, mappings, workloads
from keyleaf.tree.model import AppTree


@dataclass(frozen=True, slots=True)
class Reference:
    """One place where a pod asks for a Kubernetes Secret; ``key`` is empty where the whole Secret is meant."""

    how: str
    secret: str
    key: str
    optional: bool


def wiring_findings(tree: AppTree) -> Iterator[Finding]:
    """What the pods of ``tree`` refer to and nobody creates.

    While part of the tree could not be rendered, its objects may be what is missing: then these are warnings.
    """
    found = tuple(workloads(tree))
    mounted = mounted_provider_classes(found)
    producers = SecretProducers(tree, frozenset(mounted))
    unread = sorted(
        app.key for app in tree.applications.values() if any(source.state != "rendered" for source in app.sources)
    )
    severity = Severity.WARNING if unread else Severity.ERROR
    unless = f"; not read: {', '.join(unread[:5])}" if unread else ""
    for workload in found:
        seen: set[tuple[str, str]] = set()
        for reference in references(workload):
            if reference.optional or (reference.secret, reference.key) in seen:
                continue
            seen.add((reference.secret, reference.key))
            finding = _check(workload, reference, producers, severity, unless)
            if finding is not None:
                yield finding
    classes = {(m.namespace, m.name) for m in tree.manifests if m.kind == "SecretProviderClass"}
    for (namespace, name), users in mounted.items():
        if (namespace, name) not in classes:
            manifest = users[0].manifest
            yield Finding(
                "secret-provider-class-missing",
                severity,
                f"{users[0].name} mounts the SecretProviderClass {name!r}, which nobody creates in {namespace!r}",
                manifest.application,
                manifest.where,
                f"a volume of the driver {CSI_DRIVER} names it{unless}",
                f"add a SecretProviderClass {name!r} in namespace {namespace!r}, or correct the name",
            )


def references(workload: Workload) -> Iterator[Reference]:
    """Every place where the pods of ``workload`` ask for a Secret."""
    for container in workload.containers():
        place = f"container {container.get('name', '')}"
        for variable in mappings(container.get("env")):
            source = mapping(mapping(variable.get("valueFrom")).get("secretKeyRef"))
            if isinstance(source.get("name"), str):
                how = f"{place}, env {variable.get('name', '')}, secretKeyRef"
                yield Reference(how, source["name"], str(source.get("key", "")), source.get("optional") is True)
        for variables in mappings(container.get("envFrom")):
            source = mapping(variables.get("secretRef"))
            if isinstance(source.get("name"), str):
                yield Reference(f"{place}, envFrom", source["name"], "", source.get("optional") is True)
    for volume in mappings(workload.spec.get("volumes")):
        place = f"volume {volume.get('name', '')}"
        yield from _volume(place, mapping(volume.get("secret")), "secretName")
        for source in mappings(mapping(volume.get("projected")).get("sources")):
            yield from _volume(f"projected {place}", mapping(source.get("secret")), "name")


def _volume(place: str, source: object, name: str) -> Iterator[Reference]:
    volume = mapping(source)
    secret = volume.get(name)
    if isinstance(secret, str):
        optional = volume.get("optional") is True
        items = [str(item.get("key")) for item in mappings(volume.get("items")) if item.get("key")]
        for key in items or [""]:
            yield Reference(place, secret, key, optional)


def _check(
    workload: Workload, reference: Reference, producers: SecretProducers, severity: Severity, unless: str
) -> Finding | None:
    manifest = workload.manifest
    created = producers.of(manifest.namespace, reference.secret)
    if not created:
        unmounted = producers.unmounted(manifest.namespace, reference.secret)
        if unmounted is not None:
            cause = f"SecretProviderClass/{unmounted.name} ({unmounted.where}) syncs it only while a pod mounts it"
            fix = f"mount SecretProviderClass {unmounted.name!r} as a CSI volume in {workload.name}"
        else:
            cause = f"no Secret, ExternalSecret or SecretProviderClass of the tree creates it{unless}"
            fix = (
                f"add an ExternalSecret with target {reference.secret!r} in namespace {manifest.namespace!r}, "
                "or mark the reference optional: true"
            )
        return Finding(
            "kubernetes-secret-missing",
            severity,
            f"{workload.name} needs the Secret {reference.secret!r} ({reference.how}), which nobody creates in "
            f"{manifest.namespace!r}",
            manifest.application,
            manifest.where,
            cause,
            fix,
        )
    if reference.key and all(p.keys is not None and reference.key not in p.keys for p in created):
        known = sorted(set().union(*(p.keys or () for p in created)))
        return Finding(
            "kubernetes-secret-key-missing",
            severity,
            f"{workload.name} needs the key {reference.key!r} of the Secret {reference.secret!r} ({reference.how}), "
            "which nobody creates",
            manifest.application,
            manifest.where,
            f"{created[0].by} ({created[0].manifest.where}) creates only: {', '.join(known) or 'no keys'}",
            f"add the key {reference.key!r} to {created[0].by}, or correct the reference",
        )
    return None
