"""Where vaults are: short names to URLs, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from keyleaf.client.reference import SecretReference, vault_address
from keyleaf.core.errors import InputError
from keyleaf.core.names import VAULT_NAME

VAULTS = "KEYLEAF_VAULTS"
DEFAULT_VAULT = "AZURE_KEYVAULT_URL"


@dataclass(frozen=True)
class VaultAddresses:
    """The vaults that a process knows.

    Attributes:
        vaults: short names in lower case to URLs; a name that is not here is ``https://<name>.vault.azure.net``.
        default: URL of the vault of a reference that names none; empty if there is none.
    """

    vaults: Mapping[str, str] = field(default_factory=dict)
    default: str = ""

    @staticmethod
    def from_environment(environment: Mapping[str, str]) -> VaultAddresses:
        """Read KEYLEAF_VAULTS (``name=url,name=url``) and AZURE_KEYVAULT_URL.

        Raises:
            InputError: a variable cannot be used; names it.
        """
        default = environment.get(DEFAULT_VAULT, "").strip()
        vaults: dict[str, str] = {}
        for entry in environment.get(VAULTS, "").split(","):
            if not entry.strip():
                continue
            name, separator, url = (part.strip() for part in entry.partition("="))
            if not separator or not VAULT_NAME.match(name):
                raise InputError(f"{VAULTS}: {entry.strip()!r} is not name=url", hint="payments=https://host[:port]")
            address = _address(VAULTS, url)
            if vaults.setdefault(name.lower(), address) != address:
                raise InputError(f"{VAULTS}: {name!r} has two URLs", hint="keep one of them")
        return VaultAddresses(vaults, _address(DEFAULT_VAULT, default) if default else "")

    def url(self, reference: SecretReference) -> str:
        """The URL of the vault that holds ``reference``, without a slash after it.

        Raises:
            InputError: the reference names no vault, and there is no default one.
        """
        if reference.url:
            return reference.url
        if not reference.vault:
            if not self.default:
                raise InputError(
                    f"{reference.name!r} names no vault, and {DEFAULT_VAULT} is not set",
                    hint=f"write 'vault/{reference.name}', or set {DEFAULT_VAULT}",
                )
            return self.default
        name = reference.vault.lower()
        return self.vaults.get(name) or f"https://{name}.vault.azure.net"


def _address(variable: str, url: str) -> str:
    try:
        return vault_address(url)
    except ValueError as error:
        raise InputError(
            f"{variable}: {url!r} is not the URL of a vault: {error}", hint="https://host[:port]"
        ) from None
