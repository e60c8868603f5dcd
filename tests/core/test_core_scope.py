"""Scopes: parsing, comparison, inheritance by path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.core.errors import InputError
from keyleaf.core.scope import Scope, identity_scope, resource_group_scope, secret_scope, vault_scope

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
segments = st.text(alphabet="abcXYZ019-_.", min_size=1, max_size=12).filter(lambda s: s not in (".", ".."))


def test_case_is_kept_but_not_compared() -> None:
    scope = Scope.parse(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/RG/")
    assert scope.path.endswith("/resourceGroups/RG")
    assert scope.key == Scope.parse(f"/SUBSCRIPTIONS/{SUBSCRIPTION}/resourcegroups/rg").key


def test_a_secret_is_below_its_vault_group_and_subscription() -> None:
    vault = vault_scope(SUBSCRIPTION, "rg", "kv-shop")
    secret = secret_scope(vault, "db")
    for wider in (vault, resource_group_scope(SUBSCRIPTION, "RG"), Scope.parse(f"/subscriptions/{SUBSCRIPTION}")):
        assert wider.contains(secret)
        assert not secret.contains(wider)
    assert Scope("/").contains(secret)
    assert secret.subscription == SUBSCRIPTION


def test_a_name_that_only_begins_alike_is_not_below() -> None:
    assert not vault_scope(SUBSCRIPTION, "rg", "kv").contains(secret_scope(vault_scope(SUBSCRIPTION, "rg", "kv2"), "a"))


def test_management_group() -> None:
    scope = Scope.parse("/providers/Microsoft.Management/managementGroups/Platform")
    assert scope.management_group == "platform"
    assert scope.subscription is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "subscriptions/x",
        "/subscriptions",
        "/subscriptions//resourceGroups/a",
        "/subscriptions/x/../y",
        "/subscriptions/a?b",
        "/providers/Microsoft.Management/managementGroups",
        "/providers/other/managementGroups/a",
        "/somewhere/else",
        "/subscriptions/a b",
        "/subscriptions/%2e",
    ],
)
def test_what_is_not_a_scope_is_refused(text: str) -> None:
    if text == "":
        assert Scope.parse(text).path == "/"
        return
    with pytest.raises(InputError):
        Scope.parse(text)


@given(st.lists(segments, max_size=6))
def test_every_prefix_contains_the_whole(parts: list[str]) -> None:
    whole = Scope.parse("/".join(["", "subscriptions", SUBSCRIPTION, *parts]))
    for cut in range(len(parts) + 1):
        prefix = Scope.parse("/".join(["", "subscriptions", SUBSCRIPTION.upper(), *parts[:cut]]))
        assert prefix.contains(whole)
        assert whole.contains(prefix) == (prefix.key == whole.key)


@given(st.text(max_size=80))
def test_junk_is_refused_with_the_one_error(text: str) -> None:
    try:
        scope = Scope.parse(text)
    except InputError:
        return
    assert Scope.parse(scope.path).key == scope.key


def test_identity_scope_is_arms_resource_id() -> None:
    assert identity_scope("s", "rg", "id-web").path == (
        "/subscriptions/s/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-web"
    )
