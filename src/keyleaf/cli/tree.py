"""``keyleaf tree``: the applications of a repository, and the secrets that each one needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from keyleaf.cli import azure_options as o
from keyleaf.cli.present import console, finding_as_data, print_findings, print_json
from keyleaf.core.errors import InputError
from keyleaf.core.finding import Severity
from keyleaf.tree import GitSource, read_tree
from keyleaf.tree.model import Application, AppTree, Orchestration, SecretNeed, SecretSeed, Source, Unknown

Mapped = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="ADDRESS=DIR", help="Read this directory in place of a repository. Repeatable."),
]
FetchRemotes = Annotated[bool, typer.Option("--fetch-remotes", help="Fetch other repositories that Applications name.")]


def tree(
    path: o.TreePath,
    revision: o.Revision = "",
    as_json: o.Json = False,
    fetch_remotes: FetchRemotes = False,
    mapped: Mapped = None,
) -> None:
    """Show the applications, their sources and the secrets they need. Exit code 1: a finding is an error."""
    made = read_tree(
        path, revision, fetch=GitSource() if fetch_remotes else None, mappings=dict(map(_mapping, mapped or ()))
    )
    if as_json:
        print_json(tree_as_data(made))
    else:
        print_tree(made)
    if any(finding.severity >= Severity.ERROR for finding in made.findings):
        raise typer.Exit(1)


def _mapping(text: str) -> tuple[str, Path]:
    address, parted, folder = text.rpartition("=")
    if not parted or not address or not folder:
        raise InputError(f"--map {text} names no directory", hint="write --map https://host/repo.git=../repo")
    return address, Path(folder)


def print_tree(made: AppTree) -> None:
    """A drawing on a terminal; elsewhere one line per thing, indented, with no drawing characters."""
    out = console()
    title = f"{made.root} at {made.revision[:12]}" if made.revision else made.root
    if out.is_terminal:
        drawn = Tree(f"[bold]{escape(title)}[/]")
        _draw(drawn, made, "")
        out.print(drawn)
    else:
        out.print(escape(title))
        for line in _lines(made, "", 1):
            out.print(escape(line))
    print_findings(made.findings)
    out.print(_summary(made))


def _draw(branch: Tree, made: AppTree, parent: str) -> None:
    for app in made.children(parent):
        mine = branch.add(f"[bold cyan]{escape(app.key)}[/]  [dim]{escape(_about(app))}[/]")
        for source in app.sources:
            style = {"rendered": "green", "remote": "yellow", "dynamic": "yellow"}.get(source.state, "red")
            mine.add(f"[{style}]{source.state}[/] {escape(_source(source))}")
        for text in _needs(made, app.key):
            mine.add(f"[magenta]needs[/] {escape(text)}")
        for text in _runs(made, app.key):
            mine.add(f"[blue]runs[/] {escape(text)}")
        _draw(mine, made, app.key)


def _lines(made: AppTree, parent: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for app in made.children(parent):
        yield f"{indent}{app.key}  {_about(app)}"
        for source in app.sources:
            yield f"{indent}  source {source.state}: {_source(source)}"
        for text in _needs(made, app.key):
            yield f"{indent}  needs {text}"
        for text in _runs(made, app.key):
            yield f"{indent}  runs {text}"
        yield from _lines(made, app.key, depth + 1)


def _about(app: Application) -> str:
    place = f"{app.destination_namespace or '(no namespace)'} on {app.destination_server or '(no cluster)'}"
    made_by = f", by ApplicationSet {app.generated_by}" if app.generated_by else ""
    return f"project {app.project}, wave {app.wave}, to {place}{made_by}  {app.where}"


def _source(source: Source) -> str:
    what = source.chart or source.path or (f"${source.ref}" if source.ref else ".")
    at = f" @ {source.revision}" if source.revision else ""
    reason = f": {source.reason}" if source.reason else ""
    tool = "" if source.tool == "none" else f" ({source.tool})"
    return f"{source.repo_url} {what}{at}{tool}{reason}"


def _needs(made: AppTree, key: str) -> Iterator[str]:
    told: set[tuple[str, str, str]] = set()
    for need in made.needs:
        name = _name(need)
        if need.application == key and (name, need.declared_by, need.service_account) not in told:
            told.add((name, need.declared_by, need.service_account))
            account = f" as {need.namespace}/{need.service_account}" if need.service_account else f" by {need.auth}"
            yield f"{name}{account}, {need.declared_by}  {need.where}"


def _runs(made: AppTree, key: str) -> Iterator[str]:
    for one in made.orchestrations:
        if one.application == key:
            secret = one.orchestrator_secret
            named = secret.text if isinstance(secret, Unknown) else secret
            url = one.orchestrator.text if isinstance(one.orchestrator, Unknown) else one.orchestrator
            engine = url or (f"what the secret {named} names" if named else "a SQLite file of its own")
            yield f"Orchestration/{one.name}, module {one.module}, on {engine}  {one.where}"


def _name(need: SecretNeed) -> str:
    vault = f"?{need.vault.text or need.vault.kind}" if isinstance(need.vault, Unknown) else need.vault
    secret = f"?{need.secret.text or need.secret.kind}" if isinstance(need.secret, Unknown) else need.secret
    return f"{vault}/{secret}" + (f"/{need.version}" if need.version else "")


def _summary(made: AppTree) -> str:
    sources = [source for app in made.applications.values() for source in app.sources]
    unread = sum(source.state != "rendered" for source in sources)
    secrets = {_name(need).lower() for need in made.needs}
    count = {severity: sum(f.severity == severity for f in made.findings) for severity in Severity}
    return (
        f"{len(made.applications)} applications, {len(sources)} sources ({unread} not rendered), "
        f"{len(secrets)} secrets, {count[Severity.ERROR]} errors, {count[Severity.WARNING]} warnings, "
        f"{count[Severity.NOTE]} notes."
    )


def tree_as_data(made: AppTree) -> dict[str, object]:
    """A tree as plain data, for ``--json``."""
    needs: dict[str, list[dict[str, object]]] = {}
    for need in made.needs:
        needs.setdefault(need.application, []).append(_need_as_data(need))
    return {
        "root": made.root,
        "revision": made.revision,
        "applications": [
            {
                "key": app.key,
                "name": app.name,
                "namespace": app.namespace,
                "parent": app.parent,
                "depth": app.depth,
                "project": app.project,
                "wave": app.wave,
                "generated_by": app.generated_by,
                "destination": {"server": app.destination_server, "namespace": app.destination_namespace},
                "where": str(app.where),
                "sources": [
                    {
                        "repo_url": source.repo_url,
                        "path": source.path,
                        "chart": source.chart,
                        "revision": source.revision,
                        "tool": source.tool,
                        "state": source.state,
                        "reason": source.reason,
                    }
                    for source in app.sources
                ],
                "needs": needs.get(app.key, []),
            }
            for app in made.applications.values()
        ],
        "unowned_needs": needs.get("", []),
        "seeds": [_seed_as_data(seed) for seed in made.seeds],
        "orchestrations": [_orchestration_as_data(one) for one in made.orchestrations],
        "findings": [finding_as_data(finding) for finding in made.findings],
    }


def _need_as_data(need: SecretNeed) -> dict[str, object]:
    return {
        "vault": _known(need.vault),
        "secret": _known(need.secret),
        "type": need.object_type,
        "version": need.version,
        "namespace": need.namespace,
        "service_account": need.service_account,
        "auth": need.auth,
        "purpose": need.purpose,
        "declared_by": need.declared_by,
        "where": str(need.where),
        "delivery": {
            "form": need.delivery.form,
            "target": need.delivery.target,
            "key": need.delivery.key,
            "property": need.delivery.property,
        },
    }


def _seed_as_data(seed: SecretSeed) -> dict[str, object]:
    return {"vault": seed.vault, "secret": seed.secret, "where": str(seed.where)}


def _orchestration_as_data(one: Orchestration) -> dict[str, object]:
    return {
        "application": one.application,
        "namespace": one.namespace,
        "name": one.name,
        "module": one.module,
        "path": _known(one.path),
        "service_account": one.service_account,
        "vault": _known(one.vault),
        "payload_key": _known(one.payload_key),
        "orchestrator": _known(one.orchestrator),
        "orchestrator_secret": _known(one.orchestrator_secret),
        "replicas": one.replicas,
        "purpose": one.purpose,
        "owner": one.owner,
        "where": str(one.where),
    }


def _known(value: str | Unknown) -> object:
    return {"unknown": value.kind, "text": value.text, "reason": value.reason} if isinstance(value, Unknown) else value
