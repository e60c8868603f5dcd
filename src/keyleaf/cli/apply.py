"""``keyleaf apply``: make Azure what Git declares."""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from keyleaf.cli import azure_options as o
from keyleaf.cli.plan import change_line, plan_as_data, print_plan
from keyleaf.cli.present import console, print_findings, print_json
from keyleaf.cli.reconcile import plan_tree, reconcile
from keyleaf.cli.session import Options, connect, remember_tree
from keyleaf.core.errors import InputError
from keyleaf.tree import read_tree


def apply(
    path: o.TreePath,
    revision: o.Revision = "",
    yes: bool = typer.Option(False, "--yes", "-y", help="Do not ask."),
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
    """Carry out the plan, parents before children. May be repeated, and goes on where a killed run stopped."""
    options = Options(state, azure, tree_id, subscription, resource_group, location, issuer, bind, create_vaults)
    tree = read_tree(path, revision)
    session = connect(options=options, path=path)
    made = plan_tree(session, tree)
    out = console(stderr=as_json)
    if not made.empty and not yes:
        if as_json or not sys.stdin.isatty():
            raise InputError("apply asks before it changes anything", hint="add --yes where nobody can answer")
        print_plan(made)
        if not typer.confirm("Apply?"):
            raise typer.Exit(130)
    done = reconcile(session, tree, made, lambda change: out.print(change_line(change)))
    remember_tree(session.local, path, revision)
    after, identities = done.after, done.identities
    if as_json:
        client_ids = {name: identity.client_id for name, identity in identities.items()}
        print_json({"applied": plan_as_data(made), "remaining": plan_as_data(after), "client_ids": client_ids})
    else:
        for name, identity in identities.items():
            out.print(f"{escape(name)}  [dim]client id[/] {identity.client_id}")
        print_findings(after.findings)
        out.print(
            "Azure is what Git declares." if after.empty else f"{len(after.changes)} changes are left: run it again."
        )
    if after.errors or not after.empty:
        raise typer.Exit(1)
