"""One request for one secret: the protocol that the reader speaks to a vault, and the real vault behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from keyleaf.core.secret import Secret

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError
    from azure.keyvault.secrets import KeyVaultSecret

Outcome = Literal["answered", "away", "sign-in failed"]


@dataclass(frozen=True)
class VaultAnswer:
    """What came of one request.

    Attributes:
        outcome: ``answered`` where the vault sent a status; ``away`` where nothing came back; ``sign-in failed``
            where there is no token, or the vault did not take it.
        status: HTTP status; 0 where there was none.
        secret: the value, with status 200 only.
        version: the version that was served.
        expires_on: ``exp``, seconds since 1970-01-01 UTC.
        not_before: ``nbf``, likewise.
        inner: Azure's inner error code, such as ``SecretDisabled``.
        retry_after: the Retry-After header as it was sent.
        detail: name of the exception's type, where nothing was answered.
    """

    outcome: Outcome
    status: int = 0
    secret: Secret | None = None
    version: str = ""
    enabled: bool = True
    expires_on: float | None = None
    not_before: float | None = None
    inner: str = ""
    retry_after: str = ""
    detail: str = ""


class VaultConnection(Protocol):
    """Sends one request for a secret, with no retry of its own."""

    async def get(self, vault_url: str, name: str, version: str, headers: Mapping[str, str]) -> VaultAnswer:
        """Ask ``vault_url`` for a version of ``name``, empty for the latest; a failure is an answer, never raised."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


class AzureVaultConnection:
    """``azure.keyvault.secrets.aio.SecretClient`` with ``DefaultAzureCredential``: one client per vault.

    Nothing is retried below the reader: neither the vault's requests nor those for a token, so that the circuit
    breaker sees each failure. The SDK's loggers are left as they are.
    """

    def __init__(self) -> None:
        self._credential: Any = None
        self._clients: dict[str, Any] = {}

    async def get(self, vault_url: str, name: str, version: str, headers: Mapping[str, str]) -> VaultAnswer:
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError

        try:
            client = self._client(vault_url)
        except ValueError as error:  # of a credential whose environment variables contradict each other
            return VaultAnswer("sign-in failed", detail=type(error).__name__)
        try:
            found = await client.get_secret(name, version or None, headers=dict(headers))
        except ClientAuthenticationError as error:
            return VaultAnswer("sign-in failed", status=error.status_code or 0, detail=type(error).__name__)
        except HttpResponseError as error:
            return _refused(error)
        except (AzureError, OSError, TimeoutError) as error:
            return VaultAnswer("away", detail=type(error).__name__)
        return _served(found)

    async def close(self) -> None:
        opened = [*self._clients.values(), *([self._credential] if self._credential else [])]
        self._clients, self._credential = {}, None
        for each in opened:
            await each.close()

    def _client(self, vault_url: str) -> Any:
        if vault_url not in self._clients:
            from urllib.request import getproxies

            from azure.identity.aio import DefaultAzureCredential
            from azure.keyvault.secrets.aio import SecretClient

            if self._credential is None:
                self._credential = DefaultAzureCredential(retry_total=0)
            # Where no proxy is set, aiohttp need not look for one, in a thread, for each request: a third of its CPU.
            self._clients[vault_url] = SecretClient(
                vault_url, self._credential, retry_total=0, use_env_settings=bool(getproxies())
            )
        return self._clients[vault_url]


def _served(found: KeyVaultSecret) -> VaultAnswer:
    about = found.properties
    return VaultAnswer(
        "answered",
        status=200,
        secret=None if found.value is None else Secret(found.value),
        version=about.version or "",
        enabled=about.enabled is not False,
        expires_on=about.expires_on.timestamp() if about.expires_on else None,
        not_before=about.not_before.timestamp() if about.not_before else None,
    )


def _refused(error: HttpResponseError) -> VaultAnswer:
    if not error.status_code:
        return VaultAnswer("away", detail=type(error).__name__)
    inner = getattr(error.error, "innererror", None)
    headers = getattr(error.response, "headers", {})
    return VaultAnswer(
        "answered",
        status=error.status_code,
        inner=str(inner.get("code", "")) if isinstance(inner, Mapping) else "",
        retry_after=str(headers.get("Retry-After", "")),
    )
