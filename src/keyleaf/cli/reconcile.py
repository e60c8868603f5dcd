"""Read the actual state, plan, apply: the round that ``plan``, ``apply`` and ``up`` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keyleaf.cli.session import Session
from keyleaf.core.clock import SystemClock
from keyleaf.plan import (
    Actual,
    Change,
    Identity,
    Plan,
    ServiceAccountName,
    identities_of_accounts,
    make_plan,
    needed_vaults,
)
from keyleaf.tree.model import AppTree


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What one round did.

    Attributes:
        applied: the plan that was carried out.
        after: the plan of the state that it left; empty unless somebody else changes things at the same time.
        identities: the identities of the tree by name, with their client ids.
    """

    applied: Plan
    after: Plan
    identities: Mapping[str, Identity]

    @property
    def client_ids(self) -> dict[ServiceAccountName, str]:
        """The client id that each (namespace, service account) signs in with."""
        return {
            account: self.identities[name].client_id
            for account, name in identities_of_accounts(self.after.desired).items()
            if name in self.identities
        }


def read_state(session: Session, tree: AppTree) -> Actual:
    """What Azure has now, as far as it concerns ``tree``."""
    # Microsoft's SDKs are imported only where they are used: that takes longer than a plan.
    from keyleaf.cloud import read_actual

    session.renew()
    return read_actual(session.azure, session.settings(tree).tree, needed_vaults(tree))


def plan_tree(session: Session, tree: AppTree) -> Plan:
    """What has to change in Azure for ``tree``, and what is wrong."""
    return make_plan(tree, session.settings(tree), read_state(session, tree), SystemClock().now())


def reconcile(
    session: Session, tree: AppTree, made: Plan | None = None, progress: Callable[[Change], None] | None = None
) -> Reconciled:
    """Plan ``tree`` (or take the plan that was ``made`` and shown), apply it, and plan once more.

    Raises:
        RemoteError: Azure refused a step; the next round goes on from there.
    """
    from keyleaf.cloud import apply_plan

    made = made or plan_tree(session, tree)
    session.renew()
    identities = apply_plan(session.azure, made, progress)
    return Reconciled(made, plan_tree(session, tree), identities)
