"""The whole of planning in one call."""

from __future__ import annotations

from keyleaf.core.finding import Finding
from keyleaf.plan.desired import desired_state
from keyleaf.plan.diff import difference
from keyleaf.plan.findings import access_findings, identity_findings
from keyleaf.plan.model import Actual, Plan, Settings
from keyleaf.plan.secret_findings import secret_findings
from keyleaf.plan.wiring import wiring_findings
from keyleaf.tree.model import AppTree


def make_plan(tree: AppTree, settings: Settings, actual: Actual, now: float) -> Plan:
    """What has to change in Azure so that it is what ``tree`` declares, and everything that is wrong.

    Args:
        now: seconds since 1970 UTC, for the expiry of secrets.
    """
    desired = desired_state(tree, settings, actual.vaults, actual.secrets)
    changes, conflicts = difference(tree, desired, actual)
    findings = (
        *tree.findings,
        *desired.findings,
        *conflicts,
        *access_findings(tree, desired, actual),
        *identity_findings(tree, desired, actual),
        *secret_findings(tree, desired, actual, now),
        *wiring_findings(tree),
    )
    return Plan(desired, changes, tuple(sorted(dict.fromkeys(findings), key=_gravity)))


def _gravity(finding: Finding) -> tuple[int, str, int]:
    """The worst first, then in the order of the files."""
    where = finding.where
    return -finding.severity, where.file if where else "", where.line if where else 0


def needed_vaults(tree: AppTree) -> frozenset[str]:
    """Names, in lower case, of the vaults that the tree's manifests name."""
    return frozenset(need.vault.lower() for need in tree.needs if isinstance(need.vault, str)) | frozenset(
        seed.vault.lower() for seed in tree.seeds
    )
