"""The decision: against an independent model, its monotonicity, its explanation."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.access import (
    BUILT_IN_ROLES,
    SECRET_NAME,
    Decision,
    Permission,
    RoleAssignment,
    RoleDefinition,
    authorization_failed,
    decide,
    forbidden_by_rbac,
    holds_at,
    secret_names_condition,
)
from keyleaf.core.operation import Demand, Principal
from keyleaf.core.scope import Scope, secret_scope, vault_scope

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
ME = "aaaaaaaa-0000-0000-0000-000000000001"
SOMEBODY = "bbbbbbbb-0000-0000-0000-000000000002"
GET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
USER = "4633458b-17de-408a-b874-0445c86b69e6"
READER = "21090545-7ca7-4776-b22c-e363652d74d2"
OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
VAULT = vault_scope(SUBSCRIPTION, "shop", "kv-shop")
ANCESTRY = {
    SUBSCRIPTION: ("team", "company"),
    OTHER_SUBSCRIPTION: ("company",),
    "/providers/microsoft.management/managementgroups/team": ("company",),
}


def management_group(name: str) -> Scope:
    return Scope(f"/providers/Microsoft.Management/managementGroups/{name}")


def grant(scope: Scope, role: str = USER, principal: str = ME, condition: str = "") -> RoleAssignment:
    return RoleAssignment(f"{scope}/providers/…/{role}", scope, principal, role, condition)


def read(secret: str, vault: Scope = VAULT) -> Demand:
    return Demand(GET, secret_scope(vault, secret), True, {SECRET_NAME: secret})


def ask(demand: Demand, *assignments: RoleAssignment) -> Decision:
    return decide(demand, ME, assignments, BUILT_IN_ROLES, ANCESTRY)


# --- inheritance --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "scope",
    [
        Scope("/"),
        management_group("COMPANY"),
        management_group("team"),
        Scope(f"/subscriptions/{SUBSCRIPTION}"),
        Scope(f"/SUBSCRIPTIONS/{SUBSCRIPTION}/resourcegroups/SHOP"),
        VAULT,
        secret_scope(VAULT, "DB"),
    ],
)
def test_a_grant_holds_at_its_scope_and_below(scope: Scope) -> None:
    decision = ask(read("db"), grant(scope))
    assert decision.allowed
    assert decision.assignment_id == grant(scope).id
    assert decision.role == "Key Vault Secrets User"


@pytest.mark.parametrize(
    "scope",
    [
        management_group("other"),
        Scope(f"/subscriptions/{OTHER_SUBSCRIPTION}"),
        Scope(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/sho"),
        Scope(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop2"),
        vault_scope(SUBSCRIPTION, "shop", "kv-sho"),
        secret_scope(VAULT, "db2"),
        secret_scope(VAULT, "d"),
    ],
)
def test_a_grant_holds_nowhere_else(scope: Scope) -> None:
    assert not ask(read("db"), grant(scope)).allowed


def test_a_management_group_inherits_from_the_one_above() -> None:
    assert holds_at(management_group("company"), management_group("team"), ANCESTRY)
    assert not holds_at(management_group("team"), management_group("company"), ANCESTRY)


def test_what_others_hold_does_not_count() -> None:
    assert not ask(read("db"), grant(VAULT, principal=SOMEBODY)).allowed


# --- explanations ---------------------------------------------------------------------------------------------------
def test_allowed_says_by_which_role_where() -> None:
    text = ask(read("db"), grant(VAULT)).explain()
    assert text == f"allowed: {GET} at {VAULT}/secrets/db, by Key Vault Secrets User at {VAULT}"


def test_denied_names_the_least_role_at_the_narrowest_scope() -> None:
    decision = ask(read("db"))
    assert decision.suggestion is not None
    assert (decision.suggestion.role, decision.suggestion.scope) == (
        "Key Vault Secrets User",
        secret_scope(VAULT, "db"),
    )
    assert "no role assignment that comes near" in decision.explain()


def test_denied_tells_each_near_miss_nearest_first() -> None:
    conditional = grant(VAULT, condition=secret_names_condition(["api-key"]))
    elsewhere, weak = grant(secret_scope(VAULT, "api-key")), grant(VAULT, READER)
    gone = grant(VAULT, "99999999-0000-0000-0000-000000000000")
    decision = ask(read("db"), gone, elsewhere, weak, conditional)
    assert [miss.reason for miss in decision.near] == ["condition", "action", "scope", "role"]
    assert decision.near[0].detail == "@Resource[Microsoft.KeyVault/vaults/secrets:name] StringEquals 'api-key'"
    text = decision.explain()
    for part in ("was not met", "Key Vault Reader", "does not include", "does not reach", "does not exist"):
        assert part in text


def test_an_unreadable_condition_denies_and_says_so() -> None:
    decision = ask(read("db"), grant(VAULT, condition="@Resource[x] Resembles 'y'"))
    assert not decision.allowed
    assert "position 14" in decision.near[0].detail


def test_a_condition_of_the_role_holds_beside_that_of_the_assignment() -> None:
    key = "@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId]"
    write = "Microsoft.Authorization/roleAssignments/write"
    delegate = grant(VAULT, "8b54135c-b56d-4d72-a534-26097cfdc8d8")
    owner = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
    assert ask(Demand(write, VAULT, False, {key: USER}), delegate).allowed
    assert not ask(Demand(write, VAULT, False, {key: owner}), delegate).allowed


def test_texts_are_azures() -> None:
    caller = Principal("t", ME, "cccccccc-0000-0000-0000-000000000003", "managed_identity", issuer="https://sts/t/")
    text = forbidden_by_rbac(caller, read("Db"), "kv-shop", "local")
    assert text == (
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
        "definitions were changed recently, please observe propagation time.\r\n"
        f"Caller: appid=cccccccc-0000-0000-0000-000000000003;oid={ME};iss=https://sts/t/\r\n"
        "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n"
        f"Resource: '/subscriptions/{SUBSCRIPTION}/resourcegroups/shop/providers/microsoft.keyvault/vaults/kv-shop"
        "/secrets/db'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null \r\n"
        "Vault: kv-shop;location=local"
    )
    arm = authorization_failed(caller, "Microsoft.KeyVault/vaults/read", VAULT)
    assert re.match(r"The client 'cccc.*' with object id 'aaaa.*' does not have authorization to perform action", arm)


# --- an independent model -------------------------------------------------------------------------------------------
SCOPES = st.sampled_from(
    [
        "/",
        "/providers/Microsoft.Management/managementGroups/company",
        "/providers/Microsoft.Management/managementGroups/Team",
        f"/subscriptions/{SUBSCRIPTION}",
        f"/subscriptions/{OTHER_SUBSCRIPTION}",
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop",
        f"/subscriptions/{OTHER_SUBSCRIPTION}/resourceGroups/shop",
        VAULT.path,
        f"{VAULT.path}/secrets/a",
        f"{VAULT.path}/secrets/ab",
    ]
)
ACTIONS = ["k/v/get", "k/v/set", "k/w/get"]
PATTERNS = st.lists(st.sampled_from(["*", "k/*", "k/v/*", "*/get", "K/V/GET", "k/w/get", "none"]), max_size=2).map(
    tuple
)
PERMISSIONS = st.builds(Permission, PATTERNS, PATTERNS, PATTERNS, PATTERNS)
ROLES = st.dictionaries(
    st.sampled_from(["r1", "r2", "r3"]), st.lists(PERMISSIONS, min_size=1, max_size=2).map(tuple), min_size=1
)
ONLY_A = "@Resource[s] StringEquals 'a'"
GRANTS = st.lists(
    st.builds(
        lambda scope, who, role, condition: RoleAssignment(f"{scope}#{role}", Scope(scope), who, role, condition),
        SCOPES,
        st.sampled_from([ME, SOMEBODY]),
        st.sampled_from(["r1", "r2", "r3", "gone"]),
        st.sampled_from(["", ONLY_A, "broken("]),
    ),
    max_size=5,
)
DEMANDS = st.builds(
    lambda action, scope, data, name: Demand(action, Scope(scope), data, {"@Resource[s]": name} if name else {}),
    st.sampled_from(ACTIONS),
    SCOPES,
    st.booleans(),
    st.sampled_from(["", "a", "b"]),
)
PARENTS = {
    "/providers/microsoft.management/managementgroups/company": "/",
    "/providers/microsoft.management/managementgroups/team": "/providers/microsoft.management/managementgroups/company",
    f"/subscriptions/{SUBSCRIPTION}": "/providers/microsoft.management/managementgroups/team",
    f"/subscriptions/{OTHER_SUBSCRIPTION}": "/providers/microsoft.management/managementgroups/company",
    f"/subscriptions/{SUBSCRIPTION}/resourcegroups/shop": f"/subscriptions/{SUBSCRIPTION}",
    f"/subscriptions/{OTHER_SUBSCRIPTION}/resourcegroups/shop": f"/subscriptions/{OTHER_SUBSCRIPTION}",
    VAULT.key: f"/subscriptions/{SUBSCRIPTION}/resourcegroups/shop",
    f"{VAULT.key}/secrets/a": VAULT.key,
    f"{VAULT.key}/secrets/ab": VAULT.key,
}


def model(demand: Demand, grants: list[RoleAssignment], roles: dict[str, tuple[Permission, ...]]) -> bool:
    """Climbs from the scope to the root by a hand-written table and asks each grant on the way."""

    def fits(patterns: tuple[str, ...]) -> bool:
        return any(
            re.fullmatch(pattern.lower().replace("*", ".*"), demand.action.lower()) is not None for pattern in patterns
        )

    scope: str | None = demand.scope.path.lower()
    while scope is not None:
        for found in grants:
            if found.scope.path.lower() != scope or found.principal_id != ME or found.role_definition_id not in roles:
                continue
            if found.condition and not (found.condition == ONLY_A and demand.attributes.get("@Resource[s]") == "a"):
                continue
            for entry in roles[found.role_definition_id]:
                yes, no = (entry.data_actions, entry.not_data_actions)
                if not demand.data:
                    yes, no = (entry.actions, entry.not_actions)
                if fits(yes) and not fits(no):
                    return True
        scope = PARENTS.get(scope)
    return False


def definitions(roles: dict[str, tuple[Permission, ...]]) -> dict[str, RoleDefinition]:
    return {name: RoleDefinition(name, name, name, entries) for name, entries in roles.items()}


@settings(max_examples=600)
@given(DEMANDS, GRANTS, ROLES)
def test_decision_agrees_with_the_model(
    demand: Demand, grants: list[RoleAssignment], roles: dict[str, tuple[Permission, ...]]
) -> None:
    decision = decide(demand, ME, grants, definitions(roles), ANCESTRY)
    assert decision.allowed == model(demand, grants, roles)
    assert decision.explain().startswith("allowed" if decision.allowed else "denied")
    assert (decision.assignment is not None) == decision.allowed


@settings(max_examples=300)
@given(DEMANDS, GRANTS, GRANTS, ROLES)
def test_another_grant_never_takes_access_away(
    demand: Demand, grants: list[RoleAssignment], more: list[RoleAssignment], roles: dict[str, tuple[Permission, ...]]
) -> None:
    known = definitions(roles)
    if decide(demand, ME, grants, known, ANCESTRY).allowed:
        assert decide(demand, ME, [*more, *grants], known, ANCESTRY).allowed


@settings(max_examples=300)
@given(DEMANDS, st.sampled_from(["r1", "r2"]), SCOPES, SCOPES, ROLES)
def test_a_narrower_scope_never_widens(
    demand: Demand, role: str, wide: str, narrow: str, roles: dict[str, tuple[Permission, ...]]
) -> None:
    known = definitions(roles)
    if (
        holds_at(Scope(wide), Scope(narrow), ANCESTRY)
        and decide(demand, ME, [grant(Scope(narrow), role)], known, ANCESTRY).allowed
    ):
        assert decide(demand, ME, [grant(Scope(wide), role)], known, ANCESTRY).allowed


@given(DEMANDS, GRANTS, ROLES)
def test_case_plays_no_part(
    demand: Demand, grants: list[RoleAssignment], roles: dict[str, tuple[Permission, ...]]
) -> None:
    shouted = Demand(demand.action.upper(), Scope(demand.scope.path.upper()), demand.data, demand.attributes)
    known = definitions(roles)
    loud = [
        RoleAssignment(g.id, Scope(g.scope.path.upper()), g.principal_id, g.role_definition_id, g.condition)
        for g in grants
    ]
    expected = decide(demand, ME, grants, known, ANCESTRY).allowed
    assert decide(shouted, ME.upper(), grants, known, ANCESTRY).allowed == expected
    assert decide(demand, ME, loud, known, ANCESTRY).allowed == expected


def test_thousand_grants_of_one_principal_are_decided_in_milliseconds() -> None:
    own = [grant(secret_scope(VAULT, f"s{i}")) for i in range(1000)]
    started = time.perf_counter()
    for _ in range(10):
        assert ask(read("s999"), *own).allowed
    assert (time.perf_counter() - started) / 10 < 0.05
