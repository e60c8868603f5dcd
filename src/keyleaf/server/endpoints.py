"""Which authority is which service: the management endpoint, and one endpoint per vault.

A vault answers at ``https://127.0.0.1:<its port>``, and at ``https://<vault>.<domain>`` where a domain is configured.
A request whose Host header names none of these is refused: that is what stops DNS rebinding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from keyleaf.core.errors import ServiceError

LOOPBACK = "127.0.0.1"
_VAULT_AUDIENCES = ("https://vault.azure.net", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093")
_ARM_AUDIENCES = ("https://management.azure.com", "https://management.core.windows.net")
_GRAPH_AUDIENCES = ("https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What was called.

    Attributes:
        base: scheme and authority as the client wrote them.
        vault: the vault's name; empty for the management endpoint.
        resource: what a vault's challenge names; tokens for it carry it as their audience.
        audiences: what the token's ``aud`` may be.
    """

    kind: Literal["vault", "management"]
    base: str
    vault: str
    resource: str
    audiences: frozenset[str]


@dataclass
class Endpoints:
    """The ports and names of this process."""

    main_port: int
    domain: str = ""
    vaults: dict[int, str] = field(default_factory=dict)
    _known: dict[tuple[int, bytes], Endpoint] = field(default_factory=dict)

    @property
    def authority(self) -> str:
        """Scheme and authority of the management endpoint."""
        return f"https://{LOOPBACK}:{self.main_port}"

    def add(self, port: int, vault: str) -> None:
        """A vault answers at ``port`` from now on."""
        self.vaults[port] = vault
        self._known.clear()

    def remove(self, vault: str) -> None:
        """A vault answers no more."""
        self.vaults = {port: name for port, name in self.vaults.items() if name.lower() != vault.lower()}
        self._known.clear()

    def vault_uri(self, name: str) -> str:
        """The data plane's URL of a vault, with the trailing slash that Resource Manager writes."""
        for port, vault in self.vaults.items():
            if vault.lower() == name.lower():
                return f"https://{LOOPBACK}:{port}/"
        return ""

    def find(self, port: int, host: bytes) -> Endpoint:
        """The endpoint that a Host header on a port names.

        Raises:
            ServiceError: 421 for a name that is not ours.
        """
        found = self._known.get((port, host))
        if found is None:
            found = self._resolve(port, host)
            if len(self._known) < 4096:
                self._known[port, host] = found
        return found

    def is_resource(self, audience: str) -> bool:
        """Whether tokens may be asked for ``audience``."""
        wanted = audience.rstrip("/")
        if wanted in (*_VAULT_AUDIENCES, *_ARM_AUDIENCES, *_GRAPH_AUDIENCES, self.authority):
            return True
        if wanted in (f"https://localhost:{self.main_port}",):
            return True
        if self.domain and wanted in (
            f"https://{self.domain}",
            *(f"https://{self.domain}:{port}" for port in (self.main_port, *self.vaults)),
        ):
            return True
        return any(wanted == f"https://0.0.1:{port}" for port in self.vaults)

    def _resolve(self, port: int, host: bytes) -> Endpoint:
        try:
            text = host.decode("ascii").lower()
        except UnicodeDecodeError:
            text = ""
        name, separator, written = text.rpartition(":")
        if not separator or "]" in written:
            name, written = text, ""
        if name in (LOOPBACK, "localhost", "[::1]") and written in (str(port), "" if port == 443 else str(port)):
            vault = self.vaults.get(port)
            if vault is not None:
                return self._vault(f"https://{text}", vault, f"https://0.0.1:{port}")
            if port == self.main_port:
                return self._management(f"https://{text}")
        elif self.domain and name.endswith(f".{self.domain}"):
            suffix = f":{written}" if written else ""
            vault = name.removesuffix(f".{self.domain}")
            return self._vault(f"https://{text}", vault, f"https://{self.domain}{suffix}")
        elif self.domain and name == self.domain:
            return self._management(f"https://{text}")
        raise ServiceError(421, "MisdirectedRequest", "This server does not answer for the host that was called.")

    @staticmethod
    def _vault(base: str, vault: str, resource: str) -> Endpoint:
        return Endpoint("vault", base, vault, resource, _audiences(resource, *_VAULT_AUDIENCES))

    def _management(self, base: str) -> Endpoint:
        return Endpoint("management", base, "", base, _audiences(base, self.authority, *_ARM_AUDIENCES))


def graph_audiences(base: str) -> frozenset[str]:
    """What the token's ``aud`` may be for Graph."""
    return _audiences(base, *_GRAPH_AUDIENCES)


def _audiences(*names: str) -> frozenset[str]:
    return frozenset(form for name in names for form in (name, f"{name}/"))
