"""An Azure under test, and what the tests do to it from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyleaf.cloud import Azure
from keyleaf.core.scope import Scope, identity_scope, vault_scope
from keyleaf.plan import Identity, SecretState, Vault


@dataclass(frozen=True)
class World:
    """One Azure under test.

    Attributes:
        set_secret: what some other program does: it makes a secret with these attributes.
    """

    azure: Azure
    group: str
    location: str
    set_secret: Callable[[Vault, SecretState], None]

    def identity(self, name: str = "id-pay") -> Scope:
        return identity_scope(self.azure.subscription, self.group, name)

    def vault(self, name: str) -> Scope:
        return vault_scope(self.azure.subscription, self.group, name)

    def put_identity(self, name: str = "id-pay") -> Identity:
        return self.azure.put_identity(self.identity(name), self.location, {"keyleaf-tree": "shop"})
