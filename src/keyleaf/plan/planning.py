"""The whole of planning in one call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from keyleaf.core.finding import Finding, Severity
from keyleaf.plan.desired import desired_state
from keyleaf.plan.diff import difference
from keyleaf.plan.findings import access_findings, identity_findings
from keyleaf.plan.model import Actual, Change, Kind, Plan, Settings
from keyleaf.plan.secret_findings import secret_findings
from keyleaf.plan.wiring import wiring_findings
from keyleaf.tree.model import AppTree

ASSIGNMENTS_PER_SUBSCRIPTION = 4000


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
        *_over_limit(changes, actual),
        *access_findings(tree, desired, actual),
        *identity_findings(tree, desired, actual),
        *secret_findings(tree, desired, actual, now),
        *wiring_findings(tree),
    )
    return Plan(desired, changes, tuple(sorted(dict.fromkeys(findings), key=_gravity)))


def _over_limit(changes: Iterable[Change], actual: Actual) -> Iterator[Finding]:
    """Azure's limit: https://learn.microsoft.com/azure/role-based-access-control/troubleshoot-limits"""
    held = sum(1 for assignment in actual.assignments if assignment.scope.subscription)
    made = sum(1 for change in changes if change.kind is Kind.ASSIGNMENT and change.action == "create")
    if made and held + made > ASSIGNMENTS_PER_SUBSCRIPTION:
        yield Finding(
            "too-many-role-assignments",
            Severity.ERROR,
            f"{held} role assignments exist and {made} more are planned; a subscription takes "
            f"{ASSIGNMENTS_PER_SUBSCRIPTION}",
            cause="each declared secret gets an assignment of its own",
            fix="--bind vault makes one per identity and vault, with a condition on the secrets' names",
        )


def _gravity(finding: Finding) -> tuple[int, str, int]:
    """The worst first, then in the order of the files."""
    where = finding.where
    return -finding.severity, where.file if where else "", where.line if where else 0


def needed_vaults(tree: AppTree) -> frozenset[str]:
    """Names, in lower case, of the vaults that the tree's manifests name."""
    return frozenset(need.vault.lower() for need in tree.needs if isinstance(need.vault, str)) | frozenset(
        seed.vault.lower() for seed in tree.seeds
    )
