"""Rendering of a plain directory, as Argo CD does it.

Source: https://argo-cd.readthedocs.io/en/stable/user-guide/directory/
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any

from keyleaf.core.finding import Finding, Severity
from keyleaf.tree.applications import SourceSpec
from keyleaf.tree.globs import matches
from keyleaf.tree.objects import Object, flag, mapping, text
from keyleaf.tree.rendered import Rendered
from keyleaf.tree.repository import KUSTOMIZATIONS, Repository

_MANIFESTS = (".yaml", ".yml", ".json")


def render_directory(repository: Repository, folder: str, spec: SourceSpec) -> Rendered:
    """The objects in the files of ``folder``: not of its subfolders, unless ``directory.recurse`` says so."""
    options = mapping(spec.body.get("directory"))
    objects: list[Object] = []
    findings: list[Finding] = []
    jsonnet = ""
    for path in repository.files.list(folder):
        if not _chosen(path, folder, options):
            continue
        if path.endswith(".jsonnet"):
            jsonnet = path
            continue
        if not path.endswith(_MANIFESTS) or posixpath.basename(path) in KUSTOMIZATIONS:
            continue
        parsed = repository.parsed(path)
        objects.extend(parsed.objects)
        findings.extend(parsed.findings)
        known = {id(found.document) for found in parsed.objects}
        findings.extend(
            Finding(
                "not-an-object",
                Severity.WARNING,
                "this document is no Kubernetes object: it has no apiVersion and kind",
                "",
                document.where,
                "Argo CD would refuse the whole Application for it",
                "move the file out of the source's path, or exclude it with directory.exclude",
            )
            for document in parsed.documents
            if id(document) not in known and not (isinstance(document.value, Mapping) and "items" in document.value)
        )
    if not jsonnet:
        return Rendered("directory", objects, findings)
    reason = f"{repository.shown(jsonnet)} is Jsonnet, which keyleaf does not evaluate"
    return Rendered("directory", objects, findings, "not-rendered", reason)


def _chosen(path: str, folder: str, options: Mapping[str, Any]) -> bool:
    inside = path[len(folder) + 1 :] if folder else path
    if "/" in inside and not flag(options.get("recurse")):
        return False
    include, exclude = text(options.get("include")), text(options.get("exclude"))
    if exclude and matches(exclude, inside):
        return False
    return not include or matches(include, inside)
