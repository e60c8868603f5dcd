"""Desired minus actual: changes and findings. Pure: no clock, no disk, no network, no environment."""

from keyleaf.plan.accounts import ServiceAccountName, ServiceAccountOwners, identities_of_accounts
from keyleaf.plan.desired import desired_state
from keyleaf.plan.diff import difference, stages
from keyleaf.plan.effective import GET_SECRET, EffectiveAccess
from keyleaf.plan.model import (
    AUDIENCE,
    SECRETS_USER,
    Actual,
    Bind,
    Change,
    Credential,
    Desired,
    DesiredAssignment,
    DesiredCredential,
    DesiredIdentity,
    DesiredVault,
    Grant,
    Identity,
    Kind,
    Plan,
    SecretState,
    Settings,
    Vault,
)
from keyleaf.plan.naming import identity_names, identity_tags, is_ours
from keyleaf.plan.planning import make_plan, needed_vaults
from keyleaf.plan.states import Observation, State, classify

__all__ = [
    "AUDIENCE",
    "Actual",
    "Bind",
    "Change",
    "Credential",
    "Desired",
    "DesiredAssignment",
    "DesiredCredential",
    "DesiredIdentity",
    "DesiredVault",
    "EffectiveAccess",
    "GET_SECRET",
    "Grant",
    "Identity",
    "Kind",
    "Observation",
    "Plan",
    "SECRETS_USER",
    "SecretState",
    "ServiceAccountName",
    "ServiceAccountOwners",
    "Settings",
    "State",
    "Vault",
    "classify",
    "desired_state",
    "difference",
    "identities_of_accounts",
    "identity_names",
    "identity_tags",
    "is_ours",
    "make_plan",
    "needed_vaults",
    "stages",
]
