"""``keyleaf plan``: what would change in Azure, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.markup import escape

from keyleaf.cli import azure_options as o
from keyleaf.cli.present import console, finding_as_data, print_findings, print_json
from keyleaf.cli.reconcile import plan_tree
from keyleaf.cli.session import Options, connect
from keyleaf.plan import Change, Plan
from keyleaf.tree import read_tree

CHANGES = 10
_SIGNS = {"create": "[green]+[/]", "update": "[yellow]~[/]", "delete": "[red]-[/]"}


def plan(
    path: o.TreePath,
    revision: o.Revision = "",
    bind: o.BindTo = "",
    create_vaults: o.CreateVaults = False,
    as_json: o.Json = False,
    tree_id: o.TreeId = "",
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
    resource_group: o.ResourceGroup = "",
    location: o.Region = "",
    issuer: o.Issuer = "",
) -> None:
    """Show what apply would change in Azure. Exit code 0: nothing; 10: changes; 1: a finding is an error."""
    options = Options(state, azure, tree_id, subscription, resource_group, location, issuer, bind, create_vaults)
    tree = read_tree(path, revision)
    made = plan_tree(connect(options=options, path=path), tree)
    if as_json:
        print_json(plan_as_data(made))
    else:
        print_plan(made)
    if made.errors:
        raise typer.Exit(1)
    if not made.empty:
        raise typer.Exit(CHANGES)


def plan_as_data(made: Plan) -> dict[str, object]:
    """A plan as plain data, for ``--json``."""
    settings = made.desired.settings
    return {
        "tree": settings.tree,
        "subscription": settings.subscription,
        "resource_group": settings.resource_group,
        "bind": settings.bind,
        "changes": [change.describe() for change in made.changes],
        "findings": [finding_as_data(finding) for finding in made.findings],
    }


def print_plan(made: Plan) -> None:
    """Changes by Application, then the findings, then how many of each."""
    out = console()
    shown = ""
    for change in made.changes:
        if change.application != shown or change is made.changes[0]:
            shown = change.application
            out.print(f"[bold]{escape(shown or 'no longer in Git')}[/]")
        out.print(change_line(change))
    print_findings(made.findings)
    out.print(summary(made.changes, made))


def change_line(change: Change) -> str:
    """One change, as rich markup."""
    place = f"  [dim]{escape(str(change.where))}[/]" if change.where else ""
    what = f"{_SIGNS[change.action]} {change.kind.label} [bold]{escape(change.name)}[/]"
    return f"  {what}{place}  [dim]{escape(change.reason)}[/]"


def summary(changes: Iterable[Change], made: Plan) -> str:
    """How many changes and findings of each sort, as rich markup."""
    count = {"create": 0, "update": 0, "delete": 0}
    for change in changes:
        count[change.action] += 1
    errors = len(made.errors)
    others = len(made.findings) - errors
    told = f"{errors} errors, {others} other findings" if made.findings else "no findings"
    if not sum(count.values()):
        return f"Nothing to change; {told}."
    return f"{count['create']} to create, {count['update']} to update, {count['delete']} to delete; {told}."
