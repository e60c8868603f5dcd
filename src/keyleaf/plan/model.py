"""What a plan is made of: the resources that Git asks for, those that Azure has, and the changes between the two.

Scopes and resource ids are compared through :attr:`keyleaf.core.scope.Scope.key`; names of vaults, secrets and
identities without regard to case, as Azure does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from keyleaf.access import RoleAssignment, RoleDefinition
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.core.scope import Scope

Bind = Literal["secret", "vault", "resource-group"]
AUDIENCE = "api://AzureADTokenExchange"
SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the tree lands in Azure, and how wide its roles are.

    Attributes:
        tree: id of the tree: marks what keyleaf made for it, so that two trees can share a subscription.
        issuer: URL of the cluster's OIDC issuer, as federated credentials name it.
        bind: scope of the role assignments; wider ones than ``secret`` carry a condition on the secrets' names.
        create_vaults: whether a vault that Git names and the subscription lacks is created.
    """

    tree: str
    subscription: str
    resource_group: str
    location: str
    issuer: str
    bind: Bind = "secret"
    create_vaults: bool = False


# --- what Git asks for ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class DesiredVault:
    """A vault that has to be created, first needed by ``application``."""

    name: str
    scope: Scope
    location: str
    application: str
    where: Location


@dataclass(frozen=True, slots=True)
class DesiredIdentity:
    """The user-assigned managed identity of one Application."""

    name: str
    scope: Scope
    application: str
    location: str
    tags: Mapping[str, str]
    where: Location


@dataclass(frozen=True, slots=True)
class DesiredCredential:
    """Trust of an identity in one Kubernetes service account.

    Rule: https://learn.microsoft.com/entra/workload-id/workload-identity-federation-considerations
    """

    identity: str
    name: str
    issuer: str
    subject: str
    application: str
    where: Location
    audiences: tuple[str, ...] = (AUDIENCE,)


@dataclass(frozen=True, slots=True)
class DesiredAssignment:
    """One role for one identity at one scope.

    Attributes:
        role: GUID of the role definition.
        condition: ABAC condition, version 2.0; empty for none.
        application: whose identity it is; ``declared_for`` the first Application that needs it.
        secrets: (vault, secret) pairs, in lower case, that it is for.
        where: the first line of Git that asks for it.
    """

    identity: str
    scope: Scope
    role: str
    application: str
    where: Location
    condition: str = ""
    secrets: frozenset[tuple[str, str]] = frozenset()
    reason: str = ""
    declared_for: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """One declared need, resolved: the identity that has to be able to read the secret.

    Attributes:
        application: the Application that declares it; ``identity`` may belong to the one that owns the service account.
        vault / secret: spelled as they exist, or as Git first writes them.
    """

    application: str
    identity: str
    vault: str
    secret: str
    scope: Scope
    declared_by: str
    where: Location

    @property
    def pair(self) -> tuple[str, str]:
        """Vault and secret in lower case, for comparison."""
        return self.vault.lower(), self.secret.lower()


@dataclass(frozen=True, slots=True)
class Desired:
    """The state that Git asks for."""

    settings: Settings
    vaults: tuple[DesiredVault, ...]
    identities: tuple[DesiredIdentity, ...]
    credentials: tuple[DesiredCredential, ...]
    assignments: tuple[DesiredAssignment, ...]
    grants: tuple[Grant, ...]
    findings: tuple[Finding, ...]


# --- what Azure has ---------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Vault:
    """A vault of the subscription. ``rbac`` is false where legacy access policies decide."""

    name: str
    scope: Scope
    uri: str
    location: str = ""
    rbac: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Identity:
    """A user-assigned managed identity of the subscription."""

    name: str
    scope: Scope
    client_id: str
    principal_id: str
    location: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credential:
    """A federated credential of the identity at ``identity``."""

    identity: Scope
    name: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretState:
    """What is known of a secret without reading its value; times in seconds since 1970 UTC.

    Attributes:
        deleted: soft-deleted, waiting for recovery or purge.
    """

    vault: str
    name: str
    enabled: bool = True
    expires: float | None = None
    not_before: float | None = None
    updated: float | None = None
    content_type: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Actual:
    """The state that Azure has, as far as it could be read.

    Attributes:
        credentials: those of the identities that keyleaf made for this tree.
        roles: the custom role definitions of the subscription.
        secrets: of the vaults that were asked for and could be listed.
        listed: vaults, in lower case, whose secrets were listed.
        unreadable: vaults, in lower case, whose secrets could not be listed, with the reason.
    """

    vaults: tuple[Vault, ...] = ()
    identities: tuple[Identity, ...] = ()
    credentials: tuple[Credential, ...] = ()
    assignments: tuple[RoleAssignment, ...] = ()
    secrets: tuple[SecretState, ...] = ()
    roles: tuple[RoleDefinition, ...] = ()
    listed: frozenset[str] = frozenset()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def vault(self, name: str) -> Vault | None:
        """The vault called ``name``, in any case."""
        return next((vault for vault in self.vaults if vault.name.lower() == name.lower()), None)

    def identity(self, scope: Scope) -> Identity | None:
        """The identity with that resource id."""
        return next((identity for identity in self.identities if identity.scope.key == scope.key), None)


# --- between the two --------------------------------------------------------------------------------------------
class Kind(IntEnum):
    """Kinds of resources, in the order in which they are made; deletes go the other way."""

    VAULT = 0
    IDENTITY = 1
    CREDENTIAL = 2
    ASSIGNMENT = 3

    @property
    def label(self) -> str:
        """As a person reads it."""
        return _LABELS[self]


_LABELS = {
    Kind.VAULT: "vault",
    Kind.IDENTITY: "managed identity",
    Kind.CREDENTIAL: "federated credential",
    Kind.ASSIGNMENT: "role assignment",
}

Wanted = DesiredVault | DesiredIdentity | DesiredCredential | DesiredAssignment
Existing = Vault | Identity | Credential | RoleAssignment


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a plan.

    Attributes:
        stage: changes of one stage do not wait for one another, except within one Application.
        name: what a person calls the resource.
        application: key of the Application; empty where it is not known any more.
        identity: name of the identity that the change is about; empty for vaults.
        after: what to make; None for deletes. ``before`` what is there; None for creates.
    """

    action: Literal["create", "update", "delete"]
    kind: Kind
    name: str
    application: str
    stage: int
    identity: str = ""
    before: Existing | None = None
    after: Wanted | None = None
    where: Location | None = None
    reason: str = ""

    def describe(self) -> dict[str, Any]:
        """The change as plain data, for ``--json``."""
        return {
            "action": self.action,
            "kind": self.kind.label,
            "name": self.name,
            "application": self.application,
            "stage": self.stage,
            "identity": self.identity,
            "where": str(self.where) if self.where else "",
            "reason": self.reason,
            "before": describe(self.before) if self.before else None,
            "after": describe(self.after) if self.after else None,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to change, in order, and what was found on the way."""

    desired: Desired
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...]

    @property
    def empty(self) -> bool:
        """Whether Azure is already what Git declares, as far as keyleaf may make it so."""
        return not self.changes

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that fail a run."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def identity_of(self, application: str) -> str:
        """Name of the identity of Application ``application``; empty if it needs none."""
        return next((i.name for i in self.desired.identities if i.application == application), "")


def describe(resource: Wanted | Existing) -> dict[str, Any]:
    """A resource as plain data: scopes as text, sets and tuples as lists, places as ``file:line``."""
    described: dict[str, Any] = {}
    for name in resource.__slots__:
        value = getattr(resource, name)
        if isinstance(value, Scope | Location):
            described[name] = str(value)
        elif isinstance(value, frozenset):
            described[name] = ["/".join(pair) for pair in sorted(value)]
        elif isinstance(value, tuple):
            described[name] = list(value)
        elif isinstance(value, Mapping):
            described[name] = dict(value)
        else:
            described[name] = value
    return described
