"""From manifests to the Azure resources that make them true."""

from __future__ import annotations

import pytest
from hypothesis import given
from plan_trees import ISSUER, SUBSCRIPTION, account, app, deployment, need, random_trees, settings, tree

from keyleaf.access import BUILT_IN_ROLES, SECRET_NAME, VAULT_NAME, Permission, RoleAssignment, decide
from keyleaf.core.operation import Demand
from keyleaf.core.scope import Scope, vault_scope
from keyleaf.plan import GET_SECRET, SECRETS_USER, Desired, SecretState, Vault, desired_state, identities_of_accounts
from keyleaf.tree.model import AppTree, Unknown

KV = vault_scope(SUBSCRIPTION, "rg", "kv-one")


def may_read(desired: Desired, identity: str, vault: str, secret: str) -> bool:
    """By the room that decides, on the assignments as they will be."""
    held = [
        RoleAssignment(f"{a.scope}/x", a.scope, a.identity, a.role, a.condition)
        for a in desired.assignments
        if a.identity == identity
    ]
    scope = Scope(f"{vault_scope(SUBSCRIPTION, 'rg', vault).path}/secrets/{secret}")
    demand = Demand(GET_SECRET, scope, True, {VAULT_NAME: vault, SECRET_NAME: secret})
    return decide(demand, identity, held, BUILT_IN_ROLES, {}).allowed


def test_one_application_with_one_secret() -> None:
    desired = desired_state(tree(app("pay"), needs=(need("pay", "kv-one", "db"),)), settings())
    (identity,) = desired.identities
    assert identity.name == "id-pay"
    assert identity.tags == {
        "keyleaf-managed-by": "keyleaf",
        "keyleaf-tree": "shop",
        "keyleaf-application": "pay",
    }
    (credential,) = desired.credentials
    assert (credential.issuer, credential.subject) == (ISSUER, "system:serviceaccount:pay:app")
    assert credential.audiences == ("api://AzureADTokenExchange",)
    (assignment,) = desired.assignments
    assert assignment.scope.path == f"{KV.path}/secrets/db"
    assert (assignment.role, assignment.condition) == (SECRETS_USER, "")
    assert str(assignment.where) == "pay/access.yaml:7"
    assert [v.name for v in desired.vaults] == ["kv-one"]


def test_the_role_gives_the_value_of_secrets_and_nothing_else() -> None:
    role = BUILT_IN_ROLES[SECRETS_USER]
    actions = (
        "Microsoft.KeyVault/vaults/secrets/getSecret/action",
        "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
    )
    assert role.permissions == (Permission(data_actions=actions),)


def test_application_without_secrets_or_pods_gets_no_identity() -> None:
    assert desired_state(tree(app("root")), settings()).identities == ()


def test_pods_under_a_named_service_account_get_an_identity() -> None:
    named = deployment("web", {"serviceAccountName": "web", "containers": []})
    plain = deployment("old", {"containers": []})
    labelled = deployment("lab", {"containers": []}, {"azure.workload.identity/use": "true"})
    desired = desired_state(tree(app("web"), app("old"), app("lab"), manifests=(named, plain, labelled)), settings())
    assert [i.name for i in desired.identities] == ["id-web", "id-lab"]
    assert [c.subject for c in desired.credentials] == [
        "system:serviceaccount:web:web",
        "system:serviceaccount:lab:default",
    ]


def test_vault_in_another_resource_group_is_found_there() -> None:
    elsewhere = Scope(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shared/providers/Microsoft.KeyVault/vaults/KV-One")
    vault = Vault("KV-One", elsewhere, "https://kv-one.vault.azure.net")
    desired = desired_state(tree(app("pay"), needs=(need("pay", "kv-one", "db"),)), settings(), [vault])
    assert desired.assignments[0].scope.path == f"{elsewhere.path}/secrets/db"
    assert desired.vaults == ()


@pytest.mark.parametrize("bind", ["vault", "resource-group"])
def test_wide_scopes_stay_as_narrow_as_the_manifests(bind: str) -> None:
    needs = (need("pay", "kv-one", "db"), need("pay", "kv-two", "token"))
    desired = desired_state(tree(app("pay"), needs=needs), settings(bind=bind))
    assert len(desired.assignments) == (2 if bind == "vault" else 1)
    allowed = {
        (vault, secret)
        for vault in ("kv-one", "kv-two", "kv-other")
        for secret in ("db", "token", "mail")
        if may_read(desired, "id-pay", vault, secret)
    }
    assert allowed == {("kv-one", "db"), ("kv-two", "token")}


@pytest.mark.parametrize("bind", ["secret", "vault", "resource-group"])
@given(random_trees())
def test_exactly_the_declared_pairs_are_allowed(bind: str, random: AppTree) -> None:
    desired = desired_state(random, settings(bind=bind))
    declared = {(f"id-{n.application}", n.vault, n.secret) for n in random.needs}
    allowed = {
        (identity.name, vault, secret)
        for identity in desired.identities
        for vault in ("kv-one", "kv-two")
        for secret in ("db", "api-key", "token", "mail", "undeclared")
        if may_read(desired, identity.name, vault, secret)
    }
    assert allowed == declared


def test_spelling_of_the_existing_secret_is_used_in_conditions() -> None:
    vault = Vault("kv-one", KV, "")
    desired = desired_state(
        tree(app("pay"), needs=(need("pay", "KV-ONE", "DB"),)),
        settings(bind="vault"),
        [vault],
        [SecretState("kv-one", "Db")],
    )
    assert may_read(desired, "id-pay", "kv-one", "Db")


def test_service_account_of_another_application_carries_that_ones_identity() -> None:
    needs = (need("pay", "kv-one", "db", "eso", namespace="platform"),)
    desired = desired_state(
        tree(app("platform"), app("pay"), needs=needs, accounts=(account("platform", "eso", "x"),)), settings()
    )
    assert [i.name for i in desired.identities] == ["id-platform"]
    assert [a.identity for a in desired.assignments] == ["id-platform"]
    assert desired.assignments[0].declared_for == "pay"


def test_what_git_cannot_tell_is_a_finding_and_never_a_grant() -> None:
    unknown = Unknown("unresolved", "${VAULT}", "filled in by CI")
    dynamic = Unknown("dynamic", "find: .*", "asks the vault")
    needs = (need("pay", unknown, "db", line=3), need("pay", "kv-one", dynamic, line=4))
    desired = desired_state(tree(app("pay"), needs=needs), settings())
    assert desired.assignments == ()
    assert [(f.code, str(f.where), f.cause) for f in desired.findings] == [
        ("vault-unresolved", "pay/access.yaml:3", "filled in by CI"),
        ("secret-dynamic", "pay/access.yaml:4", "asks the vault"),
    ]


def test_keys_are_named_as_unsupported_and_certificates_are_read_as_secrets() -> None:
    needs = (need("pay", "kv-one", "sign", object_type="key"), need("pay", "kv-one", "tls", object_type="cert"))
    desired = desired_state(tree(app("pay"), needs=needs), settings())
    assert [f.code for f in desired.findings] == ["key-not-supported"]
    assert [a.scope.path.rsplit("/", 1)[1] for a in desired.assignments] == ["tls"]


def test_missing_vault_is_made_only_when_asked_for() -> None:
    desired = desired_state(tree(app("pay"), needs=(need("pay", "kv-one", "db"),)), settings(create_vaults=False))
    assert (desired.vaults, desired.assignments) == ((), ())
    (finding,) = desired.findings
    assert finding.code == "vault-missing"
    assert "az keyvault create --name kv-one --resource-group rg" in finding.fix


def test_bad_names_are_findings() -> None:
    needs = (need("pay", "kv_one!", "db"), need("pay", "kv-one", "db/password"))
    desired = desired_state(tree(app("pay"), needs=needs), settings())
    assert [f.code for f in desired.findings] == ["vault-name-invalid", "secret-name-invalid"]
    assert desired.assignments == ()


def test_twenty_one_service_accounts_are_one_too_many() -> None:
    def of(count: int) -> list[str]:
        needs = tuple(need("pay", "kv-one", "db", f"sa-{n}") for n in range(count))
        return [f.code for f in desired_state(tree(app("pay"), needs=needs), settings()).findings]

    assert of(20) == []
    assert of(21) == ["too-many-federated-credentials"]


def test_applications_of_one_name_get_identities_of_different_names() -> None:
    two = tree(
        app("pay", key="team-a/pay"),
        app("pay", key="team-b/pay"),
        needs=(need("team-a/pay", "kv-one", "db"), need("team-b/pay", "kv-one", "token")),
    )
    names = [i.name for i in desired_state(two, settings()).identities]
    assert len({name.lower() for name in names}) == 2
    assert all(name.startswith("id-pay-") for name in names)


def test_needs_outside_any_application_are_named() -> None:
    desired = desired_state(tree(app("pay"), needs=(need("", "kv-one", "db"),)), settings())
    assert [(f.code, str(f.where)) for f in desired.findings] == [("need-without-application", "/access.yaml:7")]
    assert desired.assignments == ()


def test_need_without_a_service_account_is_that_of_its_pods() -> None:
    pods = deployment("pay", {"containers": []})
    desired = desired_state(
        tree(app("pay"), needs=(need("pay", "kv-one", "db", "", auth="service-principal"),), manifests=(pods,)),
        settings(),
    )
    assert identities_of_accounts(desired) == {("pay", "default"): "id-pay"}
    assert [a.identity for a in desired.assignments] == ["id-pay"]
