"""Vault access policies, the legacy mode."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.access import SECRET_ACTIONS, AccessPolicy, decide_by_policy, forbidden_by_policy
from keyleaf.core.operation import Demand, Principal
from keyleaf.core.scope import secret_scope, vault_scope

TENANT = "99999999-0000-0000-0000-000000000000"
ME = "aaaaaaaa-0000-0000-0000-000000000001"
CLIENT = "cccccccc-0000-0000-0000-000000000003"
SCOPE = secret_scope(vault_scope("11111111-1111-1111-1111-111111111111", "shop", "kv-shop"), "db")
VERBS = {
    "getSecret/action": "get",
    "readMetadata/action": "list",
    "setSecret/action": "set",
    "update/action": "set",
    "delete": "delete",
    "backup/action": "backup",
    "restore/action": "restore",
    "recover/action": "recover",
    "purge/action": "purge",
}


def allowed(action: str, *policies: AccessPolicy, client: str = CLIENT) -> bool:
    demand = Demand(f"Microsoft.KeyVault/vaults/secrets/{action}", SCOPE, True)
    return decide_by_policy(demand, TENANT, ME, client, policies).allowed


def test_every_secret_action_has_its_verb() -> None:
    assert set(SECRET_ACTIONS) == {f"Microsoft.KeyVault/vaults/secrets/{action}" for action in VERBS}


@given(st.sampled_from(sorted(VERBS)), st.frozensets(st.sampled_from(sorted(set(VERBS.values())))))
def test_a_verb_grants_its_action_and_no_other(action: str, held: frozenset[str]) -> None:
    assert allowed(action, AccessPolicy(TENANT, ME.upper(), held)) is (VERBS[action] in held)
    assert allowed(action, AccessPolicy(TENANT, ME, held | {"all"}))


@pytest.mark.parametrize(
    "policy",
    [
        AccessPolicy(TENANT, CLIENT, frozenset(["all"])),
        AccessPolicy(ME, ME, frozenset(["all"])),
        AccessPolicy(TENANT, ME, frozenset(["all"]), application_id=ME),
    ],
)
def test_policies_of_others_tenants_and_applications_do_not_count(policy: AccessPolicy) -> None:
    assert not allowed("getSecret/action", policy)


def test_a_policy_bound_to_an_application_holds_through_it() -> None:
    assert allowed("getSecret/action", AccessPolicy(TENANT, ME, frozenset(["get"]), application_id=CLIENT.upper()))


def test_control_plane_and_unknown_actions_are_never_granted() -> None:
    every = AccessPolicy(TENANT, ME, frozenset(["all"]))
    demand = Demand("Microsoft.KeyVault/vaults/secrets/getSecret/action", SCOPE, False)
    assert not decide_by_policy(demand, TENANT, ME, CLIENT, [every]).allowed
    assert not allowed("rotate/action", every)


def test_explanations_and_azures_text() -> None:
    demand = Demand("Microsoft.KeyVault/vaults/secrets/getSecret/action", SCOPE, True)
    denied = decide_by_policy(demand, TENANT, ME, CLIENT, [AccessPolicy(TENANT, ME, frozenset(["list"]))])
    assert "lacks secrets get" in denied.explain()
    assert "it holds: list" in denied.explain()
    granted = decide_by_policy(demand, TENANT, ME, CLIENT, [AccessPolicy(TENANT, ME, frozenset(["get"]))])
    assert granted.explain() == "allowed: secrets get, by the vault's access policies"
    caller = Principal(TENANT, ME, CLIENT, "application", issuer="https://sts/")
    assert forbidden_by_policy(caller, denied.permission, "kv-shop", "local") == (
        f"The user, group or application 'appid={CLIENT};oid={ME};iss=https://sts/' does not have secrets get "
        "permission on key vault 'kv-shop;location=local'. For help resolving this issue, please see "
        "https://go.microsoft.com/fwlink/?linkid=2125287"
    )
