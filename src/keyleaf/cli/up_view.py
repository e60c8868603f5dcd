"""What ``keyleaf up`` shows: the live tree, and the same as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.text import Text
from rich.tree import Tree

from keyleaf.cli.present import finding_as_data
from keyleaf.cli.up_reads import Reads
from keyleaf.cli.up_round import Converged
from keyleaf.runtime import Health, Supervisor, WorkloadStatus, worst
from keyleaf.tree.model import Application

_COLOURS = {
    Health.HEALTHY: "green",
    Health.SUSPENDED: "yellow",
    Health.PROGRESSING: "blue",
    Health.MISSING: "yellow",
    Health.DEGRADED: "red",
}


def sync_of(round_: Converged, application: str) -> str:
    """Argo CD's word for whether Azure is what Git declares for this Application."""
    return "OutOfSync" if any(change.application == application for change in round_.plan.changes) else "Synced"


def health_of(round_: Converged, supervisor: Supervisor, application: str) -> tuple[Health, str]:
    """Health of an Application: its own workloads' and its children's, the worst of them."""
    below = [health_of(round_, supervisor, child.key) for child in round_.tree.children(application)]
    return worst([supervisor.health(application), *below])


def as_data(round_: Converged, supervisor: Supervisor, reads: Reads) -> dict[str, Any]:
    """The state of the whole tree, for ``--json``."""
    statuses = supervisor.status()
    return {
        "applications": [
            {
                "name": app.key,
                "parent": app.parent,
                "namespace": app.destination_namespace,
                "sync": sync_of(round_, app.key),
                "health": str(health_of(round_, supervisor, app.key)[0]),
                "message": health_of(round_, supervisor, app.key)[1],
                "identity": round_.identities.get(app.key, ""),
                "secrets": [
                    {"vault": vault, "secret": secret, "declared": declared, "status": status}
                    for vault, secret, declared, status in _secrets(round_, reads, app.key)
                ],
                "workloads": [_workload_as_data(status) for status in statuses if status.spec.application == app.key],
            }
            for app in round_.tree.applications.values()
        ],
        "not_run": [
            {
                "application": one.application,
                "workload": f"{one.kind}/{one.name}",
                "where": str(one.where),
                "reason": one.reason,
            }
            for one in supervisor.not_run
        ],
        "findings": [finding_as_data(finding) for finding in round_.plan.findings],
    }


def live_tree(round_: Converged, supervisor: Supervisor, reads: Reads, footer: list[str]) -> Group:
    """Applications with sync state, health, identity, secrets and addresses; then what to try."""
    statuses = supervisor.status()
    drawn: dict[str, Tree] = {}
    top = Tree(f"[bold]{escape(round_.tree.root)}[/]", guide_style="dim")
    for app in round_.tree.applications.values():
        node = drawn.get(app.parent, top).add(_line(round_, supervisor, app))
        drawn[app.key] = node
        for vault, secret, declared, status in _secrets(round_, reads, app.key):
            node.add(_secret_line(vault, secret, declared, status))
        for workload in (status for status in statuses if status.spec.application == app.key):
            for line in _workload_lines(workload):
                node.add(line)
        for one in supervisor.not_run:
            if one.application == app.key:
                node.add(f"[dim]{escape(f'{one.kind}/{one.name}')} not run here: {escape(one.reason)}[/]")
    return Group(top, *(Text.from_markup(line) for line in footer))


def _line(round_: Converged, supervisor: Supervisor, app: Application) -> str:
    health, message = health_of(round_, supervisor, app.key)
    sync = sync_of(round_, app.key)
    identity = round_.identities.get(app.key, "")
    own = supervisor.health(app.key)[1]
    return "  ".join(
        part
        for part in (
            f"[bold]{escape(app.key)}[/]",
            f"[{'green' if sync == 'Synced' else 'yellow'}]{sync}[/]",
            f"[{_COLOURS[health]}]{health}[/]",
            f"[cyan]{escape(identity)}[/]" if identity else "",
            f"[dim]{escape(message)}[/]" if message and own == message else "",
        )
        if part
    )


def _secret_line(vault: str, secret: str, declared: bool, status: int) -> str:
    name = escape(f"{vault}/{secret}")
    if not declared:
        return f"[yellow]{name}[/]  [dim]not declared:[/] {status}"
    if not status:
        return f"{name}  [dim]not read yet[/]"
    return f"{name}  [green]read[/]" if status == 200 else f"{name}  [red]{status}[/]"


def _workload_lines(workload: WorkloadStatus) -> Iterator[str]:
    name = escape(f"{workload.spec.kind}/{workload.spec.name}")
    ports = [f"http://127.0.0.1:{port}" for pod in workload.pods for port in pod.ports.values()]
    restarts = f"  [yellow]{workload.restarts} restarts[/]" if workload.restarts else ""
    yield f"[dim]{name}[/]  [{_COLOURS[workload.health]}]{workload.health}[/]  {' '.join(ports)}{restarts}"
    for container, reason in workload.spec.not_run:
        yield f"[dim]container {escape(container)} not run here: {escape(reason)}[/]"


def _secrets(round_: Converged, reads: Reads, application: str) -> list[tuple[str, str, bool, int]]:
    declared = {
        (need.vault.lower(), need.secret.lower()): (need.vault, need.secret)
        for need in round_.tree.needs
        if need.application == application and isinstance(need.vault, str) and isinstance(need.secret, str)
    }
    seen = {(vault, secret): read for (app, vault, secret), read in reads.last.items() if app == application}
    found = [(*names, True, seen[key].status if key in seen else 0) for key, names in declared.items()]
    return found + [(*key, False, read.status) for key, read in seen.items() if key not in declared]


def _workload_as_data(status: WorkloadStatus) -> dict[str, Any]:
    return {
        "kind": status.spec.kind,
        "name": status.spec.name,
        "health": str(status.health),
        "message": status.message,
        "restarts": status.restarts,
        "next_run": status.next_run or None,
        "pods": [
            {
                "name": pod.name,
                "phase": pod.phase,
                "ports": {str(inside): here for inside, here in pod.ports.items()},
                "containers": {
                    name: {"state": c.state, "ready": c.ready, "pid": c.pid, "restarts": c.restarts}
                    for name, c in pod.containers.items()
                },
            }
            for pod in status.pods
        ],
    }
