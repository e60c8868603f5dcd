"""What is wrong with the secrets that Git declares: told from their attributes, never from their values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from keyleaf.core.finding import Finding, Severity
from keyleaf.plan.model import Actual, Desired, Grant, SecretState
from keyleaf.tree.model import AppTree

EXPIRES_SOON = 30 * 24 * 3600.0


def secret_findings(tree: AppTree, desired: Desired, actual: Actual, now: float) -> Iterator[Finding]:
    """Declared secrets that are missing, deleted, disabled, expired, or will expire within 30 days.

    Expiry is informational: Key Vault goes on serving an expired secret, and so nothing else would tell.
    Source: https://learn.microsoft.com/azure/key-vault/secrets/about-secrets#secret-attributes

    Args:
        now: seconds since 1970 UTC.
    """
    states = {(state.vault.lower(), state.name.lower()): state for state in actual.secrets}
    seeds = {(seed.vault.lower(), seed.secret.lower()): seed for seed in tree.seeds}
    told: set[tuple[str, str, str]] = set()
    for grant in desired.grants:
        if (grant.application, *grant.pair) in told:
            continue
        told.add((grant.application, *grant.pair))
        state = states.get(grant.pair)
        if state is not None:
            yield from _attributes(grant, state, now)
        elif grant.vault.lower() in actual.listed:
            seed = seeds.get(grant.pair)
            yield Finding(
                "secret-missing",
                Severity.WARNING if seed else Severity.ERROR,
                f"{grant.declared_by} asks for {grant.vault}/{grant.secret}, which does not exist",
                grant.application,
                grant.where,
                f"nobody has set it; the SecretSeed at {seed.where} gives it a first value on keyleaf up"
                if seed
                else "nobody has set it",
                f"keyleaf secret set {grant.vault}/{grant.secret}",
            )
    needed: dict[str, Grant] = {}
    for grant in desired.grants:
        needed.setdefault(grant.vault.lower(), grant)
    for vault, grant in needed.items():
        if vault in actual.unreadable:
            yield Finding(
                "vault-unreadable",
                Severity.WARNING,
                f"the secrets of {grant.vault} could not be listed, so nothing is known of their state",
                grant.application,
                grant.where,
                actual.unreadable[vault],
                'az role assignment create --role "Key Vault Reader" --scope <vault id> --assignee <you>',
            )


def _attributes(grant: Grant, state: SecretState, now: float) -> Iterator[Finding]:
    name = f"{state.vault}/{state.name}"

    def finding(code: str, severity: Severity, message: str, cause: str, fix: str) -> Finding:
        return Finding(code, severity, message, grant.application, grant.where, cause, fix)

    if state.deleted:
        yield finding(
            "secret-deleted",
            Severity.ERROR,
            f"{grant.declared_by} asks for {name}, which is deleted",
            "it waits in soft delete, and its name cannot be used until it is recovered or purged",
            f"keyleaf secret recover {name}",
        )
        return
    if not state.enabled:
        yield finding(
            "secret-disabled",
            Severity.ERROR,
            f"{grant.declared_by} asks for {name}, whose latest version is disabled",
            "Key Vault answers 403 for a disabled version, whatever the roles",
            f"keyleaf secret enable {name}",
        )
    if state.expires is not None and state.expires <= now:
        yield finding(
            "secret-expired",
            Severity.ERROR,
            f"{name} expired on {_day(state.expires)}",
            "Key Vault goes on serving it; what it opens may refuse it",
            f"keyleaf secret set {name}",
        )
    elif state.expires is not None and state.expires - now <= EXPIRES_SOON:
        yield finding(
            "secret-expires-soon",
            Severity.WARNING,
            f"{name} expires on {_day(state.expires)}",
            "that is less than 30 days away",
            f"keyleaf secret set {name}",
        )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
