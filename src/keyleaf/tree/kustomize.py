"""Kustomize sources: built by the user's own tool, or read directly where they only list resources.

Source: https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/ and
https://argo-cd.readthedocs.io/en/stable/user-guide/kustomize/
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keyleaf.core.errors import InputError
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.files import normal
from keyleaf.tree.objects import Object, items, mapping, object_of, objects_in, strings, text, text_map
from keyleaf.tree.rendered import Rendered
from keyleaf.tree.repository import Repository
from keyleaf.tree.tools import Tools
from keyleaf.tree.yamlsource import parse

_INCLUDES = ("resources", "bases", "components")
_ONLY_LISTS = frozenset({"apiVersion", "kind", "metadata", "resources", "bases", "sortOptions"})
_ORIGIN = "config.kubernetes.io/origin"
_ADDRESS = re.compile(r"^[a-z+]+://|^[\w.-]+@[\w.-]+:|^(?:[\w-]+\.)+[a-z]{2,}/|\?ref=|^git::")
_DEEPEST = 32


@dataclass
class _Closure:
    """Everything that a build reads: files by path, kustomizations by folder, and what is out of reach."""

    files: dict[str, bytes] = field(default_factory=dict)
    bodies: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    remote: list[tuple[str, Location]] = field(default_factory=list)
    missing: list[tuple[str, Location]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def render_kustomize(repository: Repository, folder: str, options: Mapping[str, Any], tools: Tools) -> Rendered:
    """The objects of a kustomization, as ``options`` of the Application change it.

    What lives elsewhere (addresses among the resources, Helm charts to be downloaded) is left out and named; the rest
    is still built.
    """
    path = repository.kustomization(folder)
    if not path:
        reason = f"there is no kustomization.yaml in {repository.shown(folder) or '.'}"
        return Rendered("kustomize", (), (), "not-rendered", reason)
    closure = _Closure()
    _collect(repository, folder, closure, 0)
    if folder not in closure.bodies:
        return Rendered("kustomize", (), closure.findings, "not-rendered", f"{repository.shown(path)} cannot be read")
    elsewhere = ", ".join(dict.fromkeys(name for name, _ in closure.remote))
    state, reason = ("remote", f"it builds on {elsewhere}, which is not read") if elsewhere else ("rendered", "")
    if closure.missing:
        name, where = closure.missing[0]
        closure.findings.append(
            Finding(
                "source-path-missing",
                Severity.ERROR,
                f"the kustomization names {name!r}, which does not exist",
                "",
                where,
                "the whole source cannot be built",
                "correct the path, or commit the file",
            )
        )
        return Rendered("kustomize", (), closure.findings, "not-rendered", f"{name!r} in {where.file} does not exist")
    if not options and all(set(body) <= _ONLY_LISTS for _, body in closure.bodies.values()):
        objects = list(_listed(repository, folder, closure, set()))
        return Rendered("kustomize", objects, closure.findings, state, reason)  # type: ignore[arg-type]
    if not tools.kustomize:
        return Rendered("kustomize", (), closure.findings, "not-rendered", "neither kustomize nor kubectl is on PATH")
    main, body = closure.bodies[folder]
    body = _with_options(body, options)
    body["buildMetadata"] = sorted({*strings(body.get("buildMetadata")), "originAnnotations"})
    files = {**closure.files, main: json.dumps(body).encode()}
    result = tools.run([*tools.kustomize, "."], files, folder)
    if result.problem:
        return Rendered("kustomize", (), closure.findings, "not-rendered", result.problem)
    objects = list(_built(repository, folder, main, result.output, closure))
    return Rendered("kustomize", objects, closure.findings, state, reason)  # type: ignore[arg-type]


def _collect(repository: Repository, folder: str, closure: _Closure, depth: int) -> None:
    path = repository.kustomization(folder)
    if folder in closure.bodies or not path:
        return
    parsed = repository.parsed(path)
    closure.findings.extend(parsed.findings)
    if not parsed.documents or not isinstance(parsed.documents[0].value, dict):
        return
    document = parsed.documents[0]
    body: dict[str, Any] = dict(document.value)
    closure.bodies[folder] = (path, body)
    for key in _INCLUDES:
        kept = []
        for index, name in enumerate(strings(body.get(key))):
            target = _inside(folder, name)
            if target is not None and repository.exists(target):
                kept.append(name)
                if depth < _DEEPEST:
                    _collect(repository, target, closure, depth + 1)
            elif target is not None and repository.has(target):
                kept.append(name)
            elif _ADDRESS.search(name):
                closure.remote.append((name, document.locate(key, index)))
            else:
                closure.missing.append((name, document.locate(key, index)))
        if key in body:
            body[key] = kept
    for key in ("helmCharts", "helmChartInflationGenerator"):
        for index, chart in enumerate(items(body.pop(key, None))):
            name = text(mapping(chart).get("name") or mapping(chart).get("chartName"))
            closure.remote.append((f"the Helm chart {name}", document.locate(key, index)))
    for name in _texts({key: value for key, value in body.items() if key not in _INCLUDES}):
        _take(repository, folder, name, closure)
    for key in _INCLUDES:
        for name in strings(body.get(key)):
            _take(repository, folder, name, closure)
    closure.files[path] = json.dumps(body).encode()


def _take(repository: Repository, folder: str, name: str, closure: _Closure) -> None:
    """Copy the file that ``name`` means, if it is one."""
    for part in dict.fromkeys((name, name.partition("=")[2])):
        target = _inside(folder, part)
        if target and target not in closure.files and repository.has(target):
            try:
                closure.files[target] = repository.files.read(target)
            except InputError as error:
                where = Location(repository.shown(target))
                closure.findings.append(
                    Finding(
                        "file-unreadable", Severity.ERROR, error.message, "", where, "", "mend the link or the file"
                    )
                )


def _inside(folder: str, name: str) -> str | None:
    if not name or "\n" in name or "://" in name or len(name) > 1024 or name.startswith("/"):
        return None
    target = normal(posixpath.join(folder, name))
    return None if target.startswith("..") else target


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _listed(repository: Repository, folder: str, closure: _Closure, seen: set[str]) -> Iterator[Object]:
    """The resources of kustomizations that change nothing: exactly what stands in the files."""
    if folder in seen or folder not in closure.bodies:
        return
    seen.add(folder)
    body = closure.bodies[folder][1]
    for name in (*strings(body.get("resources")), *strings(body.get("bases"))):
        target = _inside(folder, name) or ""
        if target in closure.bodies:
            yield from _listed(repository, target, closure, seen)
        elif repository.has(target):
            parsed = repository.parsed(target)
            closure.findings.extend(parsed.findings)
            yield from parsed.objects


def _with_options(body: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``kustomize edit`` does to the kustomization on Argo CD's behalf."""
    made = dict(body)
    for key in ("namePrefix", "nameSuffix", "namespace"):
        if options.get(key):
            made[key] = options[key]
    for key in ("commonLabels", "commonAnnotations"):
        if options.get(key):
            made[key] = {**text_map(body.get(key)), **text_map(options[key])}
    for key in ("patches", "components"):
        if options.get(key):
            made[key] = [*items(body.get(key)), *items(options[key])]
    images = {text(mapping(image).get("name")): image for image in items(body.get("images"))}
    for override in strings(options.get("images")):
        image = _image(override)
        images[image["name"]] = image
    if images:
        made["images"] = list(images.values())
    replicas = {text(mapping(entry).get("name")): entry for entry in items(body.get("replicas"))}
    for entry in items(options.get("replicas")):
        name, count = text(mapping(entry).get("name")), text(mapping(entry).get("count"))
        if name and count.isdigit():
            replicas[name] = {"name": name, "count": int(count)}
    if replicas:
        made["replicas"] = list(replicas.values())
    return made


def _image(override: str) -> dict[str, str]:
    name, renamed, rest = override.partition("=")
    target = rest if renamed else name
    target, _, digest = target.partition("@")
    repository, colon, tag = target.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = target, ""
    made = {"name": name if renamed else repository}
    if renamed:
        made["newName"] = repository
    if digest:
        made["digest"] = digest
    elif tag:
        made["newTag"] = tag
    return made


def _built(repository: Repository, folder: str, main: str, output: bytes, closure: _Closure) -> Iterator[Object]:
    """The built objects, each with the place that it came from: the tool says from which file, the name which part."""
    documents, findings = parse(output, repository.shown(main))
    closure.findings.extend(replace(finding, where=Location(repository.shown(main))) for finding in findings)
    texts = tuple(
        (repository.shown(name), closure.files[name].decode("utf-8", "replace"))
        for name in closure.files
        if name not in {path for path, _ in closure.bodies.values()}
    )
    for document in documents:
        for built in objects_in(document):
            metadata = dict(mapping(built.body.get("metadata")))
            annotations = dict(mapping(metadata.get("annotations")))
            origin = text(annotations.pop(_ORIGIN, ""))
            metadata["annotations"] = annotations
            if not annotations:
                del metadata["annotations"]
            body = {**built.body, "metadata": metadata}
            found = _origin(repository, folder, origin, built)
            place = Location(repository.shown(main), 1)
            if found is None:
                yield replace(object_of(body, None, place=place), texts=texts)
            else:
                yield replace(object_of(body, found.document, found.path, exact=False), texts=texts)


def _origin(repository: Repository, folder: str, origin: str, built: Object) -> Object | None:
    path = re.search(r"^path: (.+)$", origin, re.MULTILINE)
    target = _inside(folder, path.group(1).strip()) if path else None
    if target is None or not repository.has(target):
        return None
    same = [one for one in repository.parsed(target).objects if one.kind == built.kind]
    return next((one for one in same if one.name == built.name), None) or next(
        (one for one in same if one.name and one.name in built.name), same[0] if len(same) == 1 else None
    )
