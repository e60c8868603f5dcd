"""What every ``VaultConnection`` must answer: run against the simulated vault, and by a program against a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keyleaf.client import VaultAnswer, VaultConnection

EXPIRED = 1_500_000_000
NOT_BEFORE = 4_000_000_000

EXPECTED: dict[str, dict[str, Any]] = {
    "latest": {"status": 200, "value": "second", "version": "newest"},
    "pinned": {"status": 200, "value": "first", "version": "oldest"},
    "another spelling": {"status": 200, "value": "second", "version": "newest"},
    "no such version": {"status": 404},
    "missing": {"status": 404},
    "disabled": {"status": 403, "inner": "SecretDisabled"},
    "forbidden": {"status": 403, "inner": "ForbiddenByRbac"},
    "expired": {"status": 200, "value": "late", "expires_on": float(EXPIRED)},
    "not yet valid": {"status": 200, "value": "early", "not_before": float(NOT_BEFORE)},
}


async def answers(connection: VaultConnection, vault_url: str, oldest: str, newest: str) -> dict[str, dict[str, Any]]:
    """Ask a furnished vault for everything in EXPECTED."""
    asked = {
        "latest": ("rotated", ""),
        "pinned": ("rotated", oldest),
        "another spelling": ("ROTATED", ""),
        "no such version": ("rotated", "0" * 32),
        "missing": ("missing", ""),
        "disabled": ("disabled", ""),
        "forbidden": ("forbidden", ""),
        "expired": ("expired", ""),
        "not yet valid": ("early", ""),
    }
    headers = {"x-ms-client-request-id": "7d9d8a3b-4c1e-4a55-9d0e-2f6f0a3b1c11"}
    names = {oldest: "oldest", newest: "newest"}
    return {
        what: summary(await connection.get(vault_url, name, version, headers), names)
        for what, (name, version) in asked.items()
    }


def summary(answer: VaultAnswer, names: Mapping[str, str]) -> dict[str, Any]:
    """What of an answer does not change from run to run."""
    assert answer.outcome == "answered", answer
    assert answer.enabled
    found = {
        "status": answer.status,
        "value": answer.secret.reveal() if answer.secret else None,
        "version": names.get(answer.version),
        "inner": answer.inner,
        "expires_on": answer.expires_on,
        "not_before": answer.not_before,
    }
    return {name: value for name, value in found.items() if value not in (None, "")}
