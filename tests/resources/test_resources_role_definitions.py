"""Role definitions, through azure-mgmt-authorization."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError

from keyleaf.access import BUILT_IN_ROLES

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
HERE = f"/subscriptions/{SUBSCRIPTION}"
GROUP = f"{HERE}/resourceGroups/shop"
ROLE = "aaaaaaaa-0000-0000-0000-00000000000a"
SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"
OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"


def custom(name: str = "Read the shop's keys", scopes: list[str] | None = None, **more: Any) -> Any:
    return {
        "properties": {
            "roleName": name,
            "description": "Lets the nightly report read its API key.",
            "type": "CustomRole",
            "assignableScopes": scopes or [HERE],
            "permissions": [{"dataActions": ["Microsoft.KeyVault/vaults/secrets/getSecret/action"]}],
            **more,
        }
    }


def test_built_in_roles_are_found_by_name_and_by_id(host: Any) -> None:
    api = host.rbac().role_definitions
    (found,) = api.list(GROUP, filter="roleName eq 'key vault secrets user'")
    assert found.id == f"{HERE}/providers/Microsoft.Authorization/roleDefinitions/{SECRETS_USER}"
    assert (found.role_name, found.role_type, found.name) == ("Key Vault Secrets User", "BuiltInRole", SECRETS_USER)
    assert found.permissions[0].data_actions == [
        "Microsoft.KeyVault/vaults/secrets/getSecret/action",
        "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
    ]
    assert api.get_by_id(found.id).role_name == api.get(HERE, SECRETS_USER).role_name == "Key Vault Secrets User"
    assert len(list(api.list(HERE))) == len(BUILT_IN_ROLES)
    with pytest.raises(ResourceNotFoundError, match="RoleDefinitionDoesNotExist"):
        api.get(HERE, ROLE)


def test_custom_roles_live_and_die(host: Any) -> None:
    api = host.rbac().role_definitions
    made = api.create_or_update(HERE, ROLE, custom())
    assert (made.role_type, made.role_name) == ("CustomRole", "Read the shop's keys")
    assert [r.name for r in api.list(HERE, filter="type eq 'CustomRole'")] == [ROLE]
    assert [r.name for r in api.list(GROUP, filter="roleName eq 'Read the shop''s keys'")] == [ROLE]
    assert list(api.list(f"/subscriptions/{OTHER_SUBSCRIPTION}", filter="type eq 'CustomRole'")) == []
    changed = api.create_or_update(HERE, ROLE, custom("Read keys"))
    assert changed.role_name == "Read keys"

    principal = host.principal("id-report")
    guid = host.grant(GROUP, ROLE, principal)
    with pytest.raises(HttpResponseError, match="RoleDefinitionHasAssignments"):
        api.delete(HERE, ROLE)
    host.rbac().role_assignments.delete(GROUP, guid)
    assert api.delete(HERE, ROLE).role_name == "Read keys"
    assert api.delete(HERE, ROLE) is None


def test_roles_of_lower_scopes_are_listed_when_asked_for(host: Any) -> None:
    api = host.rbac().role_definitions
    api.create_or_update(GROUP, ROLE, custom(scopes=[GROUP]))
    assert list(api.list(HERE, filter="type eq 'CustomRole'")) == []
    assert [r.name for r in api.list(HERE, filter="atScopeAndBelow() and type eq 'CustomRole'")] == [ROLE]


FAULTY: list[Any] = [
    ({"description": " "}, "purpose"),
    ({"roleName": ""}, "roleName"),
    ({"type": "BuiltInRole"}, "CustomRole"),
    ({"permissions": []}, "no action"),
    ({"permissions": [{"actions": ["not an action"]}]}, "not an action"),
    ({"assignableScopes": []}, "assignableScopes"),
    ({"assignableScopes": ["/"]}, "assignableScopes"),
    ({"assignableScopes": ["shop"]}, "not a scope"),
    ({"assignableScopes": [f"{HERE}/resourceGroups/none"]}, "could not be found"),
]


def test_custom_roles_are_checked(host: Any) -> None:
    for change, reason in FAULTY:
        with pytest.raises(HttpResponseError, match=reason):
            host.rbac().role_definitions.create_or_update(HERE, ROLE, custom(**change))


def test_a_condition_that_would_not_be_kept_is_refused(host: Any) -> None:
    permission = {"actions": ["*/read"], "condition": "ActionMatches{'a/b'}", "conditionVersion": "2.0"}
    path = f"{HERE}/providers/Microsoft.Authorization/roleDefinitions/{ROLE}"
    answer = host.send("PUT", path, custom(permissions=[permission]))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "InvalidRoleDefinition")


def test_names_are_unique_and_built_in_roles_stay(host: Any) -> None:
    api = host.rbac().role_definitions
    with pytest.raises(ResourceExistsError, match="RoleDefinitionWithSameNameExists"):
        api.create_or_update(HERE, ROLE, custom("key vault READER"))
    for act in (lambda: api.create_or_update(HERE, OWNER, custom()), lambda: api.delete(HERE, OWNER)):
        with pytest.raises(HttpResponseError, match="built in"):
            act()


def test_nobody_reaches_beyond_the_scopes_he_governs(host: Any) -> None:
    local = host.principal("id-local-admin")
    host.grant(GROUP, OWNER, local)
    host.rbac().role_definitions.create_or_update(HERE, ROLE, custom())
    api = host.rbac(local).role_definitions
    with pytest.raises(HttpResponseError, match="LinkedAuthorizationFailed"):
        api.create_or_update(GROUP, ROLE, custom(scopes=[GROUP]))
    with pytest.raises(HttpResponseError, match="LinkedAuthorizationFailed"):
        api.create_or_update(GROUP, ROLE.replace("a", "b"), custom("Wide", scopes=[GROUP, HERE]))
    with pytest.raises(HttpResponseError, match="LinkedAuthorizationFailed"):
        api.delete(GROUP, ROLE)
    assert api.create_or_update(GROUP, ROLE.replace("a", "b"), custom("Mine", scopes=[GROUP])).role_name == "Mine"
