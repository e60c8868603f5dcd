"""What ``keyleaf up --once`` proves: health, an empty plan, and who can read what, tried as each identity."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from keyleaf.cli.up_round import Converged
from keyleaf.plan import identities_of_accounts
from keyleaf.runtime import Health, Supervisor, VaultFetcher

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Attempt:
    """One identity asked for one secret: the HTTP status that came back, 0 for no answer."""

    identity: str
    vault: str
    secret: str
    declared: bool
    status: int

    @property
    def right(self) -> bool:
        """Whether the answer is what the manifests say."""
        return self.status == (200 if self.declared else 403)


@dataclass(frozen=True, slots=True)
class Proof:
    """Everything that ``--once`` looked at."""

    unhealthy: tuple[tuple[str, str, str], ...]
    pending: int
    errors: int
    matrix: tuple[Attempt, ...]

    @property
    def holds(self) -> bool:
        """Whether there is nothing to object to."""
        return not self.unhealthy and not self.pending and not self.errors and all(a.right for a in self.matrix)

    def as_data(self) -> dict[str, Any]:
        """For ``--json``."""
        wrong = [a for a in self.matrix if not a.right]
        return {
            "holds": self.holds,
            "unhealthy": [
                {"application": app, "health": health, "message": message} for app, health, message in self.unhealthy
            ],
            "pending_changes": self.pending,
            "errors": self.errors,
            "matrix": {
                "pairs": len(self.matrix),
                "declared_read": sum(a.declared and a.right for a in self.matrix),
                "undeclared_refused": sum(not a.declared and a.right for a in self.matrix),
                "wrong": [
                    {"identity": a.identity, "vault": a.vault, "secret": a.secret, "status": a.status} for a in wrong
                ],
            },
        }


async def prove(round_: Converged, supervisor: Supervisor, fetcher: VaultFetcher) -> Proof:
    """Look at everything, and try every (identity, secret) pair through Microsoft's SDK as that identity."""
    fine = (Health.HEALTHY, Health.SUSPENDED)
    unhealthy = tuple(
        (app, str(health), message)
        for app in round_.tree.applications
        for health, message in [supervisor.health(app)]
        if health not in fine
    )
    return Proof(unhealthy, len(round_.plan.changes), len(round_.plan.errors), await _matrix(round_, fetcher))


async def _matrix(round_: Converged, fetcher: VaultFetcher) -> tuple[Attempt, ...]:
    desired = round_.plan.desired
    # One service account of each identity is enough: what is tried is the identity.
    accounts = {name: account for account, name in identities_of_accounts(desired).items()}
    declared = {(grant.identity, *grant.pair) for grant in desired.grants}
    secrets = sorted({grant.pair for grant in desired.grants})
    gate = asyncio.Semaphore(_AT_ONCE)

    async def attempt(account: tuple[str, str], identity: str, vault: str, secret: str) -> Attempt:
        async with gate:
            status = await fetcher.status(*account, vault, secret)
        return Attempt(identity, vault, secret, (identity, vault, secret) in declared, status)

    tries = [attempt(account, name, *pair) for name, account in accounts.items() for pair in secrets]
    return tuple(await asyncio.gather(*tries))
