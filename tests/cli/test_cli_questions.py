"""``who`` and ``why``: their answers, taken from an Azure in memory after a real plan and apply."""

from __future__ import annotations

from typing import Any

import pytest
from plan_trees import NOW, SUBSCRIPTION, app, need, settings, tree

from keyleaf.access import RoleAssignment
from keyleaf.cli.observed import Seen
from keyleaf.cli.secret_name import find_secret
from keyleaf.cli.session import Options, Session
from keyleaf.cli.who import Reader, as_data, readers
from keyleaf.cli.why import decision_as_data, find_identity, other_reasons
from keyleaf.cloud import FakeAzure, apply_plan, assignment_resource_id, read_actual
from keyleaf.core.errors import InputError
from keyleaf.core.scope import Scope, identity_scope, secret_scope
from keyleaf.plan import SECRETS_USER, Actual, EffectiveAccess, Observation, SecretState, State, make_plan

SHOP = tree(
    app("pay"),
    app("web"),
    app("late"),
    needs=(need("pay", "kv-one", "db"), need("web", "kv-one", "token"), need("late", "kv-two", "db", line=11)),
)


@pytest.fixture
def azure() -> FakeAzure:
    azure = FakeAzure(SUBSCRIPTION)
    apply_plan(azure, make_plan(SHOP, settings(), read_actual(azure, "shop", ()), NOW))
    for vault, name in (("kv-one", "db"), ("kv-one", "token"), ("kv-two", "db")):
        azure.set_secret(SecretState(vault, name))
    return azure


def session(azure: FakeAzure) -> Session:
    named = {"subscription": SUBSCRIPTION, "resource-group": "rg", "location": "westeurope", "issuer": "https://issuer"}
    return Session(azure, Options(tree="shop"), None, named)  # type: ignore[arg-type]


def actual(azure: FakeAzure) -> Actual:
    return read_actual(azure, "shop", {"kv-one", "kv-two"})


def ask(azure: FakeAzure, seen: dict[str, Seen] | None) -> dict[str, Reader]:
    vault, name = find_secret(session(azure), "kv-one/db")
    return {reader.name: reader for reader in readers(session(azure), SHOP, actual(azure), vault, name, seen)}


def object_id(azure: FakeAzure, name: str) -> str:
    return next(identity.principal_id for identity in azure.identities() if identity.name == name)


def test_without_a_log_only_two_sides_are_told(azure: FakeAzure) -> None:
    (reader,) = ask(azure, None).values()
    assert (reader.name, reader.application, reader.granted, reader.state) == ("id-pay", "pay", True, None)
    assert [str(grant.where) for grant in reader.grants] == ["pay/access.yaml:7"]


def test_each_side_adds_its_identities(azure: FakeAzure) -> None:
    visitor = azure.put_identity(identity_scope(SUBSCRIPTION, "rg", "id-visitor"), "westeurope", {})
    scope = Scope(f"/subscriptions/{SUBSCRIPTION}")
    wide = assignment_resource_id(scope, visitor.principal_id, SECRETS_USER)
    azure.put_assignment(RoleAssignment(wide, scope, visitor.principal_id, SECRETS_USER))
    seen = {
        object_id(azure, "id-pay"): Seen(Observation(reads=2), NOW),
        object_id(azure, "id-web"): Seen(Observation(denied=1)),
        "somebody-gone": Seen(Observation(reads_before=4), NOW - 1, "old-app"),
    }
    found = ask(azure, seen)
    assert {name: reader.state for name, reader in found.items()} == {
        "id-pay": State.HEALTHY,
        "id-visitor": State.GHOST_GRANT,
        "id-web": State.PROBE,
        "old-app": State.GHOST_HOLDER,
    }
    assert next(iter(found)) == "id-pay"


def test_lost_role_is_told_as_broken_or_as_about_to_fail(azure: FakeAzure) -> None:
    pay = object_id(azure, "id-pay")
    for assignment in azure.assignments():
        azure.delete_assignment(assignment.id)
    assert ask(azure, {})["id-pay"].state is State.WILL_FAIL
    assert ask(azure, {pay: Seen(Observation(reads_before=1), NOW)})["id-pay"].state is State.BROKEN_NOW


def test_declared_identity_that_is_not_there_yet(azure: FakeAzure) -> None:
    azure.delete_identity(identity_scope(SUBSCRIPTION, "rg", "id-pay"))
    reader = ask(azure, {})["id-pay"]
    assert (reader.object_id, reader.decision, reader.state) == ("", None, State.WILL_FAIL)


def test_json_of_who(azure: FakeAzure) -> None:
    vault, name = find_secret(session(azure), "kv-one/db")
    found = readers(
        session(azure), SHOP, actual(azure), vault, name, {object_id(azure, "id-pay"): Seen(Observation(1), NOW)}
    )
    data = as_data(vault, name, SecretState("kv-one", "db"), found, True)
    (reader,) = data["readers"]
    assert reader["declared"] == [{"by": "SecretAccess/pay", "where": "pay/access.yaml:7", "application": "pay"}]
    assert (reader["state"], reader["reads"], reader["last_read"]) == ("healthy", 1, "2023-11-14T22:13:20Z")
    assert reader["role"] == "Key Vault Secrets User"


@pytest.mark.parametrize("how", ["pay", "id-pay", "ID-PAY", "client", "object"])
def test_identity_by_each_of_its_names(azure: FakeAzure, how: str) -> None:
    identity = next(identity for identity in azure.identities() if identity.name == "id-pay")
    text = {"client": identity.client_id.upper(), "object": identity.principal_id}.get(how, how)
    assert find_identity(actual(azure), text) == (identity, identity.principal_id)


def test_unknown_identities(azure: FakeAzure) -> None:
    guid = "99999999-0000-4000-8000-000000000009"
    assert find_identity(actual(azure), guid.upper()) == (None, guid)
    with pytest.raises(InputError, match="known: id-late, id-pay, id-web"):
        find_identity(actual(azure), "nobody")


def explained(azure: FakeAzure, application: str, secret: str) -> dict[str, Any]:
    state = actual(azure)
    vault, name = find_secret(session(azure), secret)
    _, principal = find_identity(state, application)
    decision = EffectiveAccess(state).decide(principal, secret_scope(vault.scope, name), vault.name, name)
    return decision_as_data(decision)


def test_why_allowed_names_the_assignment(azure: FakeAzure) -> None:
    answer = explained(azure, "pay", "kv-one/db")
    assert (answer["allowed"], answer["role"], answer["suggestion"]) == (True, "Key Vault Secrets User", None)
    assert answer["assignment"] in {assignment.id for assignment in azure.assignments()}


def test_why_denied_names_what_would_help(azure: FakeAzure) -> None:
    answer = explained(azure, "web", "kv-one/db")
    assert answer["allowed"] is False
    assert answer["suggestion"]["role"] == "Key Vault Secrets User"
    assert answer["suggestion"]["scope"].endswith("/vaults/kv-one/secrets/db")
    assert any("kv-one/secrets/token" in miss for miss in answer["near"])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (SecretState("kv-one", "db"), []),
        (SecretState("kv-one", "db", enabled=False), ["is disabled"]),
        (SecretState("kv-one", "db", deleted=True), ["is deleted"]),
        (SecretState("kv-one", "other"), ["does not exist"]),
    ],
)
def test_reasons_besides_the_roles(azure: FakeAzure, state: SecretState, words: list[str]) -> None:
    vault, _ = find_secret(session(azure), "kv-one/db")
    reasons = other_reasons(vault, "db", Actual(vaults=(vault,), secrets=(state,), listed=frozenset({"kv-one"})))
    assert len(reasons) == len(words)
    assert all(word in reason for word, reason in zip(words, reasons, strict=True))


def test_names_of_secrets(azure: FakeAzure) -> None:
    def named(text: str) -> tuple[str, str]:
        vault, name = find_secret(session(azure), text, SHOP)
        return vault.name, name

    assert named("KV-One/db") == ("kv-one", "db")
    assert named("https://kv-one.vault.azure.net/secrets/db") == ("kv-one", "db")
    assert named("https://kv-one.vault.azure.net/secrets/db/" + "0" * 32) == ("kv-one", "db")
    assert named("token") == ("kv-one", "token")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("db", "one of: kv-one/db, kv-two/db"),
        ("nowhere", "one of: kv-one/nowhere, kv-two/nowhere"),
        ("kv-three/db", "it has: kv-one, kv-two"),
        ("kv-one/a/b", "is not a secret name"),
        ("kv_one/db", "is not a vault name"),
        ("https://evil.example/secrets/db", "no vault of the subscription is at https://evil.example"),
        ("", "is not a secret name"),
    ],
)
def test_names_that_do_not_do(azure: FakeAzure, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_secret(session(azure), text, SHOP)
