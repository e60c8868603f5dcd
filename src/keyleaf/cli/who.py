"""``keyleaf who``: who declares a secret, who may read it, who did; and what the three say together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from keyleaf.access import Decision
from keyleaf.cli import azure_options as o
from keyleaf.cli.observed import WINDOW, Seen, seen_by
from keyleaf.cli.present import console, print_json, print_table
from keyleaf.cli.secret_name import find_secret
from keyleaf.cli.session import Options, Session, connect, remembered_tree
from keyleaf.cli.why import find_state
from keyleaf.core.clock import SystemClock
from keyleaf.core.scope import secret_scope
from keyleaf.plan import Actual, EffectiveAccess, Grant, Identity, SecretState, State, Vault, classify, desired_state
from keyleaf.plan.naming import APPLICATION
from keyleaf.tree import read_tree
from keyleaf.tree.model import AppTree

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Reader:
    """One identity and one secret, seen from all three sides.

    Attributes:
        grants: where Git declares it; empty if nowhere.
        decision: what the role assignments say; None for an identity that is not there yet.
        seen: what the audit log says; None where no log can be read.
        state: None without a log, or where there is nothing to say.
    """

    name: str
    object_id: str
    application: str
    grants: tuple[Grant, ...]
    decision: Decision | None
    seen: Seen | None
    state: State | None

    @property
    def granted(self) -> bool:
        """Whether it may read the secret."""
        return self.decision is not None and self.decision.allowed


def who(
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="VAULT/NAME; the vault may be left out if one fits.")],
    tree: Annotated[
        str, typer.Option("--tree", help="The tree that declares. Default: that of the last up or apply, else ..")
    ] = "",
    revision: o.Revision = "",
    window: Annotated[float, typer.Option("--days", help="How far back the audit log is looked at.", min=0)] = WINDOW,
    as_json: o.Json = False,
    tree_id: o.TreeId = "",
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
    resource_group: o.ResourceGroup = "",
    location: o.Region = "",
    issuer: o.Issuer = "",
) -> None:
    """Tell who declares a secret, who may read it, and who did."""
    from keyleaf.cloud import read_actual

    options = Options(state, azure, tree_id, subscription, resource_group, location, issuer)
    session = connect(options=options, path=tree)
    path, at = (tree, revision) if tree else remembered_tree(session.local) or (".", revision)
    app_tree = read_tree(path, at)
    vault, name = find_secret(session, secret, app_tree)
    actual = read_actual(session.azure, session.settings(app_tree).tree, {vault.name})
    since = SystemClock().now() - window * DAY
    seen = seen_by(session.local, vault, name, since)
    found = readers(session, app_tree, actual, vault, name, seen)
    if as_json:
        print_json(as_data(vault, name, find_state(actual, vault, name), found, seen is not None))
        return
    client_id = os.environ.get("AZURE_CLIENT_ID", "").lower()
    you = next((identity.name for identity in actual.identities if identity.client_id == client_id), "")
    show(vault, name, find_state(actual, vault, name), found, seen is not None, window, you)


def readers(
    session: Session,
    tree: AppTree,
    actual: Actual,
    vault: Vault,
    name: str,
    seen: Mapping[str, Seen] | None,
) -> list[Reader]:
    """Everybody whom Git, RBAC or the audit log connects with the secret; ``seen`` by object id."""
    desired = desired_state(tree, session.settings(tree), actual.vaults, actual.secrets)
    pair = (vault.name.lower(), name.lower())
    scope = secret_scope(vault.scope, name)
    access = EffectiveAccess(actual)
    by_id: dict[str, Identity] = {identity.principal_id: identity for identity in actual.identities}
    wanted = {identity.name: identity for identity in desired.identities}
    declared: dict[str, list[Grant]] = {}
    for grant in desired.grants:
        if grant.pair == pair:
            existing = actual.identity(wanted[grant.identity].scope)
            declared.setdefault(existing.principal_id if existing else f"?{grant.identity}", []).append(grant)
    principals = dict.fromkeys([*declared, *(p for p, _ in access.readers(scope, vault.name, name)), *(seen or {})])
    found: list[Reader] = []
    for principal in principals:
        identity = by_id.get(principal)
        grants = tuple(declared.get(principal, ()))
        there = not principal.startswith("?")
        decision = access.decide(principal, scope, vault.name, name) if there else None
        observed = seen.get(principal, Seen()) if seen is not None else None
        granted = decision is not None and decision.allowed
        found.append(
            Reader(
                identity.name if identity else (observed.name if observed and observed.name else principal.lstrip("?")),
                principal if there else "",
                identity.tags.get(APPLICATION, "") if identity else (grants[0].application if grants else ""),
                grants,
                decision,
                observed,
                classify(declared=bool(grants), granted=granted, observed=observed.counts) if observed else None,
            )
        )
    return sorted(found, key=lambda reader: (not reader.grants, not reader.granted, reader.name))


def as_data(vault: Vault, name: str, state: SecretState | None, found: list[Reader], logged: bool) -> dict[str, Any]:
    """The answer as plain data, for ``--json``."""
    return {
        "vault": vault.name,
        "secret": name,
        "exists": state is not None and not state.deleted,
        "enabled": state.enabled if state else None,
        "observed": logged,
        "readers": [
            {
                "identity": reader.name,
                "object_id": reader.object_id,
                "application": reader.application,
                "declared": [
                    {"by": g.declared_by, "where": str(g.where), "application": g.application} for g in reader.grants
                ],
                "granted": reader.granted,
                "assignment": reader.decision.assignment_id if reader.decision else "",
                "role": reader.decision.role if reader.decision else "",
                "reads": reader.seen.counts.reads if reader.seen else None,
                "reads_before": reader.seen.counts.reads_before if reader.seen else None,
                "denied": reader.seen.counts.denied if reader.seen else None,
                "last_read": _time(reader.seen.last_read) if reader.seen else None,
                "state": reader.state.value if reader.state else None,
                "advice": reader.state.advice if reader.state else None,
            }
            for reader in found
        ],
    }


def show(
    vault: Vault, name: str, state: SecretState | None, found: list[Reader], logged: bool, window: float, you: str
) -> None:
    """The answer as a table, then advice for whatever is not healthy; ``you`` is the caller's own identity."""
    out = console()
    if state is None or state.deleted:
        out.print(f"[yellow]{escape(vault.name)}/{escape(name)} {'is deleted' if state else 'does not exist'}[/]")
    rows = [
        (
            f"{reader.name} (you)" if reader.name == you else reader.name,
            ", ".join(f"{g.declared_by} {g.where}" for g in reader.grants) or "–",
            _granted(reader),
            f"{reader.seen.counts.reads}" if reader.seen else "?",
            _time(reader.seen.last_read) or "–" if reader.seen else "?",
            reader.state.value if reader.state else "?",
        )
        for reader in found
    ]
    columns = ("identity", "declared by", "granted by", f"reads in {window:g} d", "last read", "state")
    print_table(columns, rows, f"{vault.name}/{name}")
    for reader in found:
        if reader.state not in (None, State.HEALTHY) and reader.name != you:
            out.print(f"[yellow]{escape(reader.name)}[/] {reader.state.value}: {escape(reader.state.advice)}")
    if not logged:
        out.print("[dim]No audit log of this Azure can be read here, so who read it, and the states, are not known.[/]")


def _granted(reader: Reader) -> str:
    if reader.decision is None or reader.decision.assignment is None:
        return "–"
    scope = reader.decision.assignment.scope.path
    return f"{reader.decision.role} on {scope.rsplit('/providers/Microsoft.KeyVault/vaults/', 1)[-1]}"


def _time(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""
