"""Names and marks of the Azure objects that keyleaf makes: always the same for the same tree."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping

MANAGED_BY = "keyleaf-managed-by"
TREE = "keyleaf-tree"
APPLICATION = "keyleaf-application"
CREDENTIAL_PREFIX = "keyleaf-"
_NAMESPACE = uuid.UUID("6f1d2c52-77f5-5d0b-9c0e-3a4f2f2a9d61")
_NOT_IN_A_NAME = re.compile(r"[^0-9A-Za-z_-]+")
_DESCRIPTION = re.compile(r"keyleaf tree=(\S+) app=(\S*)")


def identity_names(applications: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names of the identities by Application key: ``id-<name>``, made unique where two Applications would share one.

    Args:
        applications: (key, name) of each Application.

    Rule: 3 to 128 letters, digits, hyphens and underscores, without regard to case:
    https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules#microsoftmanagedidentity
    """
    wanted = {key: f"id-{_NOT_IN_A_NAME.sub('-', name)}" for key, name in applications}
    count: dict[str, int] = {}
    for name in wanted.values():
        count[name.lower()] = count.get(name.lower(), 0) + 1
    names: dict[str, str] = {}
    for key, name in wanted.items():
        if count[name.lower()] > 1 or len(name) > 128:
            name = f"{name[:115]}-{uuid.uuid5(_NAMESPACE, key).hex[:12]}"
        names[key] = name
    return names


def identity_tags(tree: str, application: str) -> dict[str, str]:
    """The tags that mark an identity as keyleaf's."""
    return {MANAGED_BY: "keyleaf", TREE: tree, APPLICATION: application}


def is_ours(tags: Mapping[str, str], tree: str) -> bool:
    """Whether keyleaf made the tagged resource for this tree."""
    return tags.get(MANAGED_BY) == "keyleaf" and tags.get(TREE) == tree


def subject(namespace: str, service_account: str) -> str:
    """The ``sub`` claim of a Kubernetes service account's token."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def credential_name(issuer: str, namespace: str, service_account: str) -> str:
    """Name of a federated credential: readable, and unique for the pair (issuer, subject); at most 120 characters."""
    digest = uuid.uuid5(_NAMESPACE, f"{issuer}\n{subject(namespace, service_account)}").hex[:12]
    readable = _NOT_IN_A_NAME.sub("-", f"{namespace}-{service_account}")[:98]
    return f"{CREDENTIAL_PREFIX}{readable}-{digest}"


def assignment_id(scope_key: str, principal_id: str, role: str) -> str:
    """The GUID of a role assignment: always the same for scope, principal and role, so that making it twice is once."""
    return str(uuid.uuid5(_NAMESPACE, f"{scope_key}\n{principal_id.lower()}\n{role.lower()}"))


def assignment_description(tree: str, application: str) -> str:
    """The mark of a role assignment, which has no tags."""
    return f"keyleaf tree={tree} app={application}"


def marked_application(description: str, tree: str) -> str | None:
    """The Application that an assignment was made for, or None if keyleaf did not make it for this tree."""
    match = _DESCRIPTION.match(description)
    return match[2] if match and match[1] == tree else None


def marked_tree(description: str) -> str | None:
    """The tree that an assignment was made for, or None if keyleaf did not make it."""
    match = _DESCRIPTION.match(description)
    return match[1] if match else None
