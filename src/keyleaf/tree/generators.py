"""ApplicationSet: the Applications that its generators make, where Git alone can tell.

Source: https://argo-cd.readthedocs.io/en/stable/operator-manual/applicationset/Generators/
"""

from __future__ import annotations

import copy
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from keyleaf.core.finding import Finding, Severity
from keyleaf.tree.files import normal
from keyleaf.tree.globs import matches
from keyleaf.tree.model import Unknown
from keyleaf.tree.objects import Object, flag, items, mapping, object_of, text
from keyleaf.tree.placeholders import known
from keyleaf.tree.repository import Repository
from keyleaf.tree.templates import TemplateError, as_text, fill, fill_fast, fill_go

_ASKS = {
    "clusters": "asks Argo CD which clusters it knows",
    "scmProvider": "asks a Git host which repositories there are",
    "pullRequest": "asks a Git host which pull requests are open",
    "plugin": "asks a program",
    "clusterDecisionResource": "asks an object in the cluster",
}
_MOST = 5000
_PLACE = re.compile(r"[^-a-z0-9.]")
Parameters = dict[str, Any]
OpenRepository = Callable[[str, str], Repository | str]


class NotFromGit(Exception):
    """A generator that Git alone cannot answer: ``kind`` is that of an Unknown."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Generated:
    """What an ApplicationSet makes: Application objects, and findings for what it cannot."""

    objects: list[Object]
    findings: list[Finding]


def generate(source: Object, open_repository: OpenRepository) -> Generated:
    """The Applications of one ApplicationSet; each one's place is the ApplicationSet's template."""
    spec = mapping(source.body.get("spec"))
    go = flag(spec.get("goTemplate"))
    objects: list[Object] = []
    findings: list[Finding] = []
    listed = items(spec.get("generators"))
    for index, generator in enumerate(listed):
        try:
            found = list(_parameters(mapping(generator), go, open_repository, {}, 0))
        except NotFromGit as error:
            findings.append(_not_from_git(source, error, index))
            continue
        except TemplateError as error:
            findings.append(_unfilled(source, str(error), ("spec", "generators", index)))
            continue
        if len(found) > _MOST:
            findings.append(
                _unfilled(source, f"it makes more than {_MOST} Applications", ("spec", "generators", index))
            )
            found = found[:_MOST]
        for parameters in found:
            try:
                objects.append(_application(source, spec, mapping(generator), parameters, go))
            except TemplateError as error:
                findings.append(_unfilled(source, str(error), ("spec", "template")))
    if not listed:
        findings.append(_unfilled(source, "it has no generators", ("spec", "generators")))
    return Generated(objects, list(dict.fromkeys(findings)))


def _application(
    source: Object, spec: Mapping[str, Any], generator: Mapping[str, Any], parameters: Parameters, go: bool
) -> Object:
    template = _over(mapping(spec.get("template")), _own_template(generator))
    one = _filler(parameters, go)
    body = fill(template, one)
    patch = text(spec.get("templatePatch"))
    if patch:
        from keyleaf.tree.yamlsource import parse

        documents, _ = parse(one(patch).encode(), source.where.file)
        if documents and isinstance(documents[0].value, Mapping):
            body = _over(body, documents[0].value)
        else:
            raise TemplateError("templatePatch is no YAML once it is filled in")
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", **body}
    metadata = dict(mapping(body.get("metadata")))
    if source.namespace:
        metadata["namespace"] = source.namespace
    body["metadata"] = metadata
    # Children of an ApplicationSet are deleted with their objects, unless it says otherwise.
    if not flag(mapping(spec.get("syncPolicy")).get("preserveResourcesOnDeletion")) and not metadata.get("finalizers"):
        metadata["finalizers"] = ["resources-finalizer.argocd.argoproj.io"]
    return object_of(body, None, place=source.at("spec", "template"))


def _own_template(generator: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((mapping(mapping(value).get("template")) for value in generator.values() if mapping(value)), {})


def _over(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(first)
    for key, value in second.items():
        mine = made.get(key)
        made[key] = _over(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return made


def _filler(parameters: Parameters, go: bool) -> Callable[[str], str]:
    if go:
        return lambda template: fill_go(template, parameters)
    flat = {key: value for key, value in parameters.items() if isinstance(value, str)}
    return lambda template: fill_fast(template, flat)


def _parameters(
    generator: Mapping[str, Any], go: bool, open_repository: OpenRepository, outer: Parameters, depth: int
) -> Iterator[Parameters]:
    if depth > 3:
        raise NotFromGit("unresolved", "its generators are nested too deeply")
    selector = mapping(generator.get("selector"))
    for made in _of_kind(generator, go, open_repository, outer, depth):
        if not selector or _selected(made, selector):
            yield made


def _of_kind(
    generator: Mapping[str, Any], go: bool, open_repository: OpenRepository, outer: Parameters, depth: int
) -> Iterator[Parameters]:
    if "list" in generator:
        yield from _list(mapping(generator["list"]), go, outer)
    elif "git" in generator:
        yield from _git(
            mapping(fill(generator["git"], _filler(outer, go)) if outer else generator["git"]), go, open_repository
        )
    elif "matrix" in generator:
        children = items(mapping(generator["matrix"]).get("generators"))
        if len(children) != 2:
            raise NotFromGit("unresolved", "a matrix takes two generators")
        for first in _parameters(mapping(children[0]), go, open_repository, outer, depth + 1):
            for second in _parameters(mapping(children[1]), go, open_repository, {**outer, **first}, depth + 1):
                yield {**first, **second}
    elif "merge" in generator:
        yield from _merge(mapping(generator["merge"]), go, open_repository, outer, depth)
    else:
        name = next((key for key in generator if key not in ("selector", "template")), "nothing")
        raise NotFromGit("dynamic", f"its generator {name} {_ASKS.get(name, 'is not one that Git can answer')}")


def _list(body: Mapping[str, Any], go: bool, outer: Parameters) -> Iterator[Parameters]:
    if body.get("elementsYaml"):
        from keyleaf.tree.yamlsource import parse

        documents, findings = parse(_filler(outer, go)(text(body["elementsYaml"])).encode(), "elementsYaml")
        if findings or not documents:
            raise NotFromGit("unresolved", "its elementsYaml is no YAML")
        listed = items(documents[0].value)
    else:
        listed = items(body.get("elements"))
    for element in listed:
        if isinstance(element, Mapping):
            yield copy.deepcopy(dict(element)) if go else _flat(element, "", {}, values_only=True)


def _git(body: Mapping[str, Any], go: bool, open_repository: OpenRepository) -> Iterator[Parameters]:
    url = known(body.get("repoURL"))
    if isinstance(url, Unknown):
        raise NotFromGit("unresolved", f"the repository {url.text!r} of its git generator is {url.reason}")
    repository = open_repository(url, text(body.get("revision")))
    if isinstance(repository, str):
        raise NotFromGit("remote", f"its git generator looks into another repository: {repository}")
    prefix = text(body.get("pathParamPrefix"))
    values = mapping(body.get("values"))
    for parameters, extra in _directories(body, repository) if "directories" in body else _files(body, repository, go):
        place = extra
        if go:
            made: Parameters = {
                **parameters,
                **({prefix: {"path": _go_path(place)}} if prefix else {"path": _go_path(place)}),
            }
        else:
            dotted = f"{prefix}.path" if prefix else "path"
            made = {**parameters, **_fast_path(place, dotted)}
        if values:
            filled = fill(dict(values), _filler(made, go))
            made = {**made, "values": filled} if go else {**made, **_flat(filled, "values.", {})}
        yield made


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder, and the file in it where files were asked for."""

    folder: str
    file: str = ""


def _directories(body: Mapping[str, Any], repository: Repository) -> Iterator[tuple[Parameters, _Place]]:
    chosen = [mapping(entry) for entry in items(body.get("directories"))]
    wanted = [text(entry.get("path")) for entry in chosen if not flag(entry.get("exclude"))]
    unwanted = [text(entry.get("path")) for entry in chosen if flag(entry.get("exclude"))]
    for folder in _folders(repository):
        if any(_path_fits(pattern, folder) for pattern in wanted) and not any(
            _path_fits(pattern, folder) for pattern in unwanted
        ):
            yield {}, _Place(folder)


def _files(body: Mapping[str, Any], repository: Repository, go: bool) -> Iterator[tuple[Parameters, _Place]]:
    chosen = [mapping(entry) for entry in items(body.get("files"))]
    wanted = [text(entry.get("path")) for entry in chosen if not flag(entry.get("exclude"))]
    unwanted = [text(entry.get("path")) for entry in chosen if flag(entry.get("exclude"))]
    for path, inside in _candidates(repository):
        if not any(_path_fits(pattern, inside) for pattern in wanted):
            continue
        if any(_path_fits(pattern, inside) for pattern in unwanted):
            continue
        place = _Place(posixpath.dirname(inside), posixpath.basename(inside))
        for document in repository.parsed(path).documents:
            each = document.value if isinstance(document.value, list) else [document.value]
            for value in each:
                if isinstance(value, Mapping):
                    yield (copy.deepcopy(dict(value)) if go else _flat(value, "", {})), place


def _candidates(repository: Repository) -> list[tuple[str, str]]:
    """Files as (path, path as an Application would write it): from the folder that was asked for, else from the top."""
    base = repository.base
    inside = [(path, path[len(base) + 1 :] if base else path) for path in repository.files.list(base)]
    return inside + ([(path, path) for path in repository.files.list("")] if base else [])


def _folders(repository: Repository) -> list[str]:
    found: dict[str, None] = {}
    for _, path in _candidates(repository):
        parts = path.split("/")[:-1]
        if not any(part.startswith(".") for part in parts):
            for count in range(1, len(parts) + 1):
                found["/".join(parts[:count])] = None
    return sorted(found)


def _path_fits(pattern: str, path: str) -> bool:
    return matches(normal(pattern), path, separator="/")


def _fast_path(place: _Place, name: str) -> dict[str, str]:
    base = posixpath.basename(place.folder)
    made = {name: place.folder, f"{name}.path": place.folder, f"{name}.basename": base}
    made[f"{name}.basenameNormalized"] = _PLACE.sub("-", base.lower())
    if place.file:
        made[f"{name}.filename"] = place.file
        made[f"{name}.filenameNormalized"] = _PLACE.sub("-", place.file.lower())
    for index, segment in enumerate(place.folder.split("/")):
        made[f"{name}[{index}]"] = segment
    return made


def _go_path(place: _Place) -> dict[str, Any]:
    base = posixpath.basename(place.folder)
    made: dict[str, Any] = {
        "path": place.folder,
        "basename": base,
        "basenameNormalized": _PLACE.sub("-", base.lower()),
        "segments": place.folder.split("/"),
    }
    if place.file:
        made |= {"filename": place.file, "filenameNormalized": _PLACE.sub("-", place.file.lower())}
    return made


def _flat(value: Mapping[str, Any], prefix: str, made: dict[str, Any], values_only: bool = False) -> dict[str, Any]:
    for key, item in value.items():
        if isinstance(item, Mapping) and (not values_only or key == "values"):
            _flat(item, f"{prefix}{key}.", made)
        elif isinstance(item, list):
            for index, one in enumerate(item):
                if isinstance(one, Mapping):
                    _flat(one, f"{prefix}{key}.{index}.", made)
                else:
                    made[f"{prefix}{key}.{index}"] = as_text(one)
        elif item is not None:
            made[f"{prefix}{key}"] = as_text(item)
    return made


def _merge(
    body: Mapping[str, Any], go: bool, open_repository: OpenRepository, outer: Parameters, depth: int
) -> Iterator[Parameters]:
    keys = [text(key) for key in items(body.get("mergeKeys"))]
    children = [
        list(_parameters(mapping(child), go, open_repository, outer, depth + 1))
        for child in items(body.get("generators"))
    ]
    if not keys or len(children) < 2:
        raise NotFromGit("unresolved", "a merge takes mergeKeys and two generators")

    def identity(parameters: Parameters) -> tuple[Any, ...] | None:
        found = tuple(_at(parameters, key) for key in keys)
        return None if None in found else tuple(map(as_text, found))

    made = {identity(parameters): parameters for parameters in children[0]}
    for later in children[1:]:
        for parameters in later:
            at = identity(parameters)
            if at is not None and at in made:
                made[at] = _over(made[at], parameters)
    yield from made.values()


def _at(parameters: Parameters, key: str) -> Any:
    if key in parameters:
        return parameters[key]
    value: Any = parameters
    for step in key.split("."):
        value = mapping(value).get(step)
    return value


def _selected(parameters: Parameters, selector: Mapping[str, Any]) -> bool:
    flat = _flat(parameters, "", {})
    for key, wanted in mapping(selector.get("matchLabels")).items():
        if flat.get(key) != as_text(wanted):
            return False
    for expression in items(selector.get("matchExpressions")):
        body = mapping(expression)
        value, listed = flat.get(text(body.get("key"))), [text(item) for item in items(body.get("values"))]
        fits = {
            "In": value in listed,
            "NotIn": value not in listed,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }.get(text(body.get("operator")), False)
        if not fits:
            return False
    return True


def _not_from_git(source: Object, error: NotFromGit, index: int) -> Finding:
    where = source.at("spec", "generators", index)
    message = f"the ApplicationSet {source.name} makes Applications that cannot be known: {error.reason}"
    fix = "declare those Applications with a list or git generator of this repository, if keyleaf shall see them"
    if error.kind == "remote":
        return Finding("generator-remote", Severity.WARNING, message, "", where, "it was not read", fix)
    if error.kind == "dynamic":
        return Finding("generator-dynamic", Severity.WARNING, message, "", where, "Git alone cannot answer it", fix)
    return Finding("generator-unresolved", Severity.WARNING, message, "", where, "it is not filled in", fix)


def _unfilled(source: Object, reason: str, path: tuple[str | int, ...]) -> Finding:
    return Finding(
        "generator-unresolved",
        Severity.WARNING,
        f"the ApplicationSet {source.name} makes Applications that cannot be known: {reason}",
        "",
        source.at(*path),
        "its template is not filled in",
        "use what generators give, and the functions that docs/tree.md lists",
    )
