"""AppProject: what an Application of a project may read from, write to and create.

Source: https://argo-cd.readthedocs.io/en/stable/user-guide/projects/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from keyleaf.core.finding import Finding, Severity
from keyleaf.tree.applications import Declared
from keyleaf.tree.globs import matches
from keyleaf.tree.model import Manifest, Unknown
from keyleaf.tree.objects import CLUSTER_SCOPED, items, mapping, strings, text
from keyleaf.tree.placeholders import known
from keyleaf.tree.repository import normal_url, without_credentials

_LOCAL = {"https://kubernetes.default.svc": "in-cluster"}


def check_project(app: Declared, key: str, project: Manifest | None, made: Iterable[Manifest]) -> Iterator[Finding]:
    """What Argo CD would refuse because ``app``'s project does not allow it."""
    if project is None:
        if app.project != "default":
            yield Finding(
                "project-missing",
                Severity.NOTE,
                f"{app.name} belongs to the AppProject {app.project!r}, which is not in this tree",
                key,
                app.source.at("spec", "project"),
                "what the project allows cannot be checked",
                "commit the AppProject to the tree",
            )
        return
    spec = mapping(project.body.get("spec"))
    for source in app.sources:
        if _unsure((source.repo_url, *strings(spec.get("sourceRepos")))):
            continue
        if not allowed(strings(spec.get("sourceRepos")), source.repo_url, _same_repository):
            yield Finding(
                "project-forbids-source",
                Severity.ERROR,
                f"the AppProject {project.name!r} does not allow {without_credentials(source.repo_url)!r}",
                key,
                source.where,
                f"spec.sourceRepos at {project.where} does not list it",
                "add the repository to spec.sourceRepos, or use another project",
            )
    if not _unsure((app.server, app.destination_namespace)) and not _destination_allowed(spec, app):
        yield Finding(
            "project-forbids-destination",
            Severity.ERROR,
            f"the AppProject {project.name!r} does not allow namespace {app.destination_namespace!r} on {app.server!r}",
            key,
            app.source.at("spec", "destination"),
            f"spec.destinations at {project.where} does not list it",
            "add the destination to spec.destinations, or use another project",
        )
    for manifest in made:
        if not _kind_allowed(spec, manifest):
            yield Finding(
                "project-forbids-kind",
                Severity.ERROR,
                f"the AppProject {project.name!r} does not allow {manifest.kind}/{manifest.name}",
                key,
                manifest.where,
                f"its lists of resources at {project.where} leave {manifest.kind} out",
                "allow the kind in the project, or take the object out of the Application",
            )


def allowed(patterns: Iterable[str], value: str, fits: Any) -> bool:
    """Whether a list with wildcards and ``!`` exceptions allows ``value``."""
    listed = list(patterns)
    if any(pattern.startswith("!") and fits(pattern[1:], value) for pattern in listed):
        return False
    return any(not pattern.startswith("!") and fits(pattern, value) for pattern in listed)


def _unsure(texts: Iterable[str]) -> bool:
    """Whether one of them is filled in elsewhere, so that nothing can be said."""
    return any(isinstance(known(text), Unknown) for text in texts)


def _same_repository(pattern: str, value: str) -> bool:
    return pattern == "*" or matches(normal_url(pattern), normal_url(value), separator="/")


def _destination_allowed(spec: Mapping[str, Any], app: Declared) -> bool:
    granted = False
    for entry in items(spec.get("destinations")):
        server, name = text(mapping(entry).get("server")), text(mapping(entry).get("name"))
        namespace = text(mapping(entry).get("namespace"))
        denied = server.startswith("!") or namespace.startswith("!") or name.startswith("!")
        cluster = _cluster_fits(server.removeprefix("!"), name.removeprefix("!"), app)
        there = matches(namespace.removeprefix("!") or "*", app.destination_namespace)
        if denied:
            # A denied cluster denies all of it; a denied namespace only where the cluster fits too.
            if cluster and there:
                return False
            continue
        granted = granted or (cluster and there)
    return granted


def _cluster_fits(server: str, name: str, app: Declared) -> bool:
    names = {app.server, _LOCAL.get(app.server, app.server)} | {k for k, v in _LOCAL.items() if v == app.server}
    return any(pattern and any(matches(pattern, one) for one in names) for pattern in (server, name))


def _kind_allowed(spec: Mapping[str, Any], manifest: Manifest) -> bool:
    group = manifest.api_version.rpartition("/")[0]
    if manifest.kind in CLUSTER_SCOPED:
        return _listed(spec.get("clusterResourceWhitelist"), group, manifest) and not _listed(
            spec.get("clusterResourceBlacklist"), group, manifest
        )
    if "namespaceResourceWhitelist" in spec and not _listed(spec["namespaceResourceWhitelist"], group, manifest):
        return False
    return not _listed(spec.get("namespaceResourceBlacklist"), group, manifest)


def _listed(entries: Any, group: str, manifest: Manifest) -> bool:
    return any(
        matches(text(mapping(entry).get("group")), group)
        and matches(text(mapping(entry).get("kind")), manifest.kind)
        and (not mapping(entry).get("name") or matches(text(mapping(entry)["name"]), manifest.name))
        for entry in items(entries)
    )
