"""From an Application's source to the objects it stands for, or the reason why they cannot be known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from keyleaf.core.errors import InputError, RemoteError
from keyleaf.core.finding import Finding, Severity
from keyleaf.tree.applications import Declared, SourceSpec
from keyleaf.tree.directory import render_directory
from keyleaf.tree.git import GitSource
from keyleaf.tree.helm import HelmRequest, chart_request, helm_request, render_helm
from keyleaf.tree.kustomize import render_kustomize
from keyleaf.tree.model import Unknown
from keyleaf.tree.objects import mapping
from keyleaf.tree.opening import open_repository
from keyleaf.tree.placeholders import known
from keyleaf.tree.rendered import Rendered, ToolName
from keyleaf.tree.repository import Repository, normal_url, without_credentials
from keyleaf.tree.tools import Tools

_OWN_REVISIONS = frozenset({"", "HEAD", "main", "master", "trunk"})


class Sources:
    """Renders sources of one tree.

    Args:
        home: the repository that the tree was read from.
        mappings: other repositories on this machine, by address.
        fetch: fetches those that are not; None leaves them unread.
    """

    def __init__(self, home: Repository, mappings: Mapping[str, Path], fetch: GitSource | None, tools: Tools) -> None:
        self.home = home
        self.tools = tools
        self._fetch = fetch
        self._mappings = {normal_url(url): path for url, path in mappings.items()}
        self._opened: dict[tuple[str, str], Repository | str] = {}
        self._own = set(home.urls)

    def adopt(self, repo_url: str) -> None:
        """From now on ``repo_url`` names the tree's own repository."""
        self._own.add(normal_url(repo_url))

    def is_own(self, repo_url: str) -> bool:
        """Whether an Application that names ``repo_url`` means the tree's own repository."""
        return normal_url(repo_url) in self._own

    def render(self, app: Declared) -> list[tuple[SourceSpec, Rendered]]:
        """What each source of ``app`` became, in order."""
        return [(spec, self._render(app, spec)) for spec in app.sources]

    def asks_tools(self, app: Declared) -> bool:
        """Whether rendering ``app`` starts a program: then it waits, and others can be rendered meanwhile."""
        for spec in app.sources:
            if not spec.chart and self.is_own(spec.repo_url):
                folder = self.home.resolve(spec.path or ".")
                if folder is not None and (_explicit_tool(spec) or detect(self.home, folder)) != "directory":
                    return True
        return False

    def repository(self, repo_url: str, revision: str) -> Repository | str:
        """The repository at ``repo_url``, or the reason why it is not read."""
        if self.is_own(repo_url):
            return self.home
        key = (normal_url(repo_url), revision)
        if key not in self._opened:
            self._opened[key] = self._open(repo_url, revision, key[0])
        return self._opened[key]

    def _open(self, repo_url: str, revision: str, name: str) -> Repository | str:
        shown = without_credentials(repo_url)
        try:
            if name in self._mappings:
                return open_repository(self._mappings[name], label=name)
            if self._fetch is not None:
                files = self._fetch.open(repo_url, "" if revision == "HEAD" else revision)
                return Repository(files, label=name, revision=files.commit)
        except (InputError, RemoteError) as error:
            return error.message
        return f"it lives in {shown}, another repository"

    def _render(self, app: Declared, spec: SourceSpec) -> Rendered:
        explicit = _explicit_tool(spec)
        for word, value in (("address", spec.repo_url), ("path", spec.path), ("chart", spec.chart)):
            checked = known(value)
            if word == "address" and self.is_own(value):
                continue
            if isinstance(checked, Unknown):
                reason = f"its {word} {value!r} is {checked.reason}"
                return Rendered(explicit or ("helm" if spec.chart else "none"), (), (), "unresolved", reason)
        if not spec.repo_url:
            finding = Finding(
                "application-invalid",
                Severity.ERROR,
                f"a source of {app.name} has no repoURL",
                "",
                spec.where,
                "Argo CD would not render it",
                "write the repository's address",
            )
            return Rendered(explicit or "none", (), (finding,), "not-rendered", "it names no repository")
        if spec.ref and not spec.path and not spec.chart:
            return Rendered("none")
        if spec.chart:
            return self._chart(app, spec)
        repository = self.repository(spec.repo_url, spec.revision)
        if isinstance(repository, str):
            return Rendered(explicit or "none", (), (), "remote", repository)
        folder = repository.resolve(spec.path or ".")
        if folder is None:
            return _missing(spec, repository)
        tool = explicit or detect(repository, folder)
        found: list[Finding] = []
        if repository is self.home and spec.revision not in _OWN_REVISIONS and spec.revision != repository.revision:
            found.append(
                Finding(
                    "other-revision",
                    Severity.NOTE,
                    f"the source asks for revision {spec.revision!r}, and is read at the tree's own",
                    "",
                    spec.where,
                    "one tree is read at one revision",
                    "",
                )
            )
        rendered = self._by_tool(app, spec, repository, folder, tool)
        if found:
            return Rendered(
                rendered.tool, rendered.objects, [*rendered.findings, *found], rendered.state, rendered.reason
            )
        return rendered

    def _by_tool(
        self, app: Declared, spec: SourceSpec, repository: Repository, folder: str, tool: ToolName
    ) -> Rendered:
        if tool == "directory":
            return render_directory(repository, folder, spec)
        if tool == "kustomize":
            return render_kustomize(repository, folder, mapping(spec.body.get("kustomize")), self.tools)
        if tool == "helm":
            return self._helm(app, spec, repository, folder)
        name = mapping(spec.body.get("plugin")).get("name") or "chosen by its own rules"
        return Rendered(
            "plugin", (), (), "not-rendered", f"a config management plugin ({name}) renders it, and is not run"
        )

    def _helm(self, app: Declared, spec: SourceSpec, repository: Repository, folder: str) -> Rendered:
        refs = {other.ref: self.repository(other.repo_url, other.revision) for other in app.sources if other.ref}
        request: HelmRequest | Rendered = helm_request(app, spec, repository, folder, refs)
        return request if isinstance(request, Rendered) else render_helm(request, self.tools)

    def render_chart(self, folder: str) -> Rendered:
        """A chart of the tree's own repository with its default values, as somebody would install it by hand."""
        request = chart_request(self.home, folder)
        return request if isinstance(request, Rendered) else render_helm(request, self.tools)

    def _chart(self, app: Declared, spec: SourceSpec) -> Rendered:
        mapped = self._mappings.get(normal_url(f"{spec.repo_url.rstrip('/')}/{spec.chart}"))
        if mapped is not None:
            try:
                repository = open_repository(mapped, label=spec.chart)
            except InputError as error:
                return Rendered("helm", (), (), "remote", error.message)
            return self._helm(app, spec, repository, "")
        shown = without_credentials(spec.repo_url)
        return Rendered("helm", (), (), "remote", f"the chart {spec.chart} comes from {shown}, which is not read")


def _explicit_tool(spec: SourceSpec) -> ToolName | None:
    for key in ("helm", "kustomize", "directory", "plugin"):
        value = spec.body.get(key)
        # An empty ``plugin`` asks for a plugin; the others are defaults that say nothing when they are empty.
        if value or (key == "plugin" and value is not None):
            return key
    return None


def detect(repository: Repository, folder: str) -> ToolName:
    """How Argo CD would render ``folder``: https://argo-cd.readthedocs.io/en/stable/user-guide/tool_detection/"""
    if repository.has(f"{folder}/Chart.yaml" if folder else "Chart.yaml"):
        return "helm"
    return "kustomize" if repository.kustomization(folder) else "directory"


def _missing(spec: SourceSpec, repository: Repository) -> Rendered:
    finding = Finding(
        "source-path-missing",
        Severity.ERROR,
        f"the source names the path {spec.path!r}, which does not exist",
        "",
        spec.path_where,
        f"looked for in {repository.label or 'this repository'}, from the folder that was read and from the top",
        "correct spec.source.path, or commit the folder",
    )
    return Rendered("none", (), (finding,), "not-rendered", f"its path {spec.path!r} does not exist")
