"""Which secret an activity wants: a name in a vault, at its latest version or at a pinned one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from keyleaf.core.errors import InputError
from keyleaf.core.names import SECRET_VERSION, VAULT_NAME, check_secret_name, check_vault_name

ExpiredPolicy = Literal["block", "use"]

_FORMS = "write 'vault/name', 'name' for the vault in AZURE_KEYVAULT_URL, or 'https://…/secrets/name[/version]'"


@dataclass(frozen=True)
class SecretReference:
    """One secret, named; it holds no value.

    Attributes:
        vault: short name of the vault; empty for the default one, and where ``url`` has no name in it.
        name: the secret's name; Key Vault compares it without regard to case.
        version: 32 lower-case hex digits, or empty for the latest version at the time of each read.
        url: the vault's URL where the reference was given by URL; empty otherwise.
        expired: what to do with a value after its expiry time: ``block`` waits for a new one, ``use`` takes it.

    Raises:
        InputError: a part breaks Azure's naming rules (see keyleaf.core.names).
    """

    vault: str
    name: str
    version: str = ""
    url: str = ""
    expired: ExpiredPolicy = "block"

    def __post_init__(self) -> None:
        check_secret_name(self.name)
        if self.vault:
            check_vault_name(self.vault)
        if self.version and not SECRET_VERSION.match(self.version):
            raise InputError(f"{self.version!r} is not a version of a secret", hint="32 lower-case hex digits")
        if self.expired not in ("block", "use"):
            raise InputError(f"expired={self.expired!r} is not a policy", hint="'block' or 'use'")

    @property
    def label(self) -> str:
        """How messages call it: ``payments/stripe-api-key``; never the version, never the value."""
        place = self.vault or urlsplit(self.url).netloc
        return f"{place}/{self.name}" if place else self.name


def secret(reference: str, *, version: str = "", expired: ExpiredPolicy = "block") -> SecretReference:
    """Name a secret.

    Args:
        reference: ``vault/name``; ``name`` alone for the vault in AZURE_KEYVAULT_URL; or the secret's identifier,
            ``https://payments.vault.azure.net/secrets/stripe-api-key`` with or without a version.
        version: pin one version; empty takes the latest at each read.
        expired: see SecretReference.

    Raises:
        InputError: it is none of these; one line.

    Forms: https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
    """
    if not isinstance(reference, str) or not isinstance(version, str):
        raise InputError("a secret is named by a string", hint=_FORMS)
    if "://" in reference:
        vault, url, name, in_path = _from_url(reference)
        if in_path and version and in_path != version:
            raise InputError(f"{reference!r} names another version than version={version!r}", hint="name one of them")
        return SecretReference(vault, name, in_path or version, url, expired)
    vault, separator, name = reference.rpartition("/")
    if separator and not vault:
        raise InputError(f"{reference!r} names no secret", hint=_FORMS)
    if "/" in vault:
        raise InputError(f"{reference!r} has more than one '/'", hint=_FORMS)
    return SecretReference(vault, name, version, "", expired)


def vault_address(url: str) -> str:
    """The URL of a vault in the one form that is compared: ``https://host[:port]`` in lower case, no slash after it.

    Raises:
        ValueError: it is not the https URL of a host and nothing else.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port
    if parts.scheme.lower() != "https" or not host or any(character.isspace() for character in url):
        raise ValueError("it does not start with https:// and a host")
    if "@" in parts.netloc or parts.path.strip("/") or "?" in url or "#" in url:
        raise ValueError("it has more in it than a host and a port")
    if ":" in host:
        host = f"[{host}]"
    return f"https://{host}" if port in (None, 443) else f"https://{host}:{port}"


def _from_url(text: str) -> tuple[str, str, str, str]:
    """Vault's short name, vault's URL, secret's name, version."""
    head, found, tail = text.partition("/secrets/")
    parts = tail.rstrip("/").split("/")
    if not found or not 1 <= len(parts) <= 2:
        raise InputError(f"{text!r} is not the URL of a secret", hint=_FORMS)
    try:
        url = vault_address(head)
    except ValueError as error:
        raise InputError(f"{text!r} is not the URL of a secret: {error}", hint=_FORMS) from None
    label = (urlsplit(url).hostname or "").partition(".")
    vault = label[0] if label[2] and VAULT_NAME.match(label[0]) else ""
    return vault, url, parts[0], parts[1] if len(parts) == 2 else ""
