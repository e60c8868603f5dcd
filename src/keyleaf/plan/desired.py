"""From what the manifests declare to the Azure resources that make it true, and nothing more.

Each Application that needs secrets, or runs pods under a service account, gets one identity. The identity trusts the
service accounts that ask for those secrets. It gets the role "Key Vault Secrets User" on each declared secret, or, with
a wider ``bind``, once per vault or resource group under a condition on the secrets' names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keyleaf.access import secret_names_condition
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.core.names import SECRET_NAME, VAULT_NAME
from keyleaf.core.scope import Scope, identity_scope, resource_group_scope, secret_scope, vault_scope
from keyleaf.plan.accounts import ServiceAccountName, ServiceAccountOwners, accounts_that_sign_in
from keyleaf.plan.model import (
    SECRETS_USER,
    Desired,
    DesiredAssignment,
    DesiredCredential,
    DesiredIdentity,
    DesiredVault,
    Grant,
    SecretState,
    Settings,
    Vault,
)
from keyleaf.plan.naming import credential_name, identity_names, identity_tags, subject
from keyleaf.tree.model import AppTree, SecretNeed, Unknown

CREDENTIALS_PER_IDENTITY = 20
_UNKNOWN = {
    ("vault", "unresolved"): "vault-unresolved",
    ("vault", "dynamic"): "vault-dynamic",
    ("vault", "remote"): "vault-remote",
    ("secret", "unresolved"): "secret-unresolved",
    ("secret", "dynamic"): "secret-dynamic",
    ("secret", "remote"): "secret-remote",
}
_INVALID = {"vault": "vault-name-invalid", "secret": "secret-name-invalid"}


def desired_state(
    tree: AppTree, settings: Settings, vaults: Iterable[Vault] = (), secrets: Iterable[SecretState] = ()
) -> Desired:
    """The Azure resources that ``tree`` asks for.

    Args:
        vaults: the vaults that exist, so that a role lands on a vault in another resource group too.
        secrets: the secrets that exist: their spelling is used, because conditions compare names with their case.

    Needs whose vault or secret cannot be known from Git become findings and are never guessed.
    """
    owners = ServiceAccountOwners(tree)
    names = identity_names((app.key, app.name) for app in tree.applications.values())
    existing = {vault.name.lower(): vault for vault in vaults}
    spelling = {(state.vault.lower(), state.name.lower()): state.name for state in secrets}
    findings: list[Finding] = []
    grants: list[Grant] = []
    missing: dict[str, SecretNeed] = {}
    trusted: dict[str, dict[ServiceAccountName, Location]] = {}

    for (application, account), where in accounts_that_sign_in(tree, owners).items():
        if application in names:
            trusted.setdefault(application, {})[account] = where
    for need in tree.needs:
        if need.application not in names:
            findings.append(_without_application(need))
            continue
        owner = owners.owner_of(need)
        trusted.setdefault(owner, {})
        for account in owners.accounts(need):
            if owners.owner(*account, need.application) == owner:
                trusted[owner].setdefault(account, need.where)
        problem = _problem(need)
        if problem is not None:
            findings.append(problem)
            continue
        assert isinstance(need.vault, str) and isinstance(need.secret, str)
        vault = existing.get(need.vault.lower())
        # One spelling per vault: conditions and messages would differ otherwise, although Azure ignores case.
        name = vault.name if vault else str(missing.setdefault(need.vault.lower(), need).vault)
        scope = vault.scope if vault else vault_scope(settings.subscription, settings.resource_group, name)
        secret = spelling.setdefault((name.lower(), need.secret.lower()), need.secret)
        grants.append(
            Grant(
                need.application,
                names[owner],
                name,
                secret,
                secret_scope(scope, secret),
                need.declared_by,
                need.where,
            )
        )

    made = tuple(_new_vault(need, settings) for need in missing.values()) if settings.create_vaults else ()
    if not settings.create_vaults:
        findings.extend(_vault_missing(need, settings) for need in missing.values())
    identities = tuple(
        DesiredIdentity(
            names[key],
            identity_scope(settings.subscription, settings.resource_group, names[key]),
            key,
            settings.location,
            identity_tags(settings.tree, key),
            app.where,
        )
        for key, app in tree.applications.items()
        if key in trusted
    )
    credentials = tuple(
        DesiredCredential(
            names[key],
            credential_name(settings.issuer, *account),
            settings.issuer,
            subject(*account),
            key,
            where,
        )
        for key in tree.applications
        for account, where in sorted(trusted.get(key, {}).items())
    )
    findings.extend(_too_many_credentials(tree, names, trusted))
    usable = [grant for grant in grants if settings.create_vaults or grant.vault.lower() in existing]
    application_of = {name: key for key, name in names.items()}
    assignments = _assignments(usable, settings, application_of)
    return Desired(settings, made, identities, credentials, assignments, tuple(grants), tuple(findings))


def _problem(need: SecretNeed) -> Finding | None:
    """Why ``need`` cannot be granted, if so."""
    for word, value in (("vault", need.vault), ("secret", need.secret)):
        if isinstance(value, Unknown):
            return Finding(
                _UNKNOWN[word, value.kind],
                Severity.WARNING,
                f"{need.declared_by}: the {word} {value.text!r} cannot be known from Git",
                need.application,
                need.where,
                value.reason,
                f"write the {word}'s name into the manifest, or add a keyleaf.dev/v1alpha1 SecretAccess that names it",
            )
    if need.object_type == "key":
        return Finding(
            "key-not-supported",
            Severity.WARNING,
            f"{need.declared_by} asks for the key {need.secret!r}, and keyleaf grants secrets and certificates only",
            need.application,
            need.where,
            "roles on Key Vault keys are not planned yet",
            f'az role assignment create --role "Key Vault Crypto User" --scope <vault id>/keys/{need.secret} '
            "--assignee <identity>",
        )
    for word, value, pattern in (("vault", need.vault, VAULT_NAME), ("secret", need.secret, SECRET_NAME)):
        if not pattern.match(str(value)):
            return Finding(
                _INVALID[word],
                Severity.ERROR,
                f"{need.declared_by}: {value!r} is not a name that Key Vault takes for a {word}",
                need.application,
                need.where,
                "3 to 24 letters, digits and single hyphens, starting with a letter"
                if word == "vault"
                else "1 to 127 letters, digits and hyphens",
                "correct the name in the manifest",
            )
    return None


def _without_application(need: SecretNeed) -> Finding:
    return Finding(
        "need-without-application",
        Severity.WARNING,
        f"{need.declared_by} asks for a secret, and no Application renders it, so no identity can be given to it",
        "",
        need.where,
        "each identity belongs to one Application",
        "put it under the path of an Application",
    )


def _new_vault(need: SecretNeed, settings: Settings) -> DesiredVault:
    name = str(need.vault)
    scope = vault_scope(settings.subscription, settings.resource_group, name)
    return DesiredVault(name, scope, settings.location, need.application, need.where)


def _vault_missing(need: SecretNeed, settings: Settings) -> Finding:
    return Finding(
        "vault-missing",
        Severity.ERROR,
        f"the vault {need.vault!r} does not exist in the subscription",
        need.application,
        need.where,
        f"{need.declared_by} reads from it, and no role can be assigned on what is not there",
        f"keyleaf apply --create-vaults, or: az keyvault create --name {need.vault} "
        f"--resource-group {settings.resource_group} --location {settings.location} --enable-rbac-authorization true",
    )


def _too_many_credentials(
    tree: AppTree, names: Mapping[str, str], trusted: Mapping[str, Mapping[ServiceAccountName, Location]]
) -> Iterable[Finding]:
    for key, accounts in trusted.items():
        if len(accounts) > CREDENTIALS_PER_IDENTITY:
            yield Finding(
                "too-many-federated-credentials",
                Severity.ERROR,
                f"{names[key]} would trust {len(accounts)} service accounts, and Entra takes "
                f"{CREDENTIALS_PER_IDENTITY} federated credentials per identity",
                key,
                tree.applications[key].where,
                "every service account that asks for a secret of this Application needs a credential of its own",
                "split the Application, or let its workloads share service accounts",
            )


def _assignments(
    grants: Iterable[Grant], settings: Settings, application_of: Mapping[str, str]
) -> tuple[DesiredAssignment, ...]:
    """The role assignments that make ``grants`` true, one per (identity, scope)."""
    grouped: dict[tuple[str, str], list[Grant]] = {}
    scopes: dict[str, Scope] = {}
    for grant in grants:
        scope = _bind_scope(grant, settings)
        scopes.setdefault(scope.key, scope)
        grouped.setdefault((grant.identity, scope.key), []).append(grant)
    made: list[DesiredAssignment] = []
    for (identity, key), members in grouped.items():
        first = members[0]
        made.append(
            DesiredAssignment(
                identity,
                scopes[key],
                SECRETS_USER,
                application_of[identity],
                first.where,
                "" if settings.bind == "secret" else _condition(members),
                frozenset(grant.pair for grant in members),
                ", ".join(dict.fromkeys(grant.declared_by for grant in members)),
                first.application,
            )
        )
    return tuple(made)


def _bind_scope(grant: Grant, settings: Settings) -> Scope:
    if settings.bind == "secret":
        return grant.scope
    vault = Scope(grant.scope.path.rsplit("/secrets/", 1)[0])
    if settings.bind == "vault":
        return vault
    parts = vault.path.split("/")
    return resource_group_scope(parts[2], parts[4])


def _condition(grants: Iterable[Grant]) -> str:
    """The condition that narrows a wide scope to the declared secrets, vault by vault."""
    names: dict[str, set[str]] = {}
    for grant in grants:
        names.setdefault(grant.vault, set()).add(grant.secret)
    each = [secret_names_condition(secrets, vault) for vault, secrets in sorted(names.items())]
    return each[0] if len(each) == 1 else f"({' OR '.join(each)})"
