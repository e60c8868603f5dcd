"""What is wrong between the tree and the identities and roles that exist."""

from __future__ import annotations

from collections.abc import Iterator

from keyleaf.core.finding import Finding, Severity
from keyleaf.plan.accounts import ServiceAccountOwners
from keyleaf.plan.effective import EffectiveAccess
from keyleaf.plan.model import Actual, Desired, Identity
from keyleaf.plan.naming import APPLICATION, is_ours, marked_application
from keyleaf.plan.workloads import orchestrations, workloads
from keyleaf.tree.model import AppTree, SecretNeed, ServiceAccount, Unknown


def access_findings(tree: AppTree, desired: Desired, actual: Actual) -> Iterator[Finding]:
    """Declared secrets that cannot be read, and undeclared ones that can."""
    access = EffectiveAccess(actual)
    ours = _ours(desired, actual)
    told: set[tuple[str, str]] = set()
    for grant in desired.grants:
        vault = actual.vault(grant.vault)
        identity = ours.get(grant.identity)
        if vault is not None and not vault.rbac and ("", vault.scope.key) not in told:
            told.add(("", vault.scope.key))
            yield Finding(
                "vault-uses-access-policies",
                Severity.ERROR,
                f"{vault.name} decides by access policies, so role assignments have no effect on it",
                grant.application,
                grant.where,
                "enableRbacAuthorization is false",
                f"az keyvault update --name {vault.name} --enable-rbac-authorization true",
            )
        if vault is None or not vault.rbac or identity is None or (identity.name, grant.scope.key) in told:
            continue
        told.add((identity.name, grant.scope.key))
        if not access.may_read(identity.principal_id, grant.scope, grant.vault, grant.secret):
            yield Finding(
                "identity-without-role",
                Severity.WARNING,
                f"{identity.name} may not read {grant.vault}/{grant.secret}, which {grant.declared_by} declares",
                grant.application,
                grant.where,
                "no role assignment of the identity allows it: the next start gets a 403",
                "keyleaf apply",
            )
    yield from _wider(tree, desired, actual, ours, access)


def _wider(
    tree: AppTree, desired: Desired, actual: Actual, ours: dict[str, Identity], access: EffectiveAccess
) -> Iterator[Finding]:
    declared: dict[str, set[str]] = {}
    for grant in desired.grants:
        declared.setdefault(grant.identity, set()).add(grant.scope.key)
    by_principal = {identity.principal_id.lower(): identity for identity in ours.values()}
    for found in actual.assignments:
        identity = by_principal.get(found.principal_id.lower())
        if identity is None or marked_application(found.description, desired.settings.tree) is not None:
            continue
        if found.scope.key in declared.get(identity.name, ()) or not access.reads_secrets(found):
            continue
        application = identity.tags.get(APPLICATION, "")
        app = tree.applications.get(application)
        yield Finding(
            "role-wider-than-declared",
            Severity.ERROR,
            f"{identity.name} has the role {access.role_name(found)!r} at {found.scope}, "
            "which lets it read secrets that no manifest declares",
            application,
            app.where if app else None,
            "somebody else made the assignment" + (f": {found.description}" if found.description else ""),
            f"az role assignment delete --ids {found.id}",
        )


def identity_findings(tree: AppTree, desired: Desired, actual: Actual) -> Iterator[Finding]:
    """Identities that several Applications use, and service accounts that name another one or none."""
    owners = ServiceAccountOwners(tree)
    ours = _ours(desired, actual)
    names = {identity.application: identity.name for identity in desired.identities}
    yield from _shared(tree, desired)
    accounts = {(account.namespace, account.name): account for account in tree.service_accounts if not account.implicit}
    for account in accounts.values():
        yield from _annotation(account, names, ours)
    told: set[tuple[str, str]] = set()
    for need in tree.needs:
        name = names.get(owners.owner_of(need), "")
        yield from _need(need.declared_by, told, need, ours.get(name), name)
    for workload in (*workloads(tree), *orchestrations(tree)):
        manifest = workload.manifest
        declared = accounts.get((manifest.namespace, workload.service_account))
        if workload.uses_workload_identity and (declared is None or not declared.client_id):
            owner = owners.owner(manifest.namespace, workload.service_account, manifest.application)
            identity = ours.get(names.get(owner, ""))
            yield Finding(
                "service-account-not-annotated",
                Severity.NOTE,
                f"{workload.name} uses workload identity, and its service account "
                f"{manifest.namespace}/{workload.service_account} does not say which identity",
                manifest.application,
                declared.where if declared else manifest.where,
                "in a cluster the pod gets no AZURE_CLIENT_ID without the annotation azure.workload.identity/client-id",
                f"annotate it with azure.workload.identity/client-id: {identity.client_id}"
                if identity
                else "keyleaf apply, then keyleaf plan again: it shows the client id",
            )


def _shared(tree: AppTree, desired: Desired) -> Iterator[Finding]:
    users: dict[str, dict[str, None]] = {}
    for grant in desired.grants:
        users.setdefault(grant.identity, {}).setdefault(grant.application)
    owner = {identity.name: identity for identity in desired.identities}
    for name, applications in users.items():
        others = [key for key in applications if key != owner[name].application]
        if others:
            first = next(g for g in desired.grants if g.identity == name and g.application == others[0])
            yield Finding(
                "identity-shared",
                Severity.WARNING,
                f"{name} is used by several Applications: {', '.join(dict.fromkeys([*applications]))}",
                owner[name].application,
                first.where,
                f"{first.declared_by} asks through a service account of {owner[name].application}: "
                "each can read what any of them declares",
                "give each Application a service account (and SecretStore) of its own",
            )
    subjects: dict[str, dict[str, None]] = {}
    for credential in desired.credentials:
        subjects.setdefault(credential.subject, {}).setdefault(credential.application)
    for subject, sharing in subjects.items():
        if len(sharing) > 1:
            last = next(c for c in reversed(desired.credentials) if c.subject == subject)
            yield Finding(
                "service-account-shared",
                Severity.WARNING,
                f"the service account {subject.split(':', 2)[2].replace(':', '/')} is used by several Applications: "
                + ", ".join(sharing),
                last.application,
                last.where,
                "whoever holds its token can sign in as each of their identities",
                "give each Application a service account of its own",
            )


def _annotation(account: ServiceAccount, names: dict[str, str], ours: dict[str, Identity]) -> Iterator[Finding]:
    if isinstance(account.client_id, Unknown) or not account.client_id:
        return
    name = names.get(account.application, "")
    identity = ours.get(name)
    if identity is None or identity.client_id.lower() != account.client_id.lower():
        yield _mismatch(
            f"the service account {account.namespace}/{account.name}", account.client_id, account, identity, name
        )


def _need(
    declared_by: str, told: set[tuple[str, str]], need: SecretNeed, identity: Identity | None, name: str
) -> Iterator[Finding]:
    if (need.application, declared_by) in told:
        return
    told.add((need.application, declared_by))
    if isinstance(need.client_id, str) and need.client_id:
        if identity is None or identity.client_id.lower() != need.client_id.lower():
            yield _mismatch(declared_by, need.client_id, need, identity, name)
    elif need.auth != "workload-identity":
        yield Finding(
            "not-workload-identity",
            Severity.WARNING,
            f"{declared_by} signs in by {need.auth.replace('-', ' ')}, and not by workload identity"
            if need.auth != "unknown"
            else f"{declared_by} does not say how it signs in",
            need.application,
            need.where,
            f"keyleaf gives each Application an identity of its own ({name}), which this manifest does not use",
            "set the store's authType to WorkloadIdentity, with a service account of the Application",
        )


def _mismatch(
    what: str, client_id: str, place: ServiceAccount | SecretNeed, identity: Identity | None, name: str
) -> Finding:
    return Finding(
        "client-id-mismatch",
        Severity.WARNING,
        f"{what} names the client id {client_id}, which is not that of {name or 'an identity of its Application'}",
        place.application,
        place.where,
        f"the client id of {name} is {identity.client_id}" if identity else "the planned identity does not exist yet",
        f"write {identity.client_id} instead" if identity else "keyleaf apply, then write the client id that it shows",
    )


def _ours(desired: Desired, actual: Actual) -> dict[str, Identity]:
    """The identities that are wanted, exist, and are keyleaf's, by name as desired."""
    existing = {
        identity.scope.key: identity for identity in actual.identities if is_ours(identity.tags, desired.settings.tree)
    }
    return {i.name: existing[i.scope.key] for i in desired.identities if i.scope.key in existing}
