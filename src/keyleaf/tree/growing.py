"""From the objects that stand in files to the tree: which Application renders which, down to the leaves."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from keyleaf.core.errors import InputError
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.applications import Declared, SourceSpec, declared, is_application, is_application_set
from keyleaf.tree.generators import generate
from keyleaf.tree.kustomize import render_kustomize
from keyleaf.tree.model import Application, Source
from keyleaf.tree.objects import Object
from keyleaf.tree.rendered import Rendered
from keyleaf.tree.repository import Repository, without_credentials
from keyleaf.tree.scan import Scan, kustomize_paths, scan
from keyleaf.tree.sources import Sources

CONTROL_PLANE = "argocd"
_MAKES_APPLICATIONS = re.compile(rb"^kind:\s*(?:Application|ApplicationSet)\s*$", re.MULTILINE)
_TOOLS_AT_ONCE = 4
_TOLD = frozenset({"source-path-missing", "values-file-missing", "application-invalid"})
Identity = tuple[str, str]
Mark = tuple[Location, str, str, str]
Outcome = list[tuple[SourceSpec, Rendered]]
Asked = tuple[Identity, str, tuple[SourceSpec, ...]]


@dataclass
class Node:
    """One Application in its place, and what each of its sources became."""

    app: Declared
    key: str
    parent: str
    depth: int
    rendered: Outcome = field(default_factory=list)

    def application(self) -> Application:
        """As the model has it."""
        app = self.app
        return Application(
            self.key,
            app.name,
            app.namespace,
            app.project,
            tuple(_source(spec, rendered) for spec, rendered in self.rendered),
            app.server,
            app.destination_namespace,
            app.source.where,
            self.parent,
            self.depth,
            app.wave,
            app.generated_by,
            app.sync_policy,
            app.finalizers,
            app.annotations,
            app.labels,
        )


@dataclass
class Grown:
    """The tree, parents before children; ``loose`` are the objects that no Application renders."""

    nodes: list[Node]
    loose: list[Object]
    findings: list[Finding]


def grow(repository: Repository, sources: Sources) -> Grown:
    """Find the roots and follow them."""
    return _Growth(repository, sources).grow()


class _Growth:
    def __init__(self, repository: Repository, sources: Sources) -> None:
        self.repository = repository
        self.sources = sources
        self.findings: list[Finding] = []
        self._unread: list[tuple[str, Finding]] = []
        self._outcomes: dict[Asked, Outcome] = {}
        self._control = CONTROL_PLANE
        self._declared: dict[Mark, list[Declared]] = {}

    def grow(self) -> Grown:
        scanned = scan(self.repository)
        loose = [*scanned.objects, *self._bundles(scanned)]
        self._control = _control_plane(loose)
        plain = self._applications([one for one in loose if is_application(one)], self._control)
        # Before generators are asked: they name the repository by the same address.
        self._adopt(plain)
        candidates = self._applications(loose, self._control)
        self._adopt(candidates)
        children = self._children(candidates)
        made_by_others = {identity for parent, made in children.items() for identity in made if identity != parent}
        roots = [app for app in candidates if app.identity not in made_by_others]
        nodes = self._follow(roots, candidates)
        rendered = {_mark(one) for node in nodes for _, outcome in node.rendered for one in outcome.objects}
        self._duplicates(candidates, nodes)
        # What an Application renders is told with that Application.
        asked = {folder for node in nodes for folder in self._folders(node.app)}
        self.findings.extend(finding for folder, finding in self._unread if folder not in asked)
        remaining = [one for one in loose if _mark(one) not in rendered]
        told = {(finding.code, finding.where) for finding in self.findings}
        for finding in scanned.findings:
            if (finding.code, finding.where) not in told:
                # Nobody applies this file as far as can be told: it is worth saying, and stops nothing.
                self.findings.append(replace(finding, severity=min(finding.severity, Severity.WARNING)))
        return Grown(nodes, list({_mark(one): one for one in remaining}.values()), self.findings)

    def _bundles(self, scanned: Scan) -> list[Object]:
        """Objects of kustomizations that people apply by hand and that hold Applications."""
        found: list[Object] = []
        for folder in scanned.kustomizations:
            if self._holds_applications(folder):
                outcome = render_kustomize(self.repository, folder, {}, self.sources.tools)
                found.extend(self._bundle(folder, self.repository.kustomization(folder), outcome))
                if outcome.state == "not-rendered":
                    found.extend(self._as_written(folder))
        for folder in scanned.charts:
            template = self._application_template(folder)
            if template:
                found.extend(self._bundle(folder, template, self.sources.render_chart(folder)))
        return found

    def _as_written(self, folder: str, depth: int = 0) -> list[Object]:
        """The Applications that a kustomization names, without its changes: better than none of them."""
        path = self.repository.kustomization(folder)
        if not path or depth > 16:
            return []
        found: list[Object] = []
        for name in kustomize_paths(self.repository, folder, path):
            if self.repository.has(name):
                listed = self.repository.parsed(name).objects if name.endswith((".yaml", ".yml", ".json")) else ()
                found += [one for one in listed if is_application(one) and "source" in str(one.body.get("spec"))]
                found += [one for one in listed if is_application_set(one)]
            else:
                found += self._as_written(name, depth + 1)
        return found

    def _bundle(self, folder: str, path: str, outcome: Rendered) -> list[Object]:
        """The Applications of something that is not itself an Application; why they are not known, if so."""
        shown = self.repository.shown(path)
        if outcome.state != "rendered":
            finding = Finding(
                "applications-not-rendered",
                Severity.WARNING,
                f"{shown} declares Applications that are not all known: {outcome.reason}",
                "",
                Location(shown, 1),
                "it has to be rendered before its Applications can be read",
                "install the tool, or mend what it complains about",
            )
            self._unread.append((folder, finding))
        else:
            self.findings.extend(outcome.findings)
        return [one for one in outcome.objects if one.api_version.startswith("argoproj.io/")]

    def _application_template(self, folder: str) -> str:
        """The first template of a chart that makes Applications; empty if none does."""
        for path in self.repository.files.list(posixpath.join(folder, "templates")):
            if path.endswith((".yaml", ".yml", ".tpl")):
                try:
                    content = self.repository.files.read(path)
                except InputError:
                    continue
                if _MAKES_APPLICATIONS.search(content):
                    return path
        return ""

    def _holds_applications(self, folder: str, depth: int = 0) -> bool:
        path = self.repository.kustomization(folder)
        if not path or depth > 16:
            return False
        for name in kustomize_paths(self.repository, folder, path):
            if self.repository.has(name):
                if name.endswith((".yaml", ".yml", ".json")) and any(
                    is_application(one) or is_application_set(one) for one in self.repository.parsed(name).objects
                ):
                    return True
            elif self._holds_applications(name, depth + 1):
                return True
        return False

    def _applications(self, objects: Iterable[Object], namespace: str) -> list[Declared]:
        """The Applications among ``objects``, those that ApplicationSets make included."""
        found: list[Declared] = []
        for one in objects:
            mark = _mark(one)
            if mark not in self._declared:
                self._declared[mark] = self._read(one, namespace)
            found.extend(self._declared[mark])
        return found

    def _read(self, one: Object, namespace: str) -> list[Declared]:
        if is_application(one):
            app, wrong = declared(one, namespace)
            self.findings.extend(wrong)
            return [app] if app.name else []
        if not is_application_set(one):
            return []
        found: list[Declared] = []
        made = generate(replace(one, namespace=one.namespace or namespace), self.sources.repository)
        self.findings.extend(made.findings)
        for child in made.objects:
            app, wrong = declared(child, one.namespace or namespace, one.name)
            self.findings.extend(wrong)
            if app.name:
                found.append(app)
        return found

    def _adopt(self, candidates: Sequence[Declared]) -> None:
        """An Application that stands here and names a path that exists here means this repository."""
        addresses = {spec.repo_url for app in candidates for spec in app.sources if spec.repo_url and not spec.chart}
        for app in candidates:
            for spec in app.sources:
                if spec.chart or not spec.repo_url or self.sources.is_own(spec.repo_url):
                    continue
                whole = spec.path.strip("./") == ""
                if self.repository.resolve(spec.path or ".") is not None and (not whole or len(addresses) == 1):
                    self.sources.adopt(spec.repo_url)

    def _children(self, candidates: Sequence[Declared]) -> dict[Identity, list[Identity]]:
        self._render(candidates)
        return {
            app.identity: [child.identity for child in self._applications(self._objects(app), _home(app))]
            for app in candidates
        }

    def _follow(self, roots: Sequence[Declared], candidates: Sequence[Declared]) -> list[Node]:
        nodes: dict[Identity, Node] = {}
        waiting = list(candidates)
        level = [(app, "", 0) for app in roots]
        while True:
            level = self._level(level, nodes)
            if level:
                continue
            waiting = [app for app in waiting if app.identity not in nodes]
            if not waiting:
                break
            first = min(waiting, key=lambda app: app.identity)
            self.findings.append(
                Finding(
                    "application-cycle",
                    Severity.ERROR,
                    f"the Application {first.name} is rendered only by Applications that it renders itself",
                    self._key(first),
                    first.source.where,
                    "nobody but the cycle itself would create it",
                    "take it out of one of the sources, or apply it by hand from a folder of its own",
                )
            )
            level = [(first, "", 0)]
        return sorted(nodes.values(), key=lambda node: (node.depth, node.app.wave, node.key))

    def _folders(self, app: Declared) -> list[str]:
        found = [self.repository.resolve(spec.path) for spec in app.sources if self.sources.is_own(spec.repo_url)]
        return [folder for folder in found if folder is not None]

    def _level(
        self, level: list[tuple[Declared, str, int]], nodes: dict[Identity, Node]
    ) -> list[tuple[Declared, str, int]]:
        """Place one level of the tree; what its Applications render is the next one."""
        fresh: list[Node] = []
        for app, parent, depth in level:
            known = nodes.get(app.identity)
            if known is None:
                node = Node(app, self._key(app), parent, depth)
                nodes[app.identity] = node
                fresh.append(node)
            elif known.key != parent and known.app.source.where != app.source.where:
                self._duplicate(app, known)
        self._render([node.app for node in fresh])
        following: list[tuple[Declared, str, int]] = []
        for node in fresh:
            node.rendered = self._outcome(node.app)
            for spec, outcome in node.rendered:
                self.findings.extend(replace(one, owner=one.owner or node.key) for one in outcome.findings)
                self._unrendered(node, spec, outcome)
            for child in self._applications(self._objects(node.app), _home(node.app)):
                # An Application that renders itself manages itself: a known pattern, and no cycle.
                if child.identity != node.app.identity:
                    following.append((child, node.key, node.depth + 1))
        return following

    def _render(self, apps: Sequence[Declared]) -> None:
        """Render what is not yet rendered, several at once: most of the time goes into waiting for tools."""
        missing = [app for app in apps if _asked(app) not in self._outcomes]
        slow = [app for app in missing if self.sources.asks_tools(app)]
        if len(slow) > 1:
            with ThreadPoolExecutor(_TOOLS_AT_ONCE) as pool:
                done = dict(zip(map(_asked, slow), pool.map(self.sources.render, slow), strict=True))
        else:
            done = {}
        results = [done.get(_asked(app)) or self.sources.render(app) for app in missing]
        for app, outcome in zip(missing, results, strict=True):
            self._outcomes[_asked(app)] = outcome

    def _outcome(self, app: Declared) -> Outcome:
        return self._outcomes[_asked(app)]

    def _objects(self, app: Declared) -> list[Object]:
        return [one for _, outcome in self._outcome(app) for one in outcome.objects]

    def _key(self, app: Declared) -> str:
        return app.name if app.namespace == self._control else f"{app.namespace}/{app.name}"

    def _unrendered(self, node: Node, spec: SourceSpec, outcome: Rendered) -> None:
        # A finding of its own says it better.
        if outcome.state == "rendered" or {one.code for one in outcome.findings} & _TOLD:
            return
        self.findings.append(_unrendered_finding(node, spec, outcome))

    def _duplicates(self, candidates: Sequence[Declared], nodes: Sequence[Node]) -> None:
        by_identity = {node.app.identity: node for node in nodes}
        for app in candidates:
            node = by_identity[app.identity]
            if node.app.source.where != app.source.where:
                self._duplicate(app, node)

    def _duplicate(self, app: Declared, known: Node) -> None:
        finding = Finding(
            "application-duplicate",
            Severity.WARNING,
            f"the Application {app.name} is declared again; the one at {known.app.source.where} counts",
            known.key,
            app.source.where,
            "two declarations of one name overwrite each other in one cluster",
            "remove one of them, or point keyleaf at the folder of one cluster",
        )
        if finding not in self.findings:
            self.findings.append(finding)


def _mark(one: Object) -> Mark:
    """What tells an object in a file from all others."""
    return one.where, one.kind, one.namespace, one.name


def _asked(app: Declared) -> Asked:
    """What its rendering depends on."""
    return app.identity, app.destination_namespace, app.sources


def _home(app: Declared) -> str:
    """Where an Application's objects land that name no namespace."""
    return app.destination_namespace or CONTROL_PLANE


def _control_plane(objects: Sequence[Object]) -> str:
    """Argo CD's own namespace: where most Applications live, ``argocd`` if it is among them."""
    named = [one.namespace for one in objects if is_application(one) or is_application_set(one)]
    named = [namespace for namespace in named if namespace]
    if not named or CONTROL_PLANE in named:
        return CONTROL_PLANE
    return min(set(named), key=lambda namespace: (-named.count(namespace), namespace))


def _source(spec: SourceSpec, outcome: Rendered) -> Source:
    return Source(
        without_credentials(spec.repo_url),
        spec.path,
        spec.revision,
        spec.chart,
        spec.ref,
        outcome.tool,
        outcome.state,
        outcome.reason,
    )


def _unrendered_finding(node: Node, spec: SourceSpec, outcome: Rendered) -> Finding:
    what = f"{node.app.name}: {spec.chart or spec.path or without_credentials(spec.repo_url)!r}"
    if outcome.state == "remote":
        return Finding(
            "source-remote",
            Severity.NOTE,
            f"{what} is not read: {outcome.reason}",
            node.key,
            spec.where,
            "what it declares is not known",
            "keyleaf tree --fetch-remotes, or --map <address>=<directory>",
        )
    if outcome.state == "unresolved":
        return Finding(
            "source-unresolved",
            Severity.WARNING,
            f"{what} cannot be known from Git: {outcome.reason}",
            node.key,
            spec.where,
            "something else fills it in before it is applied",
            "commit the value itself",
        )
    return Finding(
        "source-not-rendered",
        Severity.WARNING,
        f"{what} is not rendered: {outcome.reason}",
        node.key,
        spec.where,
        "what it declares is not known",
        "install the tool, or mend what it complains about",
    )
