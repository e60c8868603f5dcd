"""Desired state minus actual state: the changes, in the order in which they are safe to make.

Only what carries keyleaf's mark for this tree is changed or deleted. What others made is left alone, and named in a
finding where it stands in the way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from keyleaf.access import RoleAssignment
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.plan.model import (
    SECRETS_USER,
    Actual,
    Change,
    Credential,
    Desired,
    DesiredAssignment,
    DesiredIdentity,
    DesiredVault,
    Existing,
    Identity,
    Kind,
    Wanted,
)
from keyleaf.plan.naming import APPLICATION, CREDENTIAL_PREFIX, TREE, is_ours, marked_application
from keyleaf.tree.model import Application, AppTree


def difference(tree: AppTree, desired: Desired, actual: Actual) -> tuple[tuple[Change, ...], tuple[Finding, ...]]:
    """The changes that turn ``actual`` into ``desired``, and what stands in their way.

    Order: parents before children, then by sync wave; within an Application identity, federated credentials, role
    assignments; deletes last, the other way round.
    """
    return _Difference(tree, desired, actual).result()


class _Difference:
    """The indexes that one comparison needs, and the lists that it fills."""

    def __init__(self, tree: AppTree, desired: Desired, actual: Actual) -> None:
        self._tree = tree
        self._desired = desired
        self._actual = actual
        self._id = desired.settings.tree
        self._changes: list[Change] = []
        self._deletes: list[Change] = []
        self._findings: list[Finding] = []
        self._stages = stages(tree.applications.values())
        self._existing = {identity.scope.key: identity for identity in actual.identities}
        self._ours = [identity for identity in actual.identities if is_ours(identity.tags, self._id)]
        self._credentials: dict[str, list[Credential]] = {}
        for credential in actual.credentials:
            self._credentials.setdefault(credential.identity.key, []).append(credential)
        self._granted: dict[tuple[str, str, str], RoleAssignment] = {
            (found.scope.key, found.principal_id.lower(), found.role_definition_id.lower()): found
            for found in actual.assignments
        }
        self._blocked: set[str] = set()
        self._doubtful = {
            app.key
            for app in tree.applications.values()
            if any(source.state == "not-rendered" for source in app.sources)
        } | {finding.owner for finding in tree.findings if finding.severity is Severity.ERROR}

    def result(self) -> tuple[tuple[Change, ...], tuple[Finding, ...]]:
        for vault in self._desired.vaults:
            self._make(Kind.VAULT, vault, vault.name, "Git names it and it does not exist")
        principals: dict[str, Identity] = {}
        for identity in self._desired.identities:
            found = self._existing.get(identity.scope.key)
            self._identity(identity, found)
            if found is not None and identity.name not in self._blocked:
                principals[identity.name] = found
        self._all_credentials(principals)
        wanted = self._all_assignments(principals)
        self._prune(wanted)
        # Sorted by stage and kind, so that an Application's identity comes before what hangs on it.
        order = {key: place for place, key in enumerate(self._tree.applications)}
        self._changes.sort(key=lambda c: (c.stage, order.get(c.application, 0), c.kind))
        self._deletes.sort(key=lambda c: (c.stage, -c.kind, c.application, c.name))
        return tuple(self._changes + self._deletes), tuple(self._findings)

    # --- make and mend ------------------------------------------------------------------------------------------
    def _identity(self, wanted: DesiredIdentity, found: Identity | None) -> None:
        if found is None:
            self._make(Kind.IDENTITY, wanted, wanted.name, "the Application has no identity yet")
        elif not is_ours(found.tags, self._id):
            self._blocked.add(wanted.name)
            other = found.tags.get(TREE)
            self._findings.append(
                Finding(
                    "identity-not-ours",
                    Severity.ERROR,
                    f"the managed identity {found.name} exists, and keyleaf did not make it for this tree",
                    wanted.application,
                    wanted.where,
                    f"it belongs to the tree {other!r}" if other else "it has no keyleaf tags",
                    "use another resource group (--resource-group), or delete it: "
                    f"az identity delete --ids {found.scope}",
                )
            )
        elif any(found.tags.get(key) != value for key, value in wanted.tags.items()):
            self._make(Kind.IDENTITY, wanted, wanted.name, "its tags were changed", found)

    def _all_credentials(self, principals: dict[str, Identity]) -> None:
        wanted_names: dict[str, set[str]] = {}
        for wanted in self._desired.credentials:
            if wanted.identity in self._blocked:
                continue
            identity = principals.get(wanted.identity)
            present = self._credentials.get(identity.scope.key, []) if identity else []
            wanted_names.setdefault(wanted.identity, set()).add(wanted.name.lower())
            same = next((c for c in present if c.name.lower() == wanted.name.lower()), None)
            trusts = [c for c in present if (c.issuer, c.subject) == (wanted.issuer, wanted.subject)]
            if any(set(wanted.audiences) <= set(c.audiences) for c in trusts):
                continue
            if same is not None:
                self._make(Kind.CREDENTIAL, wanted, wanted.name, "its issuer, subject or audiences were changed", same)
            elif trusts:
                self._findings.append(
                    Finding(
                        "federated-credential-conflict",
                        Severity.ERROR,
                        f"{wanted.identity} already trusts {wanted.subject}, for other audiences",
                        wanted.application,
                        wanted.where,
                        f"Azure takes one credential per issuer and subject, and {trusts[0].name} holds "
                        f"{', '.join(trusts[0].audiences)}",
                        f"az identity federated-credential delete --identity-name {wanted.identity} "
                        f"--resource-group {self._desired.settings.resource_group} --name {trusts[0].name}",
                    )
                )
            else:
                self._make(Kind.CREDENTIAL, wanted, wanted.name, f"{wanted.subject} signs in with it")
        for name, identity in principals.items():
            self._other_credentials(identity, wanted_names.get(name, set()))

    def _other_credentials(self, identity: Identity, wanted: set[str]) -> None:
        application = identity.tags.get(APPLICATION, "")
        for credential in self._credentials.get(identity.scope.key, []):
            if credential.name.lower() in wanted:
                continue
            if credential.name.lower().startswith(CREDENTIAL_PREFIX):
                reason = "no workload needs it any more"
                self._delete(Kind.CREDENTIAL, credential, credential.name, application, identity.name, reason)
            elif not any(
                c.identity == identity.name and (c.issuer, c.subject) == (credential.issuer, credential.subject)
                for c in self._desired.credentials
            ):
                self._findings.append(
                    Finding(
                        "federated-credential-not-ours",
                        Severity.WARNING,
                        f"{identity.name} also trusts {credential.subject} of {credential.issuer}, "
                        "which no manifest declares",
                        application,
                        self._place(application),
                        f"somebody added the federated credential {credential.name}",
                        f"az identity federated-credential delete --identity-name {identity.name} "
                        f"--resource-group {identity.scope.path.split('/')[4]} --name {credential.name}",
                    )
                )

    def _all_assignments(self, principals: dict[str, Identity]) -> set[str]:
        """Plan the assignments; returns the ids of those that are wanted and exist."""
        kept: set[str] = set()
        for wanted in self._desired.assignments:
            if wanted.identity in self._blocked:
                continue
            identity = principals.get(wanted.identity)
            found = (
                self._granted.get((wanted.scope.key, identity.principal_id.lower(), wanted.role)) if identity else None
            )
            name = assignment_title(wanted)
            if found is None:
                self._make(Kind.ASSIGNMENT, wanted, name, f"declared by {wanted.reason}")
                continue
            kept.add(found.id.lower())
            if marked_application(found.description, self._id) is None:
                self._made_by_others(wanted, found)
            elif found.condition != wanted.condition and not self._doubted(wanted.application):
                reason = "other secrets are declared now" if wanted.condition else "its condition was changed"
                self._make(Kind.ASSIGNMENT, wanted, name, reason, found)
        return kept

    def _made_by_others(self, wanted: DesiredAssignment, found: RoleAssignment) -> None:
        if found.condition and found.condition != wanted.condition:
            self._findings.append(
                Finding(
                    "assignment-conflict",
                    Severity.ERROR,
                    f"{wanted.identity} has the role at {wanted.scope} under another condition, "
                    "and keyleaf did not make that assignment",
                    wanted.application,
                    wanted.where,
                    "Azure takes one assignment per identity, role and scope",
                    f"az role assignment delete --ids {found.id}",
                )
            )
        else:
            self._findings.append(
                Finding(
                    "assignment-not-ours",
                    Severity.NOTE,
                    f"{wanted.identity} has the role at {wanted.scope} through an assignment that keyleaf did not make",
                    wanted.application,
                    wanted.where,
                    "it is what Git declares, so it stays; keyleaf will not remove it either",
                    f"to let keyleaf manage it: az role assignment delete --ids {found.id} && keyleaf apply",
                )
            )

    # --- prune --------------------------------------------------------------------------------------------------
    def _prune(self, kept: set[str]) -> None:
        wanted_identities = {identity.scope.key for identity in self._desired.identities}
        name_of = {identity.principal_id.lower(): identity.name for identity in self._actual.identities}
        for found in self._actual.assignments:
            application = marked_application(found.description, self._id)
            if application is not None and found.id.lower() not in kept:
                identity = name_of.get(found.principal_id.lower(), "")
                reason = "Git no longer declares it" if identity else "its identity does not exist any more"
                self._delete(Kind.ASSIGNMENT, found, _title(found), application, identity, reason)
        for gone in self._ours:
            if gone.scope.key not in wanted_identities:
                application = gone.tags.get(APPLICATION, "")
                self._delete(Kind.IDENTITY, gone, gone.name, application, gone.name, "Git no longer needs it")
        self._hold()

    def _hold(self) -> None:
        """Take back deletes that an incomplete reading of Git would cause: what was not read may still declare it."""
        held = [change for change in self._deletes if self._doubted(change.application)]
        if not held:
            return
        self._deletes = [change for change in self._deletes if not self._doubted(change.application)]
        self._findings.append(
            Finding(
                "prune-held",
                Severity.WARNING,
                f"{len(held)} resources that Git seems not to declare any more are kept: "
                + ", ".join(sorted({change.identity or change.name for change in held})[:5]),
                "",
                next((f.where for f in self._tree.findings if f.severity is Severity.ERROR and f.where), None),
                "part of the tree could not be read: " + ", ".join(sorted(key or "its root" for key in self._doubtful))
                if self._tree.applications
                else "the tree holds no Application at all",
                "mend what the other findings name, then run keyleaf plan again",
            )
        )

    def _doubted(self, application: str) -> bool:
        """Whether what Git declares for ``application`` may be more than what was read."""
        if not self._tree.applications or "" in self._doubtful:
            return True
        return application in self._doubtful or bool(self._doubtful and application not in self._tree.applications)

    # --- changes ------------------------------------------------------------------------------------------------
    def _make(self, kind: Kind, after: Wanted, name: str, reason: str, before: Existing | None = None) -> None:
        """Plan to create ``after``, or to update ``before`` to it."""
        stage = -1 if kind is Kind.VAULT else self._stages.get(after.application, 0)
        identity = _identity_name(after)
        action: Literal["create", "update"] = "update" if before else "create"
        self._changes.append(
            Change(action, kind, name, after.application, stage, identity, before, after, after.where, reason)
        )

    def _delete(self, kind: Kind, before: Existing, name: str, application: str, identity: str, reason: str) -> None:
        # Children before parents: the later an Application comes, the earlier what it leaves is removed. What belongs
        # to no Application any more goes first of all.
        last = max(self._stages.values(), default=0) + 1
        stage = last + (last - self._stages[application] if application in self._stages else 0)
        self._deletes.append(
            Change("delete", kind, name, application, stage, identity, before, None, self._place(application), reason)
        )

    def _place(self, application: str) -> Location | None:
        found = self._tree.applications.get(application)
        return found.where if found else None


def stages(applications: Iterable[Application]) -> dict[str, int]:
    """A number for each Application's key: parents before children, then by sync wave."""
    places = {app.key: (app.depth, app.wave) for app in applications}
    number = {place: index for index, place in enumerate(sorted(set(places.values())))}
    return {key: number[place] for key, place in places.items()}


def assignment_title(wanted: DesiredAssignment) -> str:
    """``Key Vault Secrets User on kv-shop/db-password``."""
    secrets = sorted(f"{vault}/{secret}" for vault, secret in wanted.secrets)
    shown = ", ".join(secrets[:3]) + (f" and {len(secrets) - 3} more" if len(secrets) > 3 else "")
    return f"Key Vault Secrets User on {shown}"


def _title(found: RoleAssignment) -> str:
    role = "Key Vault Secrets User" if found.role_definition_id.lower() == SECRETS_USER else found.role_definition_id
    return f"{role} on {found.scope.path.split('/providers/Microsoft.KeyVault/vaults/')[-1].replace('/secrets/', '/')}"


def _identity_name(wanted: Wanted) -> str:
    if isinstance(wanted, DesiredVault):
        return ""
    return wanted.name if isinstance(wanted, DesiredIdentity) else wanted.identity
