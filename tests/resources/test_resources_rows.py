"""What the decision reads from the database, and the filter language."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyleaf.access import RoleAssignment, holds_at
from keyleaf.core.errors import ServiceError
from keyleaf.core.scope import Scope
from keyleaf.resources import (
    assignments_around,
    assignments_at,
    load_assignments,
    load_roles,
    management_groups,
)
from keyleaf.resources.access_rows import assignment_of
from keyleaf.resources.filters import read_filter
from keyleaf.store import schema

SUBSCRIPTION = "11111111-1111-1111-1111-111111111111"
OTHER_SUBSCRIPTION = "22222222-2222-2222-2222-222222222222"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/kv_shop"
MANAGED = "/providers/Microsoft.Management/managementGroups"
SCOPES = [
    "/",
    f"{MANAGED}/company",
    f"{MANAGED}/Team",
    f"/subscriptions/{SUBSCRIPTION}",
    f"/subscriptions/{OTHER_SUBSCRIPTION}",
    GROUP,
    f"{GROUP}2",
    VAULT,
    VAULT.replace("_", "x"),
    f"{VAULT}/secrets/a",
    f"{VAULT.replace('_', 'x')}/secrets/a",
    f"{VAULT}/secrets/A/versions/b",
]
USER = "4633458b-17de-408a-b874-0445c86b69e6"


def test_ancestry_of_subscriptions_and_management_groups(host: Any) -> None:
    with host.database.read() as conn:
        found = management_groups(conn)
    assert found == {
        SUBSCRIPTION: ("team", "company"),
        OTHER_SUBSCRIPTION: ("company",),
        f"{MANAGED}/team".lower(): ("company",),
        f"{MANAGED}/company".lower(): (),
    }


def test_a_circle_of_management_groups_ends(host: Any) -> None:
    with host.database.write() as conn:
        conn.execute(
            schema.management_group.update().where(schema.management_group.c.name == "company").values(parent="team")
        )
        assert management_groups(conn)[SUBSCRIPTION] == ("team", "company")


def test_own_assignments_come_narrowest_first(host: Any) -> None:
    app = str(uuid.uuid4())
    for scope in SCOPES:
        host.grant(scope, USER, app)
    with host.database.read() as conn:
        found = load_assignments(conn, app.upper())
        lengths = [len(assignment.scope.key) for assignment in found]
        assert len(found) == len(SCOPES)
        assert lengths == sorted(lengths, reverse=True)
        assert load_assignments(conn, str(uuid.uuid4())) == ()
        assert USER in load_roles(conn)


def test_lists_agree_with_the_rule_of_inheritance_at_every_scope(host: Any) -> None:
    app = str(uuid.uuid4())
    for scope in SCOPES:
        host.grant(scope, USER, app)
    with host.database.read() as conn:
        ancestry = management_groups(conn)
        every = [assignment_of(row) for row in conn.execute(schema.role_assignment.select())]

        def keys(found: Any) -> set[str]:
            return {assignment.scope.key for assignment in found if assignment.principal_id == app}

        for text in SCOPES:
            scope = Scope(text)
            above: list[RoleAssignment] = [a for a in every if holds_at(a.scope, scope, ancestry)]
            below = [a for a in every if holds_at(scope, a.scope, ancestry)]
            assert keys(assignments_at(conn, scope)) == keys(above)
            around = [assignment_of(row) for row in assignments_around(conn, scope, below=True)]
            assert keys(around) == keys([*above, *below])
            at = [assignment_of(row) for row in assignments_around(conn, scope, below=False)]
            assert keys(at) == keys(above)


FIELDS, FUNCTIONS = ("principalId", "roleName"), ("atScope", "assignedTo")


@pytest.mark.parametrize(
    ("text", "equals", "functions"),
    [
        ("", {}, {}),
        ("  ", {}, {}),
        ("atScope()", {}, {"atscope": ""}),
        ("PRINCIPALID EQ 'x' AND atscope ( )", {"principalid": "x"}, {"atscope": ""}),
        ("assignedTo('x') and roleName eq 'it''s'", {"rolename": "it's"}, {"assignedto": "x"}),
        ("principalId eq 'x' and principalId eq 'x'", {"principalid": "x"}, {}),
    ],
)
def test_filters(text: str, equals: dict[str, str], functions: dict[str, str]) -> None:
    found = read_filter(text, fields=FIELDS, functions=FUNCTIONS)
    assert (found.equals, found.functions) == (equals, functions)


@pytest.mark.parametrize(
    "text",
    [
        "principalId",
        "principalId ne 'x'",
        "principalId eq x",
        "principalId eq 'x' or atScope()",
        "principalId eq 'x' and",
        "principalId eq 'x' and principalId eq 'y'",
        "owner eq 'x'",
        "burn()",
        "atScope() atScope()",
        "principalId eq 'x",
        "a" * 3000,
    ],
)
def test_other_filters_are_refused(text: str) -> None:
    with pytest.raises(ServiceError) as refused:
        read_filter(text, fields=FIELDS, functions=FUNCTIONS)
    assert refused.value.status == 400


@given(st.text(max_size=40), st.text(max_size=20))
def test_any_value_survives_its_quoting(value: str, other: str) -> None:
    quoted = value.replace("'", "''")
    found = read_filter(f"roleName eq '{quoted}' and atScope()", fields=FIELDS, functions=FUNCTIONS)
    assert found.equals == {"rolename": value}


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="principalIdeqand '()atScope\n", max_size=40) | st.text(max_size=30))
def test_junk_is_refused_and_never_crashes(text: str) -> None:
    try:
        read_filter(text, fields=FIELDS, functions=FUNCTIONS)
    except ServiceError as error:
        assert error.status == 400
