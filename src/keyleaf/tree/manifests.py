"""The objects of a tree in their order, each with the Application that owns it."""

from __future__ import annotations

from keyleaf.core.finding import Finding, Severity
from keyleaf.tree.growing import Grown
from keyleaf.tree.model import Manifest
from keyleaf.tree.objects import CLUSTER_SCOPED, Object

Pair = tuple[Object, Manifest]


def manifests_of(grown: Grown) -> tuple[list[Pair], list[Finding]]:
    """Every object with its Manifest; of one that several sources of an Application hold, the last one counts."""
    pairs: list[Pair] = []
    findings: list[Finding] = []
    owners: dict[tuple[str, str, str, str], Pair] = {}
    for node in grown.nodes:
        mine: dict[tuple[str, str, str, str], Pair] = {}
        for _, outcome in node.rendered:
            for one in outcome.objects:
                manifest = _manifest(one, node.app.destination_namespace, node.key)
                if not manifest.name:
                    findings.append(_unnamed(manifest))
                    continue
                identity = (one.group, one.kind, manifest.namespace, manifest.name)
                before = mine.get(identity)
                generated = "name" not in one.body.get("metadata", {})
                if before is not None and not generated:
                    findings.append(_repeated(before[1], manifest))
                    del mine[identity]
                mine[(*identity[:3], f"{identity[3]}#{len(mine)}") if generated else identity] = (one, manifest)
        for identity, pair in mine.items():
            other = owners.setdefault(identity, pair)
            if other[1].application != pair[1].application:
                findings.append(_shared(other[1], pair[1]))
        pairs.extend(mine.values())
    for one in grown.loose:
        manifest = _manifest(one, "", "")
        if manifest.name:
            pairs.append((one, manifest))
    return pairs, findings


def _manifest(one: Object, namespace: str, application: str) -> Manifest:
    lands = "" if one.kind in CLUSTER_SCOPED else one.namespace or namespace
    return Manifest(one.api_version, one.kind, one.name, lands, one.body, one.where, application, one.wave)


def _unnamed(manifest: Manifest) -> Finding:
    return Finding(
        "object-without-name",
        Severity.ERROR,
        f"a {manifest.kind} has no name",
        manifest.application,
        manifest.where,
        "the cluster would refuse it",
        "write metadata.name",
    )


def _repeated(first: Manifest, second: Manifest) -> Finding:
    return Finding(
        "object-repeated",
        Severity.WARNING,
        f"{second.kind}/{second.name} stands twice in one Application; the first at {first.where} does not count",
        second.application,
        second.where,
        "the last one wins, as in Argo CD",
        "remove one of them",
    )


def _shared(first: Manifest, second: Manifest) -> Finding:
    return Finding(
        "object-shared",
        Severity.WARNING,
        f"{second.kind}/{second.name} belongs to {first.application} and to {second.application}",
        second.application,
        second.where,
        f"both overwrite it in turn; the other one stands at {first.where}",
        "leave it to one Application",
    )
