"""Role assignments at every scope, through azure-mgmt-authorization."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from keyleaf.access import secret_names_condition
from keyleaf.resources.role_assignments_routes import LIMIT_PER_SUBSCRIPTION
from keyleaf.store import schema

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
TENANT = "99999999-0000-0000-0000-000000000000"
HERE = f"/subscriptions/{SUBSCRIPTION}"
GROUP = f"{HERE}/resourceGroups/shop"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-shop"
SECRET = f"{VAULT}/secrets/db"
TEAM = "/providers/Microsoft.Management/managementGroups/team"
COMPANY = "/providers/Microsoft.Management/managementGroups/company"
USER = "4633458b-17de-408a-b874-0445c86b69e6"
OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
DATA_ACCESS_ADMINISTRATOR = "8b54135c-b56d-4d72-a534-26097cfdc8d8"
ONE, TWO = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))


def body(principal: str, role: str = USER, **more: Any) -> Any:
    definition = f"{HERE}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    return {"properties": {"roleDefinitionId": definition, "principalId": principal, **more}}


@pytest.fixture
def app(host: Any) -> str:
    """A vault ``kv-shop``, and the object id of an identity."""
    given = {"location": "local", "properties": {"tenantId": TENANT, "sku": {"name": "standard", "family": "A"}}}
    host.vaults().vaults.begin_create_or_update("shop", "kv-shop", given).result()
    return str(host.principal("id-app"))


@pytest.mark.parametrize("scope", ["/", COMPANY, TEAM, HERE, GROUP, VAULT, SECRET, SECRET.upper()])
def test_a_grant_at_any_scope_is_made_read_repeated_and_deleted(host: Any, app: str, scope: str) -> None:
    api = host.rbac().role_assignments
    made = api.create(scope, ONE, body(app, description="why"))
    prefix = "" if scope == "/" else scope
    assert made.id.lower() == f"{prefix}/providers/Microsoft.Authorization/roleAssignments/{ONE}".lower()
    assert (made.scope.lower(), made.principal_id, made.principal_type) == (scope.lower(), app, "ServicePrincipal")
    assert made.role_definition_id.endswith(f"/providers/Microsoft.Authorization/roleDefinitions/{USER}")
    assert made.created_by == host.operator
    assert api.get(scope, ONE).description == "why"
    assert api.get_by_id(made.id).name == ONE
    again = api.create(scope, ONE, body(app, description="because"))
    assert (again.description, again.id) == ("because", made.id)
    assert api.delete(scope, ONE).name == ONE
    assert api.delete(scope, ONE) is None
    with pytest.raises(ResourceNotFoundError, match="RoleAssignmentNotFound"):
        api.get(scope, ONE)


def test_statuses_are_azures(host: Any, app: str) -> None:
    path = f"{SECRET}/providers/Microsoft.Authorization/roleAssignments/{ONE}"
    assert [host.send("PUT", path, body(app)).status_code for _ in range(2)] == [201, 200]
    assert host.send("GET", path.swapcase().replace(ONE.upper(), ONE)).status_code == 200
    assert [host.send("DELETE", path).status_code for _ in range(2)] == [200, 204]


def test_one_grant_per_scope_principal_and_role(host: Any, app: str) -> None:
    api = host.rbac().role_assignments
    api.create(SECRET, ONE, body(app))
    with pytest.raises(ResourceExistsError) as conflict:
        api.create(SECRET.lower(), TWO, body(app.upper()))
    assert conflict.value.error.code == "RoleAssignmentExists"
    assert conflict.value.error.message == (
        f"The role assignment already exists. The ID of the conflicting role assignment is {uuid.UUID(ONE).hex}."
    )
    for other in (body(host.operator), body(app, OFFICER)):
        with pytest.raises(HttpResponseError, match="RoleAssignmentUpdateNotPermitted"):
            api.create(SECRET, ONE, other)
    api.create(VAULT, TWO, body(app))


REFUSALS: list[Any] = [
    (SECRET, {"principalId": TWO}, "PrincipalNotFound"),
    (SECRET, {"principalId": "me"}, "InvalidPrincipalId"),
    (SECRET, {"principalType": "User"}, "UnmatchedPrincipalType"),
    (SECRET, {"principalType": "Robot"}, "InvalidPrincipalType"),
    (SECRET, {"roleDefinitionId": "Reader"}, "InvalidRoleDefinitionId"),
    (
        SECRET,
        {"roleDefinitionId": f"/providers/Microsoft.Authorization/roleDefinitions/{TWO}"},
        "RoleDefinitionDoesNotExist",
    ),
    (SECRET, {"condition": "x", "conditionVersion": "2.0"}, "InvalidCondition"),
    (SECRET, {"condition": secret_names_condition(["a"])}, "InvalidCondition"),
    (f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv-none/secrets/db", {}, "ResourceNotFound"),
    (f"{GROUP}/providers/Contoso.Things/things/a", {}, "ResourceNotFound"),
    (f"{HERE}/resourceGroups/none", {}, "ResourceGroupNotFound"),
    (f"/subscriptions/{TENANT}", {}, "SubscriptionNotFound"),
    (f"{TEAM}x", {}, "NotFound"),
]


def test_refusals(host: Any, app: str) -> None:
    for scope, change, code in REFUSALS:
        given = body(app)
        given["properties"].update(change)
        with pytest.raises(HttpResponseError) as refused:
            host.rbac().role_assignments.create(scope, ONE, given)
        assert refused.value.error.code == code


def test_a_condition_is_kept_as_written(host: Any, app: str) -> None:
    condition = secret_names_condition(["db", "api-key"], "kv-shop")
    made = host.rbac().role_assignments.create(GROUP, ONE, body(app, condition=condition, conditionVersion="2.0"))
    assert (made.condition, made.condition_version) == (condition, "2.0")
    bare = host.rbac().role_assignments.create(GROUP, ONE, body(app))
    assert (bare.condition, bare.condition_version) == (None, None)


def test_lists_and_their_filters(host: Any, app: str) -> None:
    everywhere = ("/", COMPANY, TEAM, HERE, GROUP, VAULT, SECRET)
    for scope in (*everywhere, f"/subscriptions/{OTHER_SUBSCRIPTION}"):
        host.grant(scope, USER, app)
    api = host.rbac().role_assignments
    mine = f"principalId eq '{app}'"

    def scopes(found: Any) -> set[str]:
        return {assignment.scope for assignment in found if assignment.principal_id == app}

    assert scopes(api.list_for_scope(VAULT)) == set(everywhere)
    assert scopes(api.list_for_scope(VAULT, filter="atScope()")) == set(everywhere) - {SECRET}
    assert scopes(api.list_for_scope(SECRET, filter=f"atScope() and assignedTo('{app}')")) == set(everywhere)
    assert scopes(api.list_for_subscription(filter=mine)) == set(everywhere)
    assert scopes(api.list_for_resource_group("shop", filter=mine)) == set(everywhere)
    assert scopes(api.list_for_resource("shop", "Microsoft.KeyVault", "vaults", "kv-shop")) == set(everywhere)
    assert scopes(api.list_for_scope(TEAM)) == set(everywhere)
    assert scopes(api.list_for_scope(COMPANY)) == {*everywhere, f"/subscriptions/{OTHER_SUBSCRIPTION}"}
    assert all(found.principal_id == app for found in api.list_for_subscription(filter=mine))
    assert list(api.list_for_subscription(filter=f"principalId eq '{TWO}'")) == []
    with pytest.raises(HttpResponseError, match=r"Invalid \$filter"):
        list(api.list_for_subscription(filter="principalId ne 'x'"))


def test_writing_grants_is_a_right_at_that_scope(host: Any, app: str) -> None:
    local = host.principal("id-local")
    host.grant(GROUP, OWNER, local)
    api = host.rbac(local).role_assignments
    api.create(SECRET, ONE, body(app))
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        api.create(HERE, TWO, body(local, OWNER))
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        host.rbac(app).role_assignments.create(SECRET, TWO, body(app, OFFICER))


def test_a_delegate_assigns_and_removes_only_the_roles_of_his_condition(host: Any, app: str) -> None:
    delegate = host.principal("id-delegate")
    host.grant(VAULT, DATA_ACCESS_ADMINISTRATOR, delegate)
    owner = host.grant(VAULT, OWNER, app)
    api = host.rbac(delegate).role_assignments
    api.create(VAULT, ONE, body(app))
    api.delete(VAULT, ONE)
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        api.create(VAULT, TWO, body(delegate, OWNER))
    with pytest.raises(HttpResponseError, match="AuthorizationFailed"):
        api.delete(VAULT, owner)


def test_a_subscription_has_a_limit(host: Any, app: str) -> None:
    rows = [
        {
            "key": f"{SECRET}{i}/x",
            "id": ONE,
            "scope": f"{SECRET}{i}",
            "scope_key": f"{SECRET}{i}".lower(),
            "principal_id": app,
            "principal_type": "ServicePrincipal",
            "role_definition_id": USER,
            "created": 0,
            "updated": 0,
            "created_by": "",
        }
        for i in range(LIMIT_PER_SUBSCRIPTION)
    ]
    with host.database.write() as conn:
        conn.execute(schema.role_assignment.insert(), rows)
    with pytest.raises(HttpResponseError, match="RoleAssignmentLimitExceeded"):
        host.rbac().role_assignments.create(SECRET, ONE, body(app))
    host.rbac().role_assignments.create(TEAM, ONE, body(app))
