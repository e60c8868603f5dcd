"""Role definitions, and the wildcard rule by which their patterns cover an action.

Rule: https://learn.microsoft.com/azure/role-based-access-control/role-definitions
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Permission:
    """One entry of a role's ``permissions``: what it grants, less what its own ``not_…`` patterns take away.

    Attributes:
        condition: an ABAC condition of the role itself, version 2.0; empty for none. It holds in addition to that of
            the assignment ("Key Vault Data Access Administrator" has one).
    """

    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()
    not_data_actions: tuple[str, ...] = ()
    condition: str = ""

    def covers(self, action: str, *, data: bool) -> bool:
        """Whether this entry grants ``action``, its condition aside."""
        granted, taken = (self.data_actions, self.not_data_actions) if data else (self.actions, self.not_actions)
        return any(action_matches(p, action) for p in granted) and not any(action_matches(p, action) for p in taken)


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """A role: a named set of permissions.

    Attributes:
        id: GUID in lower case.
        name: ``roleName``, unique in a tenant without regard to case.
        assignable_scopes: where it may be assigned; ``/`` is everywhere.
    """

    id: str
    name: str
    description: str
    permissions: tuple[Permission, ...]
    assignable_scopes: tuple[str, ...] = ("/",)
    built_in: bool = True

    def covers(self, action: str, *, data: bool) -> bool:
        """Whether any permission grants ``action``, conditions aside: what one entry takes away another may grant."""
        return any(permission.covers(action, data=data) for permission in self.permissions)


def action_matches(pattern: str, action: str) -> bool:
    """Whether ``pattern`` covers ``action``: without regard to case, and ``*`` stands for any text, slashes included.

    Takes time linear in both: a pattern full of stars costs nothing extra.
    """
    first, *rest = pattern.lower().split("*")
    text = action.lower()
    if not rest:
        return text == first
    last = rest.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in rest:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
