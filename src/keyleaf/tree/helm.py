"""Helm sources: rendered by the user's own ``helm``, or in-process where the extra ``[helm]`` is installed.

Source: https://argo-cd.readthedocs.io/en/stable/user-guide/helm/
"""

from __future__ import annotations

import json
import posixpath
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from keyleaf.core.errors import InputError
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.applications import Declared, SourceSpec
from keyleaf.tree.files import normal
from keyleaf.tree.helmvalues import merge, set_value
from keyleaf.tree.objects import Object, flag, items, mapping, object_of, objects_in, strings, text
from keyleaf.tree.rendered import Rendered
from keyleaf.tree.repository import Repository
from keyleaf.tree.tools import Tools
from keyleaf.tree.yamlsource import parse

_SOURCE = re.compile(r"^# Source: (\S+)\s*$", re.MULTILINE)
_MOST_FILES = 5000


@dataclass(frozen=True)
class HelmRequest:
    """Everything that one rendering needs; ``files`` is the chart, with paths in its own folder."""

    repository: Repository
    folder: str
    files: Mapping[str, bytes] = field(repr=False)
    release: str = ""
    namespace: str = ""
    values: Mapping[str, Any] = field(repr=False, default_factory=dict)
    value_texts: tuple[tuple[str, str], ...] = field(repr=False, default=())
    skip_crds: bool = False
    api_versions: tuple[str, ...] = ()
    kube_version: str = ""


def helm_request(
    app: Declared,
    spec: SourceSpec,
    repository: Repository,
    folder: str,
    refs: Mapping[str, Repository | str],
) -> HelmRequest | Rendered:
    """Gather chart and values of a Helm source, or say why it cannot be rendered."""
    options = mapping(spec.body.get("helm"))
    files = _gathered(repository, folder)
    if isinstance(files, Rendered):
        return files
    values: dict[str, Any] = {}
    texts: list[tuple[str, str]] = []
    for name in strings(options.get("valueFiles")):
        found = _value_file(name, repository, folder, refs)
        if isinstance(found, tuple):
            owner, path = found
            parsed = owner.parsed(path)
            for document in parsed.documents[:1]:
                values = merge(values, mapping(document.value))
                texts.append((owner.shown(path), document.text))
        elif not flag(options.get("ignoreMissingValueFiles")) or "://" in name:
            finding = Finding(
                "values-file-missing",
                Severity.ERROR if found == "" else Severity.WARNING,
                f"the values file {name!r} does not exist" if found == "" else f"the values file {name!r} is not read",
                "",
                spec.where,
                found or "helm would refuse to render",
                "correct spec.source.helm.valueFiles",
            )
            reason = f"its values file {name!r} " + (f"is not read: {found}" if found else "does not exist")
            return Rendered("helm", (), (finding,), "remote" if found else "not-rendered", reason)
    inline = mapping(options.get("valuesObject"))
    if not inline and text(options.get("values")):
        documents, findings = parse(text(options["values"]).encode(), spec.where.file)
        if findings:
            return Rendered("helm", (), (), "not-rendered", "its inline values are no YAML")
        inline = mapping(documents[0].value) if documents else {}
    values = merge(values, inline)
    for entry in items(options.get("parameters")):
        as_text = flag(mapping(entry).get("forceString"))
        values = set_value(values, text(mapping(entry).get("name")), text(mapping(entry).get("value")), as_text=as_text)
    for entry in items(options.get("fileParameters")):
        content = files.get(normal(text(mapping(entry).get("path"))))
        if content is not None:
            values = set_value(
                values, text(mapping(entry).get("name")), content.decode("utf-8", "replace"), as_text=True
            )
    return HelmRequest(
        repository,
        folder,
        files,
        text(options.get("releaseName")) or app.name,
        text(options.get("namespace")) or app.destination_namespace or "default",
        values,
        tuple(texts),
        flag(options.get("skipCrds")),
        strings(options.get("apiVersions")),
        text(options.get("kubeVersion")),
    )


def chart_request(repository: Repository, folder: str) -> HelmRequest | Rendered:
    """A chart by itself, with its default values, released under its folder's name."""
    gathered = _gathered(repository, folder)
    if isinstance(gathered, Rendered):
        return gathered
    return HelmRequest(repository, folder, gathered, posixpath.basename(folder) or "release", "argocd")


def _gathered(repository: Repository, folder: str) -> dict[str, bytes] | Rendered:
    """The files of a chart and of the charts beside it that it depends on."""
    chart_file = posixpath.join(folder, "Chart.yaml")
    if not repository.has(chart_file):
        reason = f"there is no Chart.yaml in {repository.shown(folder) or '.'}"
        return Rendered("helm", (), (), "not-rendered", reason)
    files: dict[str, bytes] = {}
    for path in repository.files.list(folder)[:_MOST_FILES]:
        try:
            files[path[len(folder) + 1 :] if folder else path] = repository.files.read(path)
        except InputError:
            continue
    unvendored = _dependencies(repository, folder, chart_file, files)
    if unvendored:
        reason = f"its dependency {unvendored} is not in the chart's charts folder"
        return Rendered("helm", (), (), "remote", reason)
    return files


def render_helm(request: HelmRequest, tools: Tools) -> Rendered:
    """The chart's objects, by ``helm template`` or in-process; ``not-rendered`` where neither is there."""
    if tools.helm:
        command = [tools.helm, "template", request.release, ".", "--namespace", request.namespace]
        command += ["--values", "keyleaf-values.json"]
        command += [] if request.skip_crds else ["--include-crds"]
        command += [f"--api-versions={version}" for version in request.api_versions]
        command += [f"--kube-version={request.kube_version}"] if request.kube_version else []
        files = {**request.files, "keyleaf-values.json": json.dumps(request.values).encode()}
        result = tools.run(command, {f"chart/{name}": content for name, content in files.items()}, "chart")
        if result.problem:
            return Rendered("helm", (), (), "not-rendered", result.problem)
        return Rendered("helm", list(_rendered(request, result.output)))
    if tools.path:
        outcome = _in_process(request)
        if isinstance(outcome, str):
            return Rendered("helm", (), (), "not-rendered", outcome)
        return Rendered("helm", list(_rendered(request, outcome)))
    return Rendered("helm", (), (), "not-rendered", "helm is not on PATH")


def _in_process(request: HelmRequest) -> bytes | str:
    try:
        from helm_python import Chart  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return "helm is not on PATH"
    with tempfile.TemporaryDirectory(prefix="keyleaf-render-") as made:
        for name, content in request.files.items():
            place = Path(made) / "chart" / normal(name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        try:
            with Chart.load(f"{made}/chart") as chart:
                output = chart.render(values=dict(request.values), name=request.release, namespace=request.namespace)
                crds = [] if request.skip_crds else chart.crds
        except Exception as error:
            return f"helm: {str(error).splitlines()[-1][:500] if str(error) else type(error).__name__}"
    return _joined(output) + b"".join(
        f"---\n# Source: {crd.get('filename', 'crds')}\n{crd.get('data', '')}\n".encode() for crd in crds
    )


def _joined(output: Any) -> bytes:
    """What the library returns: one text, or a text per template."""
    if isinstance(output, Mapping):
        return "".join(f"---\n# Source: {name}\n{content}\n" for name, content in output.items()).encode()
    return output if isinstance(output, bytes) else str(output).encode()


def _dependencies(repository: Repository, folder: str, chart_file: str, files: dict[str, bytes]) -> str:
    """Put dependencies that live beside the chart into it; the name of one that is not there, else empty."""
    for document in repository.parsed(chart_file).documents[:1]:
        for entry in items(mapping(document.value).get("dependencies")):
            name, address = text(mapping(entry).get("name")), text(mapping(entry).get("repository"))
            vendored = (f"charts/{name}/", f"charts/{name}-")
            if not name or any(path.startswith(vendored) for path in files):
                continue
            beside = normal(posixpath.join(folder, address.removeprefix("file://")))
            if address.startswith("file://") and not beside.startswith("..") and repository.exists(beside):
                for path in repository.files.list(beside):
                    files[f"charts/{name}/{path[len(beside) + 1 :]}"] = repository.files.read(path)
            else:
                return f"{name} ({address})" if address else name
    return ""


def _value_file(
    name: str, repository: Repository, folder: str, refs: Mapping[str, Repository | str]
) -> tuple[Repository, str] | str:
    """Where a values file is; empty text if it is missing, other text if it cannot be reached."""
    if "://" in name:
        return "it stands at an address, and is not downloaded"
    if name.startswith("$"):
        ref, _, path = name[1:].partition("/")
        owner = refs.get(ref)
        if owner is None:
            return ""
        if isinstance(owner, str):
            return owner
        for start in dict.fromkeys((owner.base, "")):
            target = normal(posixpath.join(start, path))
            if owner.has(target):
                return owner, target
        return ""
    target = normal(name) if name.startswith("/") else normal(posixpath.join(folder, name))
    return (repository, target) if not target.startswith("..") and repository.has(target) else ""


def _rendered(request: HelmRequest, output: bytes) -> Iterator[Object]:
    """The objects with the template that each came from; values are looked up there, then in the values files."""
    content = output.decode("utf-8", "replace")
    marks = [(content.count("\n", 0, match.start()), match.group(1)) for match in _SOURCE.finditer(content)]
    own_values = "values.yaml"
    common = list(request.value_texts)
    if own_values in request.files:
        path = posixpath.join(request.folder, own_values)
        common.append((request.repository.shown(path), request.files[own_values].decode("utf-8", "replace")))
    documents, _ = parse(output, "helm")
    for document in documents:
        line = document.node.start_mark.line + document.to_file(0, 0)[0]
        template = next((name for at, name in reversed(marks) if at <= line), "")
        inside = template.partition("/")[2]
        source = request.files.get(inside, b"").decode("utf-8", "replace")
        shown = request.repository.shown(posixpath.join(request.folder, inside or "Chart.yaml"))
        for found in objects_in(document):
            at = re.search(rf"^\s*kind:\s*{re.escape(found.kind)}\b", source, re.MULTILINE)
            first = source.count("\n", 0, at.end()) + 1 if at else 1
            made = object_of(found.body, None, place=Location(shown, first))
            yield replace(made, texts=((shown, source), *common))
