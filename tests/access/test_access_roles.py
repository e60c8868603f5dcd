"""Role definitions: Azure's ids and patterns, and how a pattern covers an action."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.access import BUILT_IN_ROLES, SECRET_ACTIONS, Permission, RoleDefinition, action_matches, least_role

GET = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
META = "Microsoft.KeyVault/vaults/secrets/readMetadata/action"


def by_name(name: str) -> RoleDefinition:
    return next(role for role in BUILT_IN_ROLES.values() if role.name == name)


@pytest.mark.parametrize(
    ("name", "guid", "secrets"),
    [
        ("Key Vault Administrator", "00482a5a-887f-4fb3-b363-3b7fe8e74483", 9),
        ("Key Vault Secrets Officer", "b86a8fe4-44ce-4948-aee5-eccb2c155cd7", 9),
        ("Key Vault Secrets User", "4633458b-17de-408a-b874-0445c86b69e6", 2),
        ("Key Vault Certificate User", "db79e9a7-68ee-4b58-9aeb-b90e7c24fcba", 2),
        ("Key Vault Reader", "21090545-7ca7-4776-b22c-e363652d74d2", 1),
        ("Key Vault Certificates Officer", "a4417e6f-fecd-4de8-b567-7b0420556985", 0),
        ("Key Vault Crypto Officer", "14b46e9e-c2b7-41b4-b07b-48a6ebf60603", 0),
        ("Key Vault Crypto User", "12338af0-0e69-4776-bea7-57ae8d297424", 0),
        ("Key Vault Crypto Service Encryption User", "e147488a-f6f5-4113-8e2d-b22465e65bf6", 0),
        ("Key Vault Crypto Service Release User", "08bbd89e-9f13-488c-ac41-acfcb10c90ab", 0),
        ("Key Vault Contributor", "f25e0fa2-a7c8-4377-a976-54943a77a395", 0),
        ("Key Vault Purge Operator", "a68e7c17-0ab2-4c09-9a58-125dae29748c", 0),
        ("Key Vault Data Access Administrator", "8b54135c-b56d-4d72-a534-26097cfdc8d8", 0),
        ("Owner", "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", 0),
        ("Contributor", "b24988ac-6180-42a0-ab88-20f7382dd24c", 0),
        ("Reader", "acdd72a7-3385-48ef-bd42-f606fba81ae7", 0),
        ("User Access Administrator", "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", 0),
        ("Role Based Access Control Administrator", "f58310d9-a9f6-439a-9e8d-f62e7b41a168", 0),
        ("Managed Identity Operator", "f1a07417-d97a-45cb-824c-7a7467783830", 0),
        ("Managed Identity Contributor", "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59", 0),
    ],
)
def test_built_in_roles_have_azures_ids_and_cover_so_many_secret_actions(name: str, guid: str, secrets: int) -> None:
    role = BUILT_IN_ROLES[guid]
    assert role.name == name
    assert role.id == guid
    assert sum(role.covers(action, data=True) for action in SECRET_ACTIONS) == secrets


def test_control_and_data_actions_are_two_worlds() -> None:
    assert by_name("Owner").covers("Microsoft.KeyVault/vaults/write", data=False)
    assert not by_name("Owner").covers(GET, data=True)
    assert not by_name("Key Vault Secrets Officer").covers("Microsoft.KeyVault/vaults/secrets/write", data=False)


@pytest.mark.parametrize(
    "action",
    ["Microsoft.Authorization/roleAssignments/write", "microsoft.authorization/ROLEASSIGNMENTS/DELETE"],
)
def test_contributor_cannot_assign_roles(action: str) -> None:
    assert by_name("Owner").covers(action, data=False)
    assert not by_name("Contributor").covers(action, data=False)


def test_only_the_purge_operator_and_wider_roles_purge_vaults() -> None:
    purge = "Microsoft.KeyVault/locations/deletedVaults/purge/action"
    able = {role.name for role in BUILT_IN_ROLES.values() if role.covers(purge, data=False)}
    assert able == {"Owner", "Contributor", "Key Vault Purge Operator"}


def test_what_one_permission_takes_away_another_may_grant() -> None:
    role = RoleDefinition(
        "x", "x", "x", (Permission(data_actions=("a/*",), not_data_actions=("a/b",)), Permission(data_actions=("a/b",)))
    )
    assert role.covers("a/b", data=True)
    assert not Permission(data_actions=("a/*",), not_data_actions=("a/b",)).covers("A/B", data=True)


PIECES = st.text(alphabet="aAbB*/", max_size=12)


@given(PIECES, st.text(alphabet="aAbB/", max_size=12))
def test_pattern_agrees_with_a_regular_expression(pattern: str, action: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), action, re.IGNORECASE) is not None
    assert action_matches(pattern, action) == expected


def test_a_pattern_full_of_stars_costs_nothing() -> None:
    assert not action_matches("*a" * 5000 + "*b", "a" * 4000)


@pytest.mark.parametrize(
    ("action", "data", "role"),
    [
        (GET, True, "Key Vault Secrets User"),
        (META, True, "Key Vault Reader"),
        ("Microsoft.KeyVault/vaults/secrets/setSecret/action", True, "Key Vault Secrets Officer"),
        ("Microsoft.KeyVault/vaults/write", False, "Key Vault Contributor"),
        ("Microsoft.KeyVault/locations/deletedVaults/purge/action", False, "Key Vault Purge Operator"),
        (
            "Microsoft.ManagedIdentity/userAssignedIdentities/write",
            False,
            "Managed Identity Contributor",
        ),
        ("Microsoft.Authorization/roleAssignments/write", False, "Role Based Access Control Administrator"),
    ],
)
def test_least_role(action: str, data: bool, role: str) -> None:
    found = least_role(action, data=data)
    assert found is not None
    assert found.name == role


def test_no_role_for_an_unknown_action() -> None:
    assert least_role("Contoso/things/burn/action", data=True) is None
