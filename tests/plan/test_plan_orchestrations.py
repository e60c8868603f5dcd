"""An Orchestration gets an identity and exactly its roles, like every other leaf."""

from __future__ import annotations

from plan_trees import NOW, settings

from keyleaf.plan import Actual, Plan, make_plan
from keyleaf.tree import MemoryFiles, Tools, read_tree

APPLICATION = """apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: fulfilment-dev}
spec:
  source: {repoURL: https://git.example.com/shop/tree.git, path: x}
  destination: {server: https://kubernetes.default.svc, namespace: shop}
"""
FLOW = """apiVersion: keyleaf.dev/v1alpha1
kind: Orchestration
metadata: {name: fulfilment}
spec:
  module: fulfilment
  serviceAccountName: fulfilment
  vault: kv-shop
  payloadKey: payload-key
  secrets: [api-key]
"""
SEED = """---
apiVersion: keyleaf.dev/v1alpha1
kind: SecretSeed
metadata: {name: fulfilment}
spec: {vault: kv-shop, secrets: [{name: payload-key, generate: 32}]}
"""


def plan_of(text: str, state: Actual | None = None) -> Plan:
    tree = read_tree(MemoryFiles({"root.yaml": APPLICATION, "x/all.yaml": text}), tools=Tools(path=""))
    return make_plan(tree, settings(), state or Actual((), (), (), (), ()), NOW)


def test_identity_credential_and_one_role_for_each_secret() -> None:
    plan = plan_of(FLOW)
    assert [identity.name for identity in plan.desired.identities] == ["id-fulfilment-dev"]
    assert [c.subject for c in plan.desired.credentials] == ["system:serviceaccount:shop:fulfilment"]
    assert sorted(a.scope.path.rsplit("/", 3)[-1] for a in plan.desired.assignments) == ["api-key", "payload-key"]
    assert [vault.name for vault in plan.desired.vaults] == ["kv-shop"]
    assert {grant.declared_by for grant in plan.desired.grants} == {"Orchestration/fulfilment"}


def test_a_payload_key_that_nobody_set_is_told_at_its_line() -> None:
    state = Actual((), (), (), (), (), listed=frozenset({"kv-shop"}))
    missing = {str(f.where): f.severity.name for f in plan_of(FLOW, state).findings if f.code == "secret-missing"}
    assert missing == {"x/all.yaml:8": "ERROR", "x/all.yaml:9": "ERROR"}
    seeded = {str(f.where): f.severity.name for f in plan_of(FLOW + SEED, state).findings if f.code == "secret-missing"}
    assert seeded == {"x/all.yaml:8": "WARNING", "x/all.yaml:9": "ERROR"}


def test_it_signs_in_by_workload_identity_so_its_account_should_name_the_client_id() -> None:
    (note,) = (f for f in plan_of(FLOW).findings if f.code == "service-account-not-annotated")
    assert note.message.startswith("Orchestration/fulfilment uses workload identity")
    assert (note.owner, str(note.where)) == ("fulfilment-dev", "x/all.yaml:1")


def test_an_invalid_one_fails_the_plan() -> None:
    plan = plan_of(FLOW + "  orchestrator: postgresql://u:hunter2@host/flows\n")
    (error,) = (f for f in plan.errors if f.code == "keyleaf-resource-invalid")
    assert str(error.where) == "x/all.yaml:10" and "hunter2" not in repr(error)
