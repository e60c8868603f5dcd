"""Vaults in memory that answer as Key Vault does: versions, attributes, access, throttling, outages, a broken sign-in.

It implements ``VaultConnection`` and passes the same contract as the real one (``vault_contract.py``).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from keyleaf.client import VaultAnswer
from keyleaf.core.clock import Clock
from keyleaf.core.secret import Secret


@dataclass(frozen=True)
class Version:
    """One version of a secret."""

    identifier: str
    value: str
    enabled: bool = True
    expires_on: float | None = None
    not_before: float | None = None


@dataclass(frozen=True)
class Request:
    """What was asked, and when it left and was answered; ``status`` 0 for none."""

    sent: float
    answered: float
    vault_url: str
    name: str
    version: str
    headers: Mapping[str, str]
    status: int


@dataclass
class SimulatedVault:
    """Any number of vaults behind one identity.

    Attributes:
        latency: seconds from a request to its answer; the vault's state is read half-way.
        away: nothing answers: the connection is refused after ``latency``; ``silent`` instead never answers.
        throttled: every request gets 429.
        limit: requests a second beyond which it answers 429; None for no limit.
        status: another status that every request gets, such as 503.
        retry_after: header of what is refused so.
        signed_in: whether a token can be had.
        forbidden: names that the identity may not read.
    """

    clock: Clock
    latency: float = 0.01
    away: bool = False
    silent: bool = False
    throttled: bool = False
    limit: int | None = None
    status: int = 0
    retry_after: str = ""
    signed_in: bool = True
    forbidden: set[str] = field(default_factory=set)
    requests: list[Request] = field(default_factory=list)
    on_their_way: int = 0
    most_on_their_way: int = 0
    closed: bool = False

    def __post_init__(self) -> None:
        self._secrets: dict[tuple[str, str], list[Version]] = {}
        self._identifiers = random.Random(7)

    def put(self, vault_url: str, name: str, value: str, **attributes: float | bool | None) -> str:
        """Set a secret; returns the version."""
        version = Version(self._identifiers.randbytes(16).hex(), value)
        versions = self._secrets.setdefault((vault_url, name.lower()), [])
        versions.append(replace(version, **attributes))  # type: ignore[arg-type]
        return version.identifier

    def change(self, vault_url: str, name: str, version: str = "", **attributes: float | bool | None) -> None:
        """Change attributes of a version, empty for the latest."""
        versions = self._secrets[vault_url, name.lower()]
        place = next((i for i, found in enumerate(versions) if found.identifier == version), -1)
        versions[place] = replace(versions[place], **attributes)  # type: ignore[arg-type]

    def delete(self, vault_url: str, name: str) -> None:
        """Delete a secret with all its versions."""
        del self._secrets[vault_url, name.lower()]

    async def get(self, vault_url: str, name: str, version: str, headers: Mapping[str, str]) -> VaultAnswer:
        sent = self.clock.monotonic()
        self.on_their_way += 1
        self.most_on_their_way = max(self.most_on_their_way, self.on_their_way)
        answer = VaultAnswer("away", detail="CancelledError")
        try:
            answer = await self._exchange(vault_url, name, version, sent)
        finally:
            self.on_their_way -= 1
            now = self.clock.monotonic()
            self.requests.append(Request(sent, now, vault_url, name, version, dict(headers), answer.status))
        return answer

    async def close(self) -> None:
        self.closed = True

    async def _exchange(self, vault_url: str, name: str, version: str, sent: float) -> VaultAnswer:
        if not self.signed_in:
            await asyncio.sleep(self.latency)
            return VaultAnswer("sign-in failed", detail="ClientAuthenticationError")
        await asyncio.sleep(self.latency / 2)
        while self.silent:
            await asyncio.sleep(60)
        if self.away:
            await asyncio.sleep(self.latency / 2)
            return VaultAnswer("away", detail="ServiceRequestError")
        answer = self._status(sent) or self._secret(vault_url, name, version)
        await asyncio.sleep(self.latency / 2)
        return answer

    def _status(self, sent: float) -> VaultAnswer | None:
        served = sum(1 for request in self.requests if request.sent > sent - 1 and request.status == 200)
        if self.throttled or (self.limit is not None and served + self.on_their_way > self.limit):
            return VaultAnswer("answered", status=429, retry_after=self.retry_after)
        return VaultAnswer("answered", status=self.status, retry_after=self.retry_after) if self.status else None

    def _secret(self, vault_url: str, name: str, version: str) -> VaultAnswer:
        if name.lower() in self.forbidden:
            return VaultAnswer("answered", status=403, inner="ForbiddenByRbac")
        versions = self._secrets.get((vault_url, name.lower()), [])
        wanted = [found for found in versions if version in ("", found.identifier)]
        if not wanted:
            return VaultAnswer("answered", status=404)
        found = wanted[-1]
        if not found.enabled:
            return VaultAnswer("answered", status=403, inner="SecretDisabled")
        return VaultAnswer(
            "answered",
            status=200,
            secret=Secret(found.value),
            version=found.identifier,
            expires_on=found.expires_on,
            not_before=found.not_before,
        )
