"""The whole reading: from a place to an AppTree."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path

from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.files import FileSet
from keyleaf.tree.git import GitFiles, GitSource
from keyleaf.tree.growing import Grown, grow
from keyleaf.tree.identities import service_accounts
from keyleaf.tree.manifests import manifests_of
from keyleaf.tree.model import AppTree, Manifest
from keyleaf.tree.needs import find_needs
from keyleaf.tree.opening import open_repository
from keyleaf.tree.projects import check_project
from keyleaf.tree.repository import Repository, without_credentials
from keyleaf.tree.sources import Sources
from keyleaf.tree.tools import Tools


def read_tree(
    root: str | Path | FileSet,
    revision: str = "",
    *,
    fetch: GitSource | None = None,
    tools: Tools | None = None,
    mappings: Mapping[str, Path] | None = None,
) -> AppTree:
    """Read the tree of applications at ``root``.

    Args:
        root: a directory, a Git repository (path, ``file://``, ``https://``, ``ssh://``, ``user@host:path``;
            ``https://host/repo.git//folder`` for a folder of it), or files in memory.
        revision: branch, tag or commit. A directory without one is read as it stands, uncommitted changes included.
        fetch: fetches other repositories that Applications name; without it they are left unread, and said to be.
        tools: runs kustomize and helm, and remembers what they made: hand the same one to each reading of one tree.
        mappings: directories or repositories on this machine to read in place of addresses.

    Raises:
        InputError: there is no such place or revision.
        RemoteError: a remote repository did not answer.

    Whatever is wrong *in* the tree is a finding, never an error.
    """
    repository = open_repository(root, revision, fetch)
    collecting = gc.isenabled()
    # Nearly everything that is made here is kept, and no cycles are: collecting would only take half of the time.
    gc.disable()
    try:
        sources = Sources(repository, mappings or {}, fetch, tools or Tools())
        return _assembled(root, repository, grow(repository, sources))
    finally:
        if collecting:
            gc.enable()
        if isinstance(repository.files, GitFiles):
            repository.files.close()


def _assembled(root: str | Path | FileSet, repository: Repository, grown: Grown) -> AppTree:
    pairs, found = manifests_of(grown)
    findings = [*grown.findings, *found]
    projects: dict[str, Manifest] = {}
    for source, manifest in pairs:
        if source.kind == "AppProject":
            projects.setdefault(manifest.name, manifest)
    by_application: dict[str, list[Manifest]] = {}
    for _, manifest in pairs:
        by_application.setdefault(manifest.application, []).append(manifest)
    for node in grown.nodes:
        project = projects.get(node.app.project)
        findings.extend(check_project(node.app, node.key, project, by_application.get(node.key, ())))
    kept = [
        pair for pair in pairs if not pair[0].api_version.startswith("argoproj.io/") or pair[0].kind not in _CONTROL
    ]
    said = find_needs(kept, {node.key: node.parent for node in grown.nodes}, repository)
    findings.extend(said.findings)
    findings.extend(
        Finding(
            "link-leaves-tree",
            Severity.WARNING,
            f"the link {repository.shown(path)} leads out of the tree, and is not followed",
            "",
            Location(repository.shown(path)),
            "what it points to is not part of the repository",
            "replace it by a file",
        )
        for path in repository.files.escaping()
    )
    return AppTree(
        without_credentials(str(root)) if isinstance(root, str | Path) else "",
        repository.revision,
        {node.key: node.application() for node in grown.nodes},
        tuple(manifest for _, manifest in kept),
        service_accounts(kept, said.needs),
        said.needs,
        said.seeds,
        tuple(dict.fromkeys(findings)),
        projects,
        tuple(manifest for source, manifest in pairs if source.kind == "ApplicationSet"),
        said.orchestrations,
    )


_CONTROL = frozenset({"Application", "ApplicationSet", "AppProject"})
