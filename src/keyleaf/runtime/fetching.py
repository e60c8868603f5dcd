"""Gets the secrets that manifests declare, each as the identity that declares it, through Microsoft's SDK."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from keyleaf.core.errors import RemoteError
from keyleaf.runtime.identity import Endpoints, TokenKeeper
from keyleaf.runtime.timing import Timer
from keyleaf.runtime.values import VaultValue

if TYPE_CHECKING:
    from azure.keyvault.secrets.aio import SecretClient


@dataclass(frozen=True, slots=True)
class Read:
    """The last try to read a secret: when (seconds since 1970 UTC), and what went wrong; empty where nothing did."""

    time: float
    problem: str = ""


class Fetcher(Protocol):
    """Reads the value of a secret."""

    async def fetch(self, value: VaultValue, service_account: str) -> bytes:
        """The value as the bytes that a file of it holds.

        Args:
            service_account: whose identity asks where ``value`` names none.

        Raises:
            RemoteError: it could not be read; names vault and secret, never a value.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...


class VaultFetcher:
    """Reads through ``azure-keyvault-secrets``; one client for each (identity, vault)."""

    def __init__(self, endpoints: Endpoints, tokens: TokenKeeper, timer: Timer) -> None:
        self._endpoints = endpoints
        self._tokens = tokens
        self._timer = timer
        self._clients: dict[tuple[str, str, str], SecretClient] = {}
        self._credentials: dict[tuple[str, str], Any] = {}
        self.reads: dict[tuple[str, str, str, str], Read] = {}

    def use(self, endpoints: Endpoints) -> None:
        """Talk to these from now on."""
        if endpoints != self._endpoints:
            self._endpoints = endpoints
            self._clients.clear()
            self._credentials.clear()

    async def fetch(self, value: VaultValue, service_account: str) -> bytes:
        account = value.service_account or service_account
        seen = (value.namespace, account, value.vault.lower(), value.secret.lower())
        try:
            text = await self._get(value, account)
        except RemoteError as error:
            self.reads[seen] = Read(self._timer.now(), error.message)
            raise
        self.reads[seen] = Read(self._timer.now())
        return decoded(value, text)

    async def status(self, namespace: str, service_account: str, vault: str, secret: str) -> int:
        """The HTTP status that one identity gets for one secret; 0 where nothing answered. The value is dropped."""
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            await self._client(namespace, service_account, vault).get_secret(secret)
        except HttpResponseError as error:
            return error.status_code or 0
        except (AzureError, RemoteError, OSError, TimeoutError):
            return 0
        return 200

    async def close(self) -> None:
        for opened in (*self._clients.values(), *self._credentials.values()):
            await opened.close()
        self._clients.clear()
        self._credentials.clear()

    async def _get(self, value: VaultValue, account: str) -> str:
        from azure.core.exceptions import AzureError, HttpResponseError

        client = self._client(value.namespace, account, value.vault)
        what = f"{value.secret} in vault {value.vault}"
        try:
            secret = await client.get_secret(value.secret, value.version or None)
        except HttpResponseError as error:
            code = getattr(getattr(error, "error", None), "code", None) or f"HTTP {error.status_code}"
            inner = getattr(getattr(error, "error", None), "innererror", None) or {}
            detail = inner.get("code", "") if isinstance(inner, Mapping) else ""
            raise RemoteError(
                f"{account} in {value.namespace} cannot read {what}: {detail or code} ({error.status_code})"
            ) from None
        except (TimeoutError, AzureError, OSError) as error:
            raise RemoteError(f"{what} was not to be had: {type(error).__name__}") from None
        return secret.value or ""

    def _client(self, namespace: str, account: str, vault: str) -> SecretClient:
        from azure.identity.aio import ClientAssertionCredential
        from azure.keyvault.secrets.aio import SecretClient

        url = self._endpoints.vaults.get(vault.lower())
        client_id = self._endpoints.client_ids.get((namespace, account))
        if not url:
            raise RemoteError(f"there is no vault {vault!r}", hint="keyleaf plan tells which manifests name it")
        if not client_id:
            raise RemoteError(f"the service account {account!r} in {namespace!r} has no identity")
        key = (namespace, account, vault.lower())
        if key not in self._clients:
            options: dict[str, Any] = {}
            if self._endpoints.ca_bundle:
                options["connection_verify"] = self._endpoints.ca_bundle
            if (namespace, account) not in self._credentials:
                self._credentials[namespace, account] = ClientAssertionCredential(
                    self._endpoints.tenant_id,
                    client_id,
                    lambda: self._tokens.assertion(namespace, account),
                    authority=self._endpoints.authority,
                    **options,
                )
            self._clients[key] = SecretClient(url, self._credentials[namespace, account], retry_total=2, **options)
        return self._clients[key]


def decoded(value: VaultValue, text: str) -> bytes:
    """The bytes that ``value`` asks for out of the secret's ``text``: one JSON property, and its encoding.

    Raises:
        RemoteError: the text is not what the manifest says that it is; it is not shown.
    """
    what = f"{value.secret} in vault {value.vault}"
    if value.property:
        members = json_members(what, text)
        if value.property not in members:
            raise RemoteError(f"{what} has no property {value.property!r}")
        text = members[value.property]
    try:
        if value.encoding == "base64":
            return base64.b64decode(text, validate=True)
        return bytes.fromhex(text) if value.encoding == "hex" else text.encode()
    except (binascii.Error, ValueError):
        raise RemoteError(f"{what} is not {value.encoding}, as its manifest says") from None


def json_members(what: str, text: str) -> dict[str, str]:
    """The members of the JSON object in ``text``; what is no string is written as JSON.

    Raises:
        RemoteError: it is no JSON object.
    """
    try:
        members = json.loads(text)
    except ValueError:
        members = None
    if not isinstance(members, dict):
        raise RemoteError(f"{what} does not hold a JSON object, as its manifest says")
    return {key: member if isinstance(member, str) else json.dumps(member) for key, member in members.items()}
