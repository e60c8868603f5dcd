"""Which secret a person means: ``VAULT/NAME``, the secret's URL, or a bare name where only one vault can be meant."""

from __future__ import annotations

import re

from keyleaf.cli.session import Session
from keyleaf.core.errors import InputError
from keyleaf.core.names import check_secret_name, check_vault_name
from keyleaf.plan import Vault
from keyleaf.tree.model import AppTree

_URL = re.compile(r"(https://[^/]+)/secrets/([^/]+)(?:/[0-9a-f]{32})?/?\Z")


def find_secret(session: Session, text: str, tree: AppTree | None = None) -> tuple[Vault, str]:
    """The vault and the name of the secret.

    Args:
        tree: where a bare name is looked up first.

    Raises:
        InputError: it is no secret's name, or more than one vault can be meant.
    """
    url = _URL.match(text)
    if url:
        vault = next((v for v in session.azure.vaults() if v.uri.rstrip("/").lower() == url[1].lower()), None)
        if vault is None:
            raise InputError(f"no vault of the subscription is at {url[1]}", hint="write VAULT/NAME")
        return vault, check_secret_name(url[2])
    name, _, rest = text.partition("/")
    if rest:
        return session.vault(check_vault_name(name)), check_secret_name(rest)
    check_secret_name(text)
    declared = {
        need.vault.lower()
        for need in (tree.needs if tree else ())
        if isinstance(need.vault, str) and isinstance(need.secret, str) and need.secret.lower() == text.lower()
    }
    candidates = declared or {vault.name.lower() for vault in session.azure.vaults()}
    if len(candidates) != 1:
        choices = ", ".join(f"{vault}/{text}" for vault in sorted(candidates)[:5])
        raise InputError(
            f"{text!r} does not say in which vault", hint=f"one of: {choices}" if choices else "write VAULT/NAME"
        )
    return session.vault(candidates.pop()), text
