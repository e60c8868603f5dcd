"""The whole round against the embedded server, through Microsoft's SDKs and the operator's own sign-in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from plan_trees import app, need, tree

from keyleaf.access import RoleAssignment
from keyleaf.cli.observed import seen_by
from keyleaf.cli.reconcile import plan_tree, reconcile
from keyleaf.cli.session import Session
from keyleaf.cloud import MicrosoftAzure, assignment_resource_id
from keyleaf.core.errors import RemoteError
from keyleaf.core.scope import resource_group_scope
from keyleaf.plan import SECRETS_USER

SHOP = tree(
    app("root"),
    app("pay", "root", 1),
    app("web", "root", 1, 2),
    needs=(need("pay", "kv-round", "db"), need("web", "kv-round", "token"), need("web", "kv-other", "mail")),
)


@pytest.fixture
def signed_in(session: Session, world: object) -> Iterator[Session]:
    """The operator's session; what a test makes is removed by ``world``."""
    yield session


@pytest.mark.parametrize("world", ["embedded"], indirect=True)
class TestEmbedded:
    def test_apply_then_plan_is_empty_and_pruning_ends_where_it_began(self, signed_in: Session) -> None:
        done = reconcile(signed_in, SHOP)
        assert {change.action for change in done.applied.changes} == {"create"}
        assert done.after.empty
        assert set(done.client_ids) == {("pay", "app"), ("web", "app")}
        assert {f.code for f in done.after.findings} == {"secret-missing"}
        only_pay = tree(app("root"), app("pay", "root", 1), needs=SHOP.needs[:1])
        pruned = reconcile(signed_in, only_pay)
        assert pruned.after.empty
        assert set(pruned.client_ids) == {("pay", "app")}

    def test_wide_scopes_with_conditions_round_trip(self, signed_in: Session) -> None:
        wide = Session(
            signed_in.azure, replace(signed_in.options, bind="resource-group"), signed_in.local, signed_in.named
        )
        assert reconcile(wide, SHOP).after.empty
        conditions = [found.condition for found in signed_in.azure.assignments() if found.condition]
        assert len(conditions) == 2
        assert reconcile(signed_in, SHOP).after.empty
        assert not any(found.condition for found in signed_in.azure.assignments())

    def test_reads_are_observed_in_the_log(self, signed_in: Session) -> None:
        reconcile(signed_in, SHOP)
        client = signed_in.secret_client("kv-round")
        client.set_secret("db", "value")
        client.get_secret("db")
        seen = seen_by(signed_in.local, signed_in.vault("kv-round"), "db", 0)
        assert seen is not None
        assert [(s.name, s.counts.reads) for s in seen.values()] == [("keyleaf-operator", 1)]
        assert [f.code for f in plan_tree(signed_in, SHOP).findings] == ["secret-missing", "secret-missing"]

    def test_unknown_principal_is_waited_for_and_then_told(self, signed_in: Session) -> None:
        waits: list[float] = []
        azure = MicrosoftAzure(
            signed_in.azure.credential,
            signed_in.azure.subscription,
            arm=signed_in.azure.arm,
            pause=waits.append,
        )
        scope = resource_group_scope(azure.subscription, signed_in.named["resource-group"])
        nobody = "99999999-0000-4000-8000-000000000009"
        wanted = RoleAssignment(assignment_resource_id(scope, nobody, SECRETS_USER), scope, nobody, SECRETS_USER)
        with pytest.raises(RemoteError, match="PrincipalNotFound"):
            azure.put_assignment(wanted)
        assert waits == sorted(waits)
        assert 60 < sum(waits) < 300

    def test_missing_resource_group_says_what_to_do(self, signed_in: Session) -> None:
        named = {**signed_in.named, "resource-group": "nowhere"}
        lost = Session(signed_in.azure, signed_in.options, signed_in.local, named)
        with pytest.raises(RemoteError) as caught:
            reconcile(lost, tree(app("pay"), needs=(need("pay", "kv-new", "db"),)))
        assert "ResourceGroupNotFound" in caught.value.message
        assert caught.value.hint.startswith("az group create")
