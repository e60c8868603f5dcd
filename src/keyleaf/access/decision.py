"""The decision whether a principal may do something, and its explanation: a pure function of assignments and roles.

Rule: https://learn.microsoft.com/azure/role-based-access-control/overview (how Azure RBAC determines access)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from keyleaf.access.assignment import Ancestry, RoleAssignment, holds_at
from keyleaf.access.conditions import evaluate_condition
from keyleaf.access.least_role import least_role
from keyleaf.access.roles import RoleDefinition
from keyleaf.core.operation import Demand
from keyleaf.core.scope import Scope


@dataclass(frozen=True, slots=True)
class NearMiss:
    """An assignment of the principal that almost allowed the demand.

    Attributes:
        reason: ``scope`` (the role is right, it is assigned elsewhere), ``action`` (the scope is right, the role lacks
            the action), ``condition`` (its condition was not met), ``role`` (its role definition no longer exists).
        detail: the clause of the condition that was not met; empty otherwise.
    """

    assignment: RoleAssignment
    role: str
    reason: Literal["scope", "action", "condition", "role"]
    detail: str = ""

    def __str__(self) -> str:
        where = f"{self.role} at {self.assignment.scope}"
        match self.reason:
            case "scope":
                return f"{where} does not reach this scope"
            case "action":
                return f"{where} does not include the action"
            case "condition":
                return f"{where} has a condition that was not met: {self.detail}"
            case "role":
                return f"an assignment at {self.assignment.scope} names role {self.role}, which does not exist"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The built-in role with the fewest rights, at the narrowest scope, that would have allowed the demand."""

    role_id: str
    role: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and why.

    Attributes:
        assignment: the one that allowed it; None where denied.
        role: name of the role that allowed it; empty where denied.
        suggestion: what would have allowed it; None where allowed, or where no built-in role has the action.
        near: the principal's assignments that came near, nearest first; at most NEAR_LIMIT.
    """

    allowed: bool
    demand: Demand
    principal_id: str
    assignment: RoleAssignment | None = None
    role: str = ""
    suggestion: Suggestion | None = None
    near: tuple[NearMiss, ...] = ()

    @property
    def assignment_id(self) -> str:
        """Full ARM id of the assignment that allowed it; empty where denied."""
        return self.assignment.id if self.assignment else ""

    def explain(self) -> str:
        """The reason, for a person: one line where allowed; where denied also what would help."""
        what = f"{self.demand.action} at {self.demand.scope}"
        if self.assignment is not None:
            held = f"{self.role} at {self.assignment.scope}"
            return f"allowed: {what}, by {held}" + (", its condition met" if self.assignment.condition else "")
        lines = [f"denied: {what}, for principal {self.principal_id}"]
        lines += [f"- {miss}" for miss in self.near] or ["- it has no role assignment that comes near"]
        if self.suggestion:
            lines.append(f"would allow it: {self.suggestion.role!r} at {self.suggestion.scope}")
        return "\n".join(lines)


NEAR_LIMIT = 5
_NEARNESS = {"condition": 0, "action": 1, "scope": 2, "role": 3}


def decide(
    demand: Demand,
    principal_id: str,
    assignments: Iterable[RoleAssignment],
    roles: Mapping[str, RoleDefinition],
    ancestry: Ancestry,
) -> Decision:
    """Decide one demand.

    Args:
        principal_id: object id; assignments of anybody else are passed over.
        assignments: those of this principal, in the order in which they shall be tried (narrowest first reads best).
        roles: by GUID in lower case.
        ancestry: the management groups above subscriptions.
    """
    wanted = principal_id.lower()
    own = [assignment for assignment in assignments if assignment.principal_id == wanted]
    for assignment in own:
        role = roles.get(assignment.role_definition_id)
        if role is None or not holds_at(assignment.scope, demand.scope, ancestry):
            continue
        if _unmet(demand, assignment, role) == "":
            return Decision(True, demand, wanted, assignment, role.name)
    suggested = least_role(demand.action, data=demand.data)
    return Decision(
        False,
        demand,
        wanted,
        suggestion=Suggestion(suggested.id, suggested.name, demand.scope) if suggested else None,
        near=_near(demand, own, roles, ancestry),
    )


def _unmet(demand: Demand, assignment: RoleAssignment, role: RoleDefinition) -> str | None:
    """Empty: granted. None: no permission covers the action. Otherwise the clause that was not met."""
    unmet: str | None = None
    for permission in role.permissions:
        if not permission.covers(demand.action, data=demand.data):
            continue
        unmet = ""
        for condition in (permission.condition, assignment.condition):
            if condition:
                verdict = evaluate_condition(condition, demand.action, demand.attributes)
                if not verdict.allowed:
                    unmet = verdict.clause
                    break
        if unmet == "":
            return ""
    return unmet


def _near(
    demand: Demand, own: list[RoleAssignment], roles: Mapping[str, RoleDefinition], ancestry: Ancestry
) -> tuple[NearMiss, ...]:
    found: list[NearMiss] = []
    for assignment in own:
        holds = holds_at(assignment.scope, demand.scope, ancestry)
        role = roles.get(assignment.role_definition_id)
        if role is None:
            if holds:
                found.append(NearMiss(assignment, assignment.role_definition_id, "role"))
            continue
        covers = role.covers(demand.action, data=demand.data)
        if holds and covers:
            found.append(NearMiss(assignment, role.name, "condition", _unmet(demand, assignment, role) or ""))
        elif holds:
            found.append(NearMiss(assignment, role.name, "action"))
        elif covers:
            found.append(NearMiss(assignment, role.name, "scope"))
    found.sort(key=lambda miss: (_NEARNESS[miss.reason], -_common(miss.assignment.scope, demand.scope)))
    return tuple(found[:NEAR_LIMIT])


def _common(one: Scope, other: Scope) -> int:
    pairs = zip(one.key.split("/"), other.key.split("/"), strict=False)
    count = 0
    for left, right in pairs:
        if left != right:
            break
        count += 1
    return count
