"""Role assignments, and how a scope passes its assignments on to what lies below it.

Rule: https://learn.microsoft.com/azure/role-based-access-control/scope-overview
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyleaf.core.scope import Scope

Ancestry = Mapping[str, tuple[str, ...]]
"""Management groups above a subscription (key: its id in lower case) or above a management group (key: its scope in
lower case): their names in lower case, nearest first."""


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    """One grant: this principal, this role, at this scope.

    Attributes:
        id: full ARM id, as Azure's audit log names it in ``appliedAssignmentId``.
        principal_id: object id in lower case.
        role_definition_id: GUID in lower case.
        condition: ABAC condition, version 2.0; empty for none.
    """

    id: str
    scope: Scope
    principal_id: str
    role_definition_id: str
    condition: str = ""
    description: str = ""


def holds_at(granted: Scope, asked: Scope, ancestry: Ancestry) -> bool:
    """Whether an assignment at ``granted`` holds at ``asked``: the same scope, or one above it."""
    if granted.contains(asked):
        return True
    group = granted.management_group
    if group is None:
        return False
    key = asked.subscription or (asked.key if asked.management_group else None)
    return key is not None and group in ancestry.get(key, ())
