"""What is written where a value should be, and the names that Azure's addresses hold."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from keyleaf.core.names import VAULT_NAME
from keyleaf.tree.model import Unknown

# https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#dns-suffixes-for-object-identifiers
VAULT_DOMAINS = ("vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net", "vault.microsoftazure.de")
_FILLED_LATER = (
    (
        re.compile(r"\$\{[^}]*\}?|\$\([^)]*\)|\$[A-Z_][A-Z0-9_]+"),
        "a variable that something fills in before it is applied",
    ),
    (re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\[\[.*?\]\]", re.DOTALL), "a template that something else renders"),
    (
        re.compile(r"<[^<>]*>|%[A-Za-z_]+%|@@?[A-Za-z_]+@@?|__[A-Za-z_]+__"),
        "a placeholder that somebody fills in elsewhere",
    ),
    (
        re.compile(
            r"\b(?:place-?_?holder|change-?_?me|replace-?_?(?:me|with|this)|fill-?_?me|to-?be-?(?:replaced|set))(?![a-z])"
            r"|^(?:todo|fixme)$|^(?:your|my-?your)[-_]|^x{3,}$|[-_/.](?:your|xxxx*)[-_.]|https?://your[-_.]",
            re.IGNORECASE,
        ),
        "a placeholder that somebody fills in elsewhere",
    ),
    (re.compile(r"^(?:0{8}-0{4}-0{4}-0{4}-0{12}|x{8}-x{4}-x{4}-x{4}-x{12})$", re.IGNORECASE), "an empty id"),
)


def known(value: object) -> str | Unknown:
    """``value`` as text, or why it stands for something that Git does not hold."""
    text = "" if value is None else str(value).strip()
    for pattern, reason in _FILLED_LATER:
        if pattern.search(text):
            return Unknown("unresolved", text, reason)
    return text


def vault_of_url(value: object) -> str | Unknown:
    """The name of the vault at an address such as ``https://kv-shop.vault.azure.net/``.

    In Microsoft's clouds a vault's name is the first label of its host. Private clouds and the embedded server keep
    that form under their own domain, so the first label counts there too; an address that is no host name (an IP
    address, ``localhost``) names no vault.
    """
    text = known(value)
    if isinstance(text, Unknown):
        return text
    try:
        host = (urlsplit(text if "//" in text else f"//{text}").hostname or "").rstrip(".")
    except ValueError:
        host = ""
    name, _, domain = host.partition(".")
    if domain.endswith("managedhsm.azure.net"):
        return Unknown("unresolved", text, "it is the address of a managed HSM, which holds no secrets")
    if domain and VAULT_NAME.match(name) and not re.fullmatch(r"[\d.]+|localhost\.?.*", host):
        return name
    if not text:
        return Unknown("unresolved", text, "no vault is named")
    return Unknown("unresolved", text, f"the address names no vault: it should read https://<vault>.{VAULT_DOMAINS[0]}")
