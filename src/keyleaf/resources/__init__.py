"""The ARM subset: resource groups, identities, federated credentials, roles, role assignments, vaults."""

from keyleaf.resources.access_rows import (
    assignments_around,
    assignments_at,
    load_assignments,
    load_roles,
    management_groups,
)
from keyleaf.resources.routes import operations
from keyleaf.resources.scopes import call_scope, require_scope

__all__ = [
    "assignments_around",
    "assignments_at",
    "call_scope",
    "load_assignments",
    "load_roles",
    "management_groups",
    "operations",
    "require_scope",
]
