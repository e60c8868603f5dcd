"""Role definitions, assignments, conditions, and the decision with its explanation: pure, no clock, no disk."""

from keyleaf.access.assignment import Ancestry, RoleAssignment, holds_at
from keyleaf.access.built_in import BUILT_IN_ROLES
from keyleaf.access.conditions import (
    CONDITION_VERSION,
    REQUEST_SECRET_NAME,
    SECRET_NAME,
    VAULT_NAME,
    Verdict,
    check_condition,
    evaluate_condition,
    secret_names_condition,
)
from keyleaf.access.decision import Decision, NearMiss, Suggestion, decide
from keyleaf.access.least_role import SECRET_ACTIONS, least_role
from keyleaf.access.policies import AccessPolicy, PolicyDecision, decide_by_policy, read_policies
from keyleaf.access.refusal import authorization_failed, forbidden_by_policy, forbidden_by_rbac
from keyleaf.access.roles import Permission, RoleDefinition, action_matches

__all__ = [
    "BUILT_IN_ROLES",
    "CONDITION_VERSION",
    "REQUEST_SECRET_NAME",
    "SECRET_ACTIONS",
    "SECRET_NAME",
    "VAULT_NAME",
    "AccessPolicy",
    "Ancestry",
    "Decision",
    "NearMiss",
    "Permission",
    "PolicyDecision",
    "RoleAssignment",
    "RoleDefinition",
    "Suggestion",
    "Verdict",
    "action_matches",
    "authorization_failed",
    "check_condition",
    "decide",
    "decide_by_policy",
    "evaluate_condition",
    "forbidden_by_policy",
    "forbidden_by_rbac",
    "holds_at",
    "least_role",
    "read_policies",
    "secret_names_condition",
]
