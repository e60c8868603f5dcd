"""Each finding with its owner, place and the command that mends it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from plan_trees import NOW, SUBSCRIPTION, account, app, deployment, manifest, need, settings, tree

from keyleaf.access import RoleAssignment
from keyleaf.core.finding import Severity
from keyleaf.core.location import Location
from keyleaf.core.scope import Scope, identity_scope, vault_scope
from keyleaf.plan import SECRETS_USER, Actual, Identity, SecretState, Vault, identity_tags, make_plan
from keyleaf.tree.model import AppTree, Manifest, SecretSeed, Unknown

DAY = 86_400.0
KV = Vault("kv-one", vault_scope(SUBSCRIPTION, "rg", "kv-one"), "https://kv-one.vault.azure.net")
PAY = Identity(
    "id-pay",
    identity_scope(SUBSCRIPTION, "rg", "id-pay"),
    "cccccccc-0000-4000-8000-000000000001",
    "dddddddd-0000-4000-8000-000000000001",
    "westeurope",
    identity_tags("shop", "pay"),
)
ONE = tree(app("pay"), needs=(need("pay", "kv-one", "db"),))


def role(
    scope: Scope, guid: str = SECRETS_USER, description: str = "keyleaf tree=shop app=pay", condition: str = ""
) -> RoleAssignment:
    id_ = f"{scope}/providers/Microsoft.Authorization/roleAssignments/11111111-0000-4000-8000-000000000001"
    return RoleAssignment(id_, scope, PAY.principal_id, guid, condition, description)


GRANTED = role(Scope(f"{KV.scope}/secrets/db"))


def actual(*secrets: SecretState, **more: Any) -> Actual:
    base = Actual((KV,), (PAY,), (), (GRANTED,), secrets, listed=frozenset({"kv-one"}))
    return replace(base, **more)


def found(what: AppTree, state: Actual) -> list[tuple[str, str, str, str, str]]:
    return [
        (f.code, f.severity.name, f.owner, str(f.where), f.fix)
        for f in make_plan(what, settings(), state, NOW).findings
    ]


DB = SecretState("kv-one", "db")


def test_nothing_wrong_is_no_finding() -> None:
    assert found(ONE, actual(DB)) == []


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        (None, ("secret-missing", "ERROR", "keyleaf secret set kv-one/db")),
        (replace(DB, deleted=True), ("secret-deleted", "ERROR", "keyleaf secret recover kv-one/db")),
        (replace(DB, enabled=False), ("secret-disabled", "ERROR", "keyleaf secret enable kv-one/db")),
        (replace(DB, expires=NOW), ("secret-expired", "ERROR", "keyleaf secret set kv-one/db")),
        (replace(DB, expires=NOW + 30 * DAY), ("secret-expires-soon", "WARNING", "keyleaf secret set kv-one/db")),
        (replace(DB, expires=NOW + 30 * DAY + 1), None),
    ],
)
def test_states_of_a_secret(secret: SecretState | None, expected: tuple[str, str, str] | None) -> None:
    got = found(ONE, actual(*([secret] if secret else [])))
    wanted = [(expected[0], expected[1], "pay", "pay/access.yaml:7", expected[2])] if expected else []
    assert got == wanted


def test_missing_secret_with_a_seed_is_a_warning() -> None:
    seeded = replace(ONE, seeds=(SecretSeed("kv-one", "db", Location("seeds.yaml", 4)),))
    (finding,) = make_plan(seeded, settings(), actual(), NOW).findings
    assert (finding.code, finding.severity) == ("secret-missing", Severity.WARNING)
    assert "seeds.yaml:4" in finding.cause


def test_unlisted_vault_says_so_and_guesses_nothing() -> None:
    state = actual(listed=frozenset(), unreadable={"kv-one": "Forbidden: no role"})
    assert [(f[0], f[3]) for f in found(ONE, state)] == [("vault-unreadable", "pay/access.yaml:7")]


def test_identity_without_role() -> None:
    (finding,) = make_plan(ONE, settings(), actual(DB, assignments=()), NOW).findings
    assert finding.code == "identity-without-role"
    assert finding.message == "id-pay may not read kv-one/db, which SecretAccess/pay declares"
    assert (str(finding.where), finding.owner, finding.fix) == ("pay/access.yaml:7", "pay", "keyleaf apply")


def test_unmet_condition_is_no_role() -> None:
    condition = "(@Resource[Microsoft.KeyVault/vaults/secrets:name] StringEquals 'mail')"
    state = actual(DB, assignments=(role(KV.scope, condition=condition, description="by hand"),))
    codes = [f[0] for f in found(ONE, state)]
    assert "identity-without-role" in codes


@pytest.mark.parametrize(
    ("scope", "guid", "wide"),
    [
        (KV.scope, SECRETS_USER, True),
        (Scope(f"{KV.scope}/secrets/other"), SECRETS_USER, True),
        (Scope(f"/subscriptions/{SUBSCRIPTION}"), "00482a5a-887f-4fb3-b363-3b7fe8e74483", True),
        (Scope("/providers/Microsoft.Management/managementGroups/corp"), SECRETS_USER, True),
        (KV.scope, "21090545-7ca7-4776-b22c-e363652d74d2", False),  # Key Vault Reader: no values
        (Scope(f"{KV.scope}/secrets/db"), SECRETS_USER, False),
    ],
)
def test_role_wider_than_declared(scope: Scope, guid: str, wide: bool) -> None:
    state = actual(DB, assignments=(GRANTED, role(scope, guid, "by hand")))
    got = [f for f in found(ONE, state) if f[0] == "role-wider-than-declared"]
    fix = f"az role assignment delete --ids {scope}/providers/Microsoft.Authorization/roleAssignments/"
    assert [(f[1], f[2], f[3]) for f in got] == ([("ERROR", "pay", "apps/pay.yaml:1")] if wide else [])
    assert all(f[4].startswith(fix) for f in got)


def test_vault_with_access_policies() -> None:
    state = actual(DB, vaults=(replace(KV, rbac=False),))
    assert found(ONE, state) == [
        (
            "vault-uses-access-policies",
            "ERROR",
            "pay",
            "pay/access.yaml:7",
            "az keyvault update --name kv-one --enable-rbac-authorization true",
        )
    ]


def test_identity_shared_by_several_applications() -> None:
    needs = tuple(need(key, "kv-one", "db", "eso", namespace="platform", line=9) for key in ("pay", "web"))
    shared = tree(app("platform"), app("pay"), app("web"), needs=needs, accounts=(account("platform", "eso"),))
    got = [f for f in make_plan(shared, settings(), actual(DB), NOW).findings if f.code == "identity-shared"]
    assert [(f.severity, f.owner, str(f.where)) for f in got] == [(Severity.WARNING, "platform", "pay/access.yaml:9")]
    assert "id-platform is used by several Applications: pay, web" in got[0].message


def test_undeclared_service_account_has_the_identity_of_its_first_user() -> None:
    needs = (
        need("pay", "kv-one", "db", "default", namespace="x"),
        need("web", "kv-one", "db", "default", namespace="x"),
    )
    plan = make_plan(tree(app("pay"), app("web"), needs=needs), settings(), actual(DB), NOW)
    assert [i.name for i in plan.desired.identities] == ["id-pay"]
    (finding,) = (f for f in plan.findings if f.code == "identity-shared")
    assert "id-pay is used by several Applications: pay, web" in finding.message


def test_service_account_declared_twice() -> None:
    needs = (need("pay", "kv-one", "db", "sa", namespace="x"), need("web", "kv-one", "db", "sa", namespace="x"))
    accounts = (account("pay", "sa", namespace="x"), account("web", "sa", namespace="x"))
    got = make_plan(tree(app("pay"), app("web"), needs=needs, accounts=accounts), settings(), actual(DB), NOW).findings
    (finding,) = (f for f in got if f.code == "service-account-shared")
    assert "x/sa" in finding.message
    assert "pay, web" in finding.message


@pytest.mark.parametrize(
    ("client_id", "codes"),
    [
        (PAY.client_id.upper(), []),
        ("eeeeeeee-0000-4000-8000-00000000000e", ["client-id-mismatch"]),
        ("", []),
    ],
)
def test_client_id_of_the_service_account(client_id: str, codes: list[str]) -> None:
    annotated = replace(ONE, service_accounts=(account("pay", "app", client_id),))
    got = found(annotated, actual(DB))
    assert [f[0] for f in got] == codes
    assert all(f[3:] == ("pay/account.yaml:5", f"write {PAY.client_id} instead") for f in got)


def test_client_id_of_the_need_and_placeholders() -> None:
    wrong = tree(app("pay"), needs=(need("pay", "kv-one", "db", client_id="eeeeeeee-0000-4000-8000-00000000000e"),))
    assert [(f[0], f[3]) for f in found(wrong, actual(DB))] == [("client-id-mismatch", "pay/access.yaml:7")]
    open_ = Unknown("unresolved", "${CLIENT_ID}", "filled in by CI")
    assert found(tree(app("pay"), needs=(need("pay", "kv-one", "db", client_id=open_),)), actual(DB)) == []


def test_other_ways_to_sign_in() -> None:
    other = tree(app("pay"), needs=(need("pay", "kv-one", "db", "", auth="service-principal"),))
    assert [(f[0], f[1], f[3]) for f in found(other, actual(DB))] == [
        ("not-workload-identity", "WARNING", "pay/access.yaml:7")
    ]


def test_workload_identity_label_without_annotation() -> None:
    pods = deployment("pay", {"serviceAccountName": "app", "containers": []}, {"azure.workload.identity/use": "true"})
    labelled = replace(ONE, manifests=(pods,), service_accounts=(account("pay", "app"),))
    assert found(labelled, actual(DB)) == [
        (
            "service-account-not-annotated",
            "NOTE",
            "pay",
            "pay/account.yaml:5",
            f"annotate it with azure.workload.identity/client-id: {PAY.client_id}",
        )
    ]


@pytest.mark.parametrize(("count", "codes"), [(3999, []), (4000, ["too-many-role-assignments"])])
def test_limit_of_role_assignments(count: int, codes: list[str]) -> None:
    others = tuple(replace(role(KV.scope), id=f"{n}", principal_id=f"p{n}", description="") for n in range(count))
    above = replace(role(Scope("/providers/Microsoft.Management/managementGroups/corp")), principal_id="x")
    plan = make_plan(ONE, settings(), actual(DB, assignments=(*others, above)), NOW)
    assert [f.code for f in plan.findings if f.severity is Severity.ERROR] == codes


# --- Kubernetes Secrets -----------------------------------------------------------------------------------------
def container(**more: Any) -> dict[str, Any]:
    return {"name": "main", **more}


def key_ref(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}


def wired(spec: dict[str, Any], *others: Manifest, state: str = "rendered") -> list[tuple[str, str, str]]:
    what = tree(app("pay", state=state), manifests=(deployment("pay", spec), *others))
    return [(f.code, f.severity.name, str(f.where)) for f in make_plan(what, settings(), actual(), NOW).findings]


def secret(name: str, **body: Any) -> Manifest:
    return manifest("pay", {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **body})


def external(name: str, **spec: Any) -> Manifest:
    body = {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": name}, "spec": spec}
    return manifest("pay", body)


def provider_class(name: str, *objects: dict[str, Any]) -> Manifest:
    api = "secrets-store.csi.x-k8s.io/v1"
    spec = {"provider": "azure", "secretObjects": list(objects)}
    return manifest("pay", {"apiVersion": api, "kind": "SecretProviderClass", "metadata": {"name": name}, "spec": spec})


MISSING = [("kubernetes-secret-missing", "ERROR", "pay/deployment.yaml:3")]
NO_KEY = [("kubernetes-secret-key-missing", "ERROR", "pay/deployment.yaml:3")]
REF = {"containers": [container(env=[key_ref("db", "password")])]}
CSI = {"csi": {"driver": "secrets-store.csi.k8s.io", "volumeAttributes": {"secretProviderClass": "spc"}}, "name": "s"}
SYNCED = provider_class("spc", {"secretName": "db", "data": [{"key": "password", "objectName": "o"}]})


@pytest.mark.parametrize(
    ("spec", "others", "expected"),
    [
        (REF, [], MISSING),
        (REF, [secret("db", stringData={"password": "x"})], []),
        (REF, [secret("db", data={"user": "x"})], NO_KEY),
        (REF, [secret("other", data={"password": "x"})], MISSING),
        (REF, [external("es", target={"name": "db"}, data=[{"secretKey": "password"}])], []),
        (REF, [external("db", data=[{"secretKey": "user"}])], NO_KEY),
        (REF, [external("db", dataFrom=[{"extract": {"key": "x"}}])], []),
        (REF, [external("db", data=[{"secretKey": "password"}], target={"template": {"data": {"url": "x"}}})], NO_KEY),
        (REF, [external("db", data=[{"secretKey": "p"}], target={"template": {"data": {"password": "x"}}})], []),
        (REF, [SYNCED], MISSING),
        ({**REF, "volumes": [CSI]}, [SYNCED], []),
        ({"containers": [container(env=[key_ref("db", "p", optional=True)])]}, [], []),
        ({"containers": [container(envFrom=[{"secretRef": {"name": "db"}}])]}, [], MISSING),
        ({"containers": [container(envFrom=[{"secretRef": {"name": "db", "optional": True}}])]}, [], []),
        ({"containers": [container(envFrom=[{"configMapRef": {"name": "db"}}])]}, [], []),
        ({"initContainers": [container(env=[key_ref("db", "p")])], "containers": []}, [], MISSING),
        ({"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "db"}}]}, [], MISSING),
        (
            {"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "db", "items": [{"key": "a"}]}}]},
            [secret("db", data={"b": ""})],
            NO_KEY,
        ),
        ({"containers": [], "volumes": [{"projected": {"sources": [{"secret": {"name": "db"}}]}}]}, [], MISSING),
        ({"containers": [], "volumes": [CSI]}, [], [("secret-provider-class-missing", *MISSING[0][1:])]),
        ({"containers": [container(env="not a list"), "not a container"], "volumes": 7}, [], []),
    ],
)
def test_references_to_kubernetes_secrets(spec: dict[str, Any], others: list[Manifest], expected: list[Any]) -> None:
    assert wired(spec, *others) == expected


def test_service_account_tokens_have_the_keys_that_the_cluster_fills_in() -> None:
    token = secret("db", type="kubernetes.io/service-account-token")
    assert wired({"containers": [container(env=[key_ref("db", "token")])]}, token) == []


def test_secret_of_another_namespace_does_not_count() -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "db", "namespace": "else"},
        "data": {"password": ""},
    }
    assert wired(REF, manifest("pay", body)) == MISSING


def test_what_was_not_rendered_may_create_it() -> None:
    assert ("kubernetes-secret-missing", "WARNING", "pay/deployment.yaml:3") in wired(REF, state="not-rendered")


def test_unmounted_provider_class_is_named_as_the_cause() -> None:
    what = tree(app("pay"), manifests=(deployment("pay", REF), SYNCED))
    (finding,) = make_plan(what, settings(), actual(), NOW).findings
    assert (
        finding.cause == "SecretProviderClass/spc (pay/secretproviderclass.yaml:3) syncs it only while a pod mounts it"
    )
