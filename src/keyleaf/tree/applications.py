"""Argo CD's Application, as declared: what it names, before anything is rendered.

Source: https://argo-cd.readthedocs.io/en/stable/operator-manual/application.yaml
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.model import SyncPolicy
from keyleaf.tree.objects import WAVE, Object, flag, items, mapping, strings, text, text_map
from keyleaf.tree.yamlsource import Step

_NOWHERE = Location("")
_WAVE = re.compile(r"[+-]?\d{1,9}\Z")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One entry of ``sources``, or ``source``: ``body`` is the whole of it, ``path_where`` where its path stands."""

    repo_url: str
    path: str
    revision: str
    chart: str
    ref: str
    body: Mapping[str, Any] = field(repr=False, hash=False)
    where: Location = _NOWHERE
    path_where: Location = _NOWHERE


@dataclass(frozen=True, slots=True)
class Declared:
    """An Application as declared, and the ApplicationSet that made it, if one did."""

    source: Object
    name: str
    namespace: str
    project: str
    sources: tuple[SourceSpec, ...]
    server: str
    destination_namespace: str
    destination_name: str
    sync_policy: SyncPolicy
    finalizers: tuple[str, ...]
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    wave: int
    generated_by: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.namespace, self.name


def is_application(source: Object) -> bool:
    """Whether it is an Argo CD Application (and not another product's)."""
    return source.kind == "Application" and source.api_version.startswith("argoproj.io/")


def is_application_set(source: Object) -> bool:
    """Whether it is an Argo CD ApplicationSet."""
    return source.kind == "ApplicationSet" and source.api_version.startswith("argoproj.io/")


def is_project(source: Object) -> bool:
    """Whether it is an Argo CD AppProject."""
    return source.kind == "AppProject" and source.api_version.startswith("argoproj.io/")


def declared(source: Object, namespace: str, generated_by: str = "") -> tuple[Declared, list[Finding]]:
    """Read an Application; ``namespace`` is where it lands if it does not say."""
    metadata, spec = mapping(source.body.get("metadata")), mapping(source.body.get("spec"))
    findings: list[Finding] = []
    label = source.name
    if not label:
        # What has no name is a patch or somebody's template: worth saying, and no reason to stop.
        nameless = _invalid(source, "an Application has no name", "metadata", fix="write metadata.name")
        findings.append(replace(nameless, severity=Severity.WARNING))
    elif not spec:
        findings.append(_invalid(source, f"{label} has no spec", "spec", fix="write spec.source and spec.destination"))
    sources = _sources(source, spec)
    if label and spec and not sources:
        findings.append(_invalid(source, f"{label} has no source", "spec", fix="write spec.source or spec.sources"))
    destination = mapping(spec.get("destination"))
    if destination.get("server") and destination.get("name"):
        findings.append(
            _invalid(
                source, f"{label} names its cluster twice", "spec", "destination", fix="keep destination.server or name"
            )
        )
    annotations = text_map(metadata.get("annotations"))
    if WAVE in annotations and not _WAVE.match(annotations[WAVE].strip()):
        findings.append(
            Finding(
                "sync-wave-invalid",
                Severity.WARNING,
                f"{label} has the sync wave {annotations[WAVE]!r}, which is no whole number",
                "",
                source.at("metadata", "annotations", WAVE),
                "it counts as wave 0",
                "write a whole number, in quotes",
            )
        )
    made = Declared(
        source,
        source.name,
        source.namespace or namespace,
        text(spec.get("project")) or "default",
        sources,
        text(destination.get("server")) or text(destination.get("name")),
        text(destination.get("namespace")),
        text(destination.get("name")),
        _sync_policy(mapping(spec.get("syncPolicy"))),
        strings(metadata.get("finalizers")),
        annotations,
        text_map(metadata.get("labels")),
        source.wave,
        generated_by,
    )
    return made, findings


def _sources(source: Object, spec: Mapping[str, Any]) -> tuple[SourceSpec, ...]:
    found: list[tuple[Any, tuple[Step, ...]]] = []
    listed = items(spec.get("sources"))
    if listed:
        found = [(entry, ("spec", "sources", index)) for index, entry in enumerate(listed)]
    elif mapping(spec.get("source")):
        found = [(spec["source"], ("spec", "source"))]
    # Hydrated manifests are rendered from the dry source: https://argo-cd.readthedocs.io/en/stable/user-guide/source-hydrator/
    elif dry := mapping(mapping(spec.get("sourceHydrator")).get("drySource")):
        found = [(dry, ("spec", "sourceHydrator", "drySource"))]
    return tuple(
        SourceSpec(
            text(entry.get("repoURL")),
            text(entry.get("path")),
            text(entry.get("targetRevision")),
            text(entry.get("chart")),
            text(entry.get("ref")),
            entry,
            source.at(*path),
            source.at(*path, "path"),
        )
        for entry, path in found
        if isinstance(entry, Mapping)
    )


def _sync_policy(policy: Mapping[str, Any]) -> SyncPolicy:
    automated = policy.get("automated")
    said = mapping(automated)
    limit = mapping(policy.get("retry")).get("limit")
    return SyncPolicy(
        isinstance(automated, Mapping) and said.get("enabled") is not False,
        flag(said.get("prune")),
        flag(said.get("selfHeal")),
        flag(said.get("allowEmpty")),
        strings(policy.get("syncOptions")),
        limit if isinstance(limit, int) and not isinstance(limit, bool) else None,
    )


def _invalid(source: Object, message: str, *path: Step, fix: str) -> Finding:
    return Finding(
        "application-invalid", Severity.ERROR, message, "", source.at(*path), "Argo CD would not render it", fix
    )
