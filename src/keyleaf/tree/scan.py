"""What stands in a tree before any Application is rendered: where its roots are looked for."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keyleaf.core.finding import Finding
from keyleaf.tree.files import below, normal
from keyleaf.tree.objects import Object, mapping, strings, text
from keyleaf.tree.repository import KUSTOMIZATIONS, Repository

_MANIFESTS = (".yaml", ".yml", ".json")
_LISTS = (
    "resources",
    "bases",
    "components",
    "crds",
    "patchesStrategicMerge",
    "configurations",
    "generators",
    "transformers",
)


@dataclass(frozen=True, slots=True)
class Scan:
    """The objects that stand plainly in files, kustomizations that no other one includes, and charts; by folder."""

    objects: Sequence[Object]
    kustomizations: Sequence[str]
    charts: Sequence[str]
    findings: Sequence[Finding]


def scan(repository: Repository) -> Scan:
    """Read every manifest below the folder that was asked for; charts and what kustomizations take in are left out."""
    paths = [path for path in repository.files.list(repository.base) if _visible(path, repository.base)]
    charts = {posixpath.dirname(path) for path in paths if posixpath.basename(path) == "Chart.yaml"}
    templates = tuple(normal(f"{chart}/{name}") + "/" for chart in charts for name in ("templates", "charts", "crds"))
    kustomizations = {posixpath.dirname(p): p for p in paths if posixpath.basename(p) in KUSTOMIZATIONS}
    taken: set[str] = set()
    included: set[str] = set()
    for folder, path in kustomizations.items():
        for name in kustomize_paths(repository, folder, path):
            (included if name in kustomizations else taken).add(name)
    objects: list[Object] = []
    findings: list[Finding] = []
    for path in paths:
        if not path.endswith(_MANIFESTS) or path in taken or posixpath.basename(path) in KUSTOMIZATIONS:
            continue
        if templates and path.startswith(templates):
            continue
        parsed = repository.parsed(path)
        objects.extend(parsed.objects)
        findings.extend(parsed.findings)
    return Scan(objects, sorted(set(kustomizations) - included), sorted(charts), findings)


def kustomize_paths(repository: Repository, folder: str, path: str) -> Iterator[str]:
    """The files and folders that a kustomization names, as paths in the repository; addresses are left out."""
    for document in repository.parsed(path).documents:
        body = mapping(document.value)
        named = [name for key in _LISTS for name in strings(body.get(key))]
        for key in ("patches", "patchesJson6902", "replacements"):
            named += [text(mapping(entry).get("path")) for entry in body.get(key) or () if entry]
        for name in named:
            if name and "\n" not in name and "://" not in name:
                yield normal(posixpath.join(folder, name))


def _visible(path: str, base: str) -> bool:
    inside = path[len(base) + 1 :] if base and below(path, base) else path
    return not any(part.startswith(".") for part in inside.split("/"))
