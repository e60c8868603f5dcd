"""One round of ``keyleaf up``: the tree into Azure, missing secrets seeded, and what the processes have to know."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keyleaf.cli.reconcile import read_state
from keyleaf.cli.session import Session, read_connection
from keyleaf.core.clock import SystemClock
from keyleaf.core.secret import Secret
from keyleaf.plan import Actual, Change, Plan, identities_of_accounts, make_plan
from keyleaf.runtime import Endpoints
from keyleaf.tree.model import AppTree, SecretSeed


@dataclass(frozen=True, slots=True)
class Converged:
    """What a round left.

    Attributes:
        changed: how many changes were made; ``seeded`` names of the secrets that got a first value.
        plan: made after them: empty where Azure is what Git declares.
        identities: name of the identity by Application; empty where it needs none.
    """

    tree: AppTree
    changed: int
    seeded: tuple[str, ...]
    plan: Plan
    endpoints: Endpoints
    identities: Mapping[str, str]


def converge(
    session: Session, tree: AppTree, *, seed: bool, progress: Callable[[Change], None] | None = None
) -> Converged:
    """Plan, apply, seed, and plan again where anything was done. Blocking.

    Raises:
        RemoteError: Azure refused a step; the next round goes on from there.
    """
    actual = read_state(session, tree)
    plan = make_plan(tree, session.settings(tree), actual, SystemClock().now())
    changed = len(plan.changes)
    if not plan.empty:
        from keyleaf.cloud import apply_plan

        apply_plan(session.azure, plan, progress)
        actual = read_state(session, tree)
    missing = missing_seeds(tree, actual) if seed else ()
    for one in missing:
        value = seed_value(one)
        client = session.secret_client(one.vault)
        client.set_secret(one.secret, value.reveal(), content_type=one.content_type or None)
    if changed or missing:
        actual = read_state(session, tree) if missing else actual
        plan = make_plan(tree, session.settings(tree), actual, SystemClock().now())
    names = {app: plan.identity_of(app) for app in tree.applications}
    seeded = tuple(f"{one.vault}/{one.secret}" for one in missing)
    return Converged(tree, changed, seeded, plan, _endpoints(session, plan, actual), names)


def missing_seeds(tree: AppTree, actual: Actual) -> tuple[SecretSeed, ...]:
    """The seeds whose secret does not exist; one that was deleted is not brought back behind somebody's back."""
    there = {(state.vault.lower(), state.name.lower()) for state in actual.secrets}
    first: dict[tuple[str, str], SecretSeed] = {}
    for seed in tree.seeds:
        place = (seed.vault.lower(), seed.secret.lower())
        if seed.vault.lower() in actual.listed and place not in there:
            first.setdefault(place, seed)
    return tuple(first.values())


def seed_value(seed: SecretSeed) -> Secret:
    """A fresh value for ``seed``."""
    random = base64.urlsafe_b64encode(secrets.token_bytes(seed.generate)).rstrip(b"=").decode()
    return Secret(seed.template.replace("{random}", random))


def _endpoints(session: Session, plan: Plan, actual: Actual) -> Endpoints:
    assert session.local is not None
    connection = read_connection(session.local) or {}
    client_ids = {
        identity.name: found.client_id
        for identity in plan.desired.identities
        if (found := actual.identity(identity.scope)) is not None
    }
    return Endpoints(
        str(connection.get("authority", "")),
        str(connection.get("tenant_id", "")),
        str(connection.get("ca_bundle", "")),
        {
            account: client_ids[name]
            for account, name in identities_of_accounts(plan.desired).items()
            if name in client_ids
        },
        {vault.name.lower(): vault.uri.rstrip("/") for vault in actual.vaults},
    )
