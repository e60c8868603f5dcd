"""Plan and apply together: they converge, touch only what is ours, and go on after a kill."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from plan_trees import NOW, SUBSCRIPTION, account, app, need, random_trees, settings, tree

from keyleaf.access import RoleAssignment
from keyleaf.cloud import FakeAzure, apply_plan, assignment_resource_id, read_actual
from keyleaf.core.errors import RemoteError
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.core.scope import Scope, identity_scope
from keyleaf.plan import SECRETS_USER, Actual, Credential, Kind, Plan, Settings, make_plan, needed_vaults
from keyleaf.tree.model import AppTree

SECRETS_OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
BINDS = st.sampled_from(["secret", "vault", "resource-group"])


def planned(azure: FakeAzure, what: AppTree, how: Settings) -> Plan:
    return make_plan(what, how, read_actual(azure, how.tree, needed_vaults(what)), NOW)


def converge(azure: FakeAzure, what: AppTree, how: Settings) -> None:
    apply_plan(azure, planned(azure, what, how))


def state(azure: FakeAzure) -> Actual:
    return read_actual(azure, "shop", ())


def codes(plan: Plan) -> list[str]:
    return [finding.code for finding in plan.findings if finding.code != "secret-missing"]


ONE = tree(app("pay"), needs=(need("pay", "kv-one", "db"),))


@given(random_trees(), BINDS)
def test_plan_after_apply_is_empty(random: AppTree, bind: Any) -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings(bind=bind)
    converge(azure, random, how)
    assert planned(azure, random, how).changes == ()


@given(random_trees(), random_trees(), BINDS, BINDS)
def test_from_any_tree_to_any_other(first: AppTree, second: AppTree, bind: Any, other: Any) -> None:
    """What the first tree left is pruned: the result is that of applying the second alone."""
    azure, fresh = FakeAzure(SUBSCRIPTION), FakeAzure(SUBSCRIPTION)
    converge(azure, first, settings(bind=bind))
    converge(azure, second, settings(bind=other))
    assert planned(azure, second, settings(bind=other)).changes == ()
    converge(fresh, second, settings(bind=other))
    assert shape(azure) == shape(fresh)


def shape(azure: FakeAzure) -> dict[str, Any]:
    """The state without the ids that Azure draws."""
    now = state(azure)
    names = {identity.principal_id: identity.name for identity in now.identities}
    return {
        "identities": sorted((i.name, tuple(sorted(i.tags.items()))) for i in now.identities),
        "credentials": sorted((c.identity.key, c.name, c.subject) for c in now.credentials),
        "assignments": sorted((a.scope.key, names[a.principal_id], a.condition) for a in now.assignments),
    }


class Killed(BaseException):
    """The process died."""


class Dying:
    """Azure seen from a process that dies after some writes: before or after the last one took effect."""

    def __init__(self, azure: FakeAzure, writes: int, lost: bool) -> None:
        self._azure = azure
        self._left = writes
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        method: Callable[..., Any] = getattr(self._azure, name)
        if not name.startswith(("put_", "delete_")):
            return method

        def run(*arguments: Any) -> Any:
            self._left -= 1
            if self._left < 0 or (self._left == 0 and self._lost):
                raise Killed
            result = method(*arguments)
            if self._left == 0:
                raise Killed
            return result

        return run


@given(random_trees(), random_trees(), st.integers(1, 30), st.booleans(), BINDS)
def test_killed_at_any_step_the_next_run_ends_where_an_unbroken_one_would(
    first: AppTree, second: AppTree, writes: int, lost: bool, bind: Any
) -> None:
    azure, unbroken, how = FakeAzure(SUBSCRIPTION), FakeAzure(SUBSCRIPTION), settings(bind=bind)
    for what in (first, second):
        plan = planned(azure, what, how)
        with suppress(Killed):
            apply_plan(Dying(azure, writes, lost), plan)  # type: ignore[arg-type]
        converge(azure, what, how)
        converge(unbroken, what, how)
        assert planned(azure, what, how).changes == ()
    assert shape(azure) == shape(unbroken)


@given(random_trees(), st.data())
def test_drift_is_mended_and_what_others_made_is_never_touched(random: AppTree, data: st.DataObject) -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    converge(azure, random, how)
    before = state(azure)
    # Others live in the same resource group.
    foreign = azure.put_identity(identity_scope(SUBSCRIPTION, "rg", "id-theirs"), "westeurope", {"team": "theirs"})
    twin_tags = {"keyleaf-managed-by": "keyleaf", "keyleaf-tree": "another"}
    other_tree = azure.put_identity(identity_scope(SUBSCRIPTION, "rg", "id-other-tree"), "westeurope", twin_tags)
    azure.put_credential(Credential(foreign.scope, "keyleaf-looks-like-ours", "https://i", "s", ("a",)))
    scope = Scope(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg")
    theirs = [
        assigned(scope, foreign.principal_id, "made by hand"),
        assigned(scope, other_tree.principal_id, "keyleaf tree=another app=x"),
    ]
    if before.identities:
        widened = data.draw(st.sampled_from(before.identities))
        theirs.append(assigned(scope, widened.principal_id, "for the night shift", SECRETS_OFFICER))
        azure.put_credential(Credential(widened.scope, "by-hand", "https://elsewhere", "somebody", ("a",)))
    for assignment in theirs:
        azure.put_assignment(assignment)
    # And somebody breaks some of what is ours.
    for identity in before.identities:
        if data.draw(st.booleans()):
            azure.put_identity(identity.scope, identity.location, {**identity.tags, "keyleaf-application": "wrong"})
    for credential in before.credentials:
        match data.draw(st.sampled_from(["keep", "delete", "change"])):
            case "delete":
                azure.delete_credential(credential.identity, credential.name)
            case "change":
                azure.put_credential(replace(credential, issuer="https://evil.example"))
    for assignment in before.assignments:
        if data.draw(st.booleans()):
            azure.delete_assignment(assignment.id)
    plan = planned(azure, random, how)
    ours = {identity.name for identity in before.identities}
    assert {change.identity for change in plan.changes} <= ours
    assert all(c.before not in theirs for c in plan.changes)
    apply_plan(azure, plan)
    after = state(azure)
    assert planned(azure, random, how).changes == ()
    assert set(theirs) <= set(after.assignments)
    assert all(identity in after.identities for identity in (foreign, other_tree))
    assert azure.credentials(foreign.scope) != ()
    assert set(before.assignments) <= set(after.assignments)
    assert set(before.credentials) <= set(after.credentials)
    if before.identities:
        assert {"role-wider-than-declared", "federated-credential-not-ours"} <= set(codes(plan))


def assigned(scope: Scope, principal: str, description: str, role: str = SECRETS_USER) -> RoleAssignment:
    return RoleAssignment(assignment_resource_id(scope, principal, role), scope, principal, role, "", description)


def test_parents_come_before_children_then_sync_waves_and_deletes_go_the_other_way() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    family = (app("root"), app("late", "root", 1, 5), app("early", "root", 1, -1), app("leaf", "early", 2, -9))
    what = tree(*family, needs=tuple(need(a.key, "kv-one", a.key) for a in family))
    plan = planned(azure, what, how)
    order = [c.application for c in plan.changes if c.kind is Kind.IDENTITY]
    assert order == ["root", "early", "late", "leaf"]
    assert plan.changes[0].kind is Kind.VAULT
    for name in order:
        kinds = [c.kind for c in plan.changes if c.application == name and c.kind is not Kind.VAULT]
        assert kinds == [Kind.IDENTITY, Kind.CREDENTIAL, Kind.ASSIGNMENT]
    done: list[str] = []
    apply_plan(azure, plan, lambda change: done.append(change.application) if change.kind is Kind.IDENTITY else None)
    assert done == order
    pruned = planned(azure, tree(*family, needs=(need("root", "kv-one", "mail"),)), how)
    deletes = [c for c in pruned.changes if c.action == "delete"]
    assert [c.application for c in deletes if c.kind is Kind.IDENTITY] == ["leaf", "late", "early"]
    assert [c.kind for c in deletes if c.application == "leaf"] == [Kind.ASSIGNMENT, Kind.IDENTITY]
    assert pruned.changes[0].action == "create"


def test_removed_secret_loses_its_role_and_the_others_keep_theirs() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    converge(azure, tree(app("pay"), needs=(need("pay", "kv-one", "db"), need("pay", "kv-one", "token"))), how)
    plan = planned(azure, ONE, how)
    assert [(c.action, c.name) for c in plan.changes] == [("delete", "Key Vault Secrets User on kv-one/token")]


def test_identity_of_somebody_else_is_left_alone_and_named() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    azure.put_identity(identity_scope(SUBSCRIPTION, "rg", "id-pay"), "westeurope", {"team": "theirs"})
    plan = planned(azure, ONE, how)
    assert [c.kind for c in plan.changes] == [Kind.VAULT]
    (finding,) = (f for f in plan.findings if f.code == "identity-not-ours")
    assert (finding.severity, finding.owner, str(finding.where)) == (Severity.ERROR, "pay", "apps/pay.yaml:1")


def test_tags_of_others_on_our_identity_survive() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    converge(azure, ONE, how)
    (identity,) = azure.identities()
    azure.put_identity(identity.scope, identity.location, {**identity.tags, "keyleaf-application": "x", "cost": "7"})
    converge(azure, ONE, how)
    assert azure.identities()[0].tags == {**identity.tags, "cost": "7"}


def test_equal_assignment_made_by_hand_is_taken_as_it_is() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    converge(azure, ONE, how)
    (ours,) = azure.assignments()
    azure.delete_assignment(ours.id)
    azure.put_assignment(replace(ours, description="by hand"))
    plan = planned(azure, ONE, how)
    assert (plan.changes, codes(plan)) == ((), ["assignment-not-ours"])
    removed = planned(azure, tree(app("pay"), needs=(need("pay", "kv-one", "token"),)), how)
    assert [c.action for c in removed.changes] == ["create"]
    assert "role-wider-than-declared" in codes(removed)


def test_nothing_is_pruned_of_what_could_not_be_read() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    family = (app("root"), app("a", "root", 1), app("b", "root", 1), app("leaf", "a", 2))
    converge(azure, tree(*family, needs=tuple(need(x.key, "kv-one", x.key) for x in family)), how)
    # "a" cannot be rendered now: it and what it would render ("leaf") stay; "b" has really let go of its secret.
    broken = tree(
        app("root"),
        app("a", "root", 1, state="not-rendered"),
        app("b", "root", 1),
        needs=(need("root", "kv-one", "root"),),
    )
    plan = planned(azure, broken, how)
    assert {c.application for c in plan.changes} == {"b"}
    (held,) = (f for f in plan.findings if f.code == "prune-held")
    assert "id-a, id-leaf" in held.message
    malformed = Finding("yaml-malformed", Severity.ERROR, "cannot be read", "", Location("x.yaml", 3))
    assert planned(azure, tree(app("root"), findings=(malformed,)), how).changes == ()
    assert planned(azure, tree(), how).changes == ()


def test_dangling_assignment_of_a_deleted_identity_is_swept() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    converge(azure, ONE, how)
    (identity,) = azure.identities()
    azure.delete_identity(identity.scope)
    plan = planned(azure, ONE, how)
    assert [(c.action, c.kind) for c in plan.changes] == [
        ("create", Kind.IDENTITY),
        ("create", Kind.CREDENTIAL),
        ("create", Kind.ASSIGNMENT),
        ("delete", Kind.ASSIGNMENT),
    ]
    apply_plan(azure, plan)
    assert len(azure.assignments()) == 1
    assert planned(azure, ONE, how).changes == ()


def test_refusal_says_what_could_not_be_done() -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    plan = planned(azure, ONE, how)
    azure.put_vault(
        Scope(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/x/providers/Microsoft.KeyVault/vaults/kv-one"), "x", {}
    )
    with pytest.raises(RemoteError, match="could not create the vault kv-one: VaultAlreadyExists"):
        apply_plan(azure, plan)
    assert azure.identities() == ()


def test_two_trees_share_a_subscription() -> None:
    azure = FakeAzure(SUBSCRIPTION)
    other = tree(app("web"), needs=(need("web", "kv-one", "db"),), accounts=(account("web", "app"),))
    converge(azure, ONE, settings())
    converge(azure, other, settings(tree="blog"))
    assert planned(azure, ONE, settings()).changes == ()
    assert planned(azure, other, settings(tree="blog")).changes == ()
    assert len(azure.identities()) == 2


@hypothesis_settings(max_examples=5, deadline=None)
@given(st.integers(40, 60))
def test_wide_stages_run_side_by_side_and_end_the_same(count: int) -> None:
    azure, how = FakeAzure(SUBSCRIPTION), settings()
    many = tree(
        *(app(f"app-{n}") for n in range(count)), needs=tuple(need(f"app-{n}", "kv-one", "db") for n in range(count))
    )
    converge(azure, many, how)
    assert len(azure.assignments()) == count
    assert planned(azure, many, how).changes == ()
