"""Azure scopes and resource ids: where a role assignment holds.

A scope is a path, compared without regard to case, and holds for everything below it. Management groups stand above
subscriptions by configuration, not by path; whoever decides hands in that relation.
Rule: https://learn.microsoft.com/azure/role-based-access-control/scope-overview
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from keyleaf.core.errors import InputError

_SEGMENT = re.compile(r"[^/?#\\%\x00-\x20\x7f]+\Z")
_MANAGEMENT_GROUP = "/providers/microsoft.management/managementgroups/"


@dataclass(frozen=True)
class Scope:
    """One scope. ``path`` keeps the case it was written in; ``key`` is what is compared. ``/`` is the tenant root."""

    path: str

    @staticmethod
    def parse(text: str) -> Scope:
        """Read a scope as ARM writes it.

        Raises:
            InputError: not an absolute path of plain segments, or one that is cut off in the middle.
        """
        trimmed = text.strip().rstrip("/") or "/"
        if trimmed == "/":
            return Scope("/")
        parts = trimmed.split("/")
        if parts[0] or not all(_SEGMENT.match(p) and p not in (".", "..") for p in parts[1:]):
            raise InputError(f"{text!r} is not a scope", hint="it starts with /subscriptions/… or /providers/…")
        head = [p.lower() for p in parts[1:]]
        if head[0] == "providers":
            if len(head) != 4 or head[1:3] != ["microsoft.management", "managementgroups"]:
                raise InputError(f"{text!r} is not a management group's scope")
        elif head[0] != "subscriptions" or len(head) < 2:
            raise InputError(f"{text!r} is not a scope", hint="it starts with /subscriptions/… or /providers/…")
        return Scope(trimmed)

    @cached_property
    def key(self) -> str:
        """The form in which scopes are compared."""
        return self.path.lower()

    @cached_property
    def subscription(self) -> str | None:
        """The subscription's id, in lower case, or None at or above a management group."""
        parts = self.key.split("/")
        return parts[2] if len(parts) > 2 and parts[1] == "subscriptions" else None

    @cached_property
    def management_group(self) -> str | None:
        """The management group's name, in lower case, if this is one."""
        return self.key[len(_MANAGEMENT_GROUP) :] if self.key.startswith(_MANAGEMENT_GROUP) else None

    def contains(self, other: Scope) -> bool:
        """Whether ``other`` is this scope or below it *by path*; management groups are the caller's to resolve."""
        if self.key == "/":
            return True
        return other.key == self.key or other.key.startswith(self.key + "/")

    def __str__(self) -> str:
        return self.path


def resource_group_scope(subscription: str, group: str) -> Scope:
    """The scope of a resource group."""
    return Scope(f"/subscriptions/{subscription}/resourceGroups/{group}")


def vault_scope(subscription: str, group: str, vault: str) -> Scope:
    """The scope of a vault."""
    return Scope(f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/{vault}")


def secret_scope(vault: Scope, secret: str) -> Scope:
    """The scope of one secret in a vault: https://learn.microsoft.com/azure/key-vault/general/rbac-guide"""
    return Scope(f"{vault.path}/secrets/{secret}")


def identity_scope(subscription: str, group: str, name: str) -> Scope:
    """The resource id of a user-assigned managed identity."""
    return Scope(
        f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    )
