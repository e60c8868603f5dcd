"""What keyleaf expects of Azure: the same tests against the one in memory and the embedded one over TLS."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cloud_world import World

from keyleaf.access import RoleAssignment
from keyleaf.cloud import assignment_resource_id
from keyleaf.core.errors import RemoteError
from keyleaf.core.scope import Scope, resource_group_scope
from keyleaf.plan import SECRETS_USER, Credential, Identity, SecretState

CONDITION = (
    "((!(ActionMatches{'Microsoft.KeyVault/vaults/secrets/getSecret/action'})) OR "
    "(@Resource[Microsoft.KeyVault/vaults/secrets:name] StringEquals 'db'))"
)


def credential(
    identity: Identity, name: str = "keyleaf-a", subject: str = "system:serviceaccount:pay:app"
) -> Credential:
    return Credential(identity.scope, name, "https://issuer.example", subject, ("api://AzureADTokenExchange",))


def assignment(world: World, identity: Identity, condition: str = "", description: str = "one") -> RoleAssignment:
    scope = resource_group_scope(world.azure.subscription, world.group)
    id_ = assignment_resource_id(scope, identity.principal_id, SECRETS_USER)
    return RoleAssignment(id_, scope, identity.principal_id, SECRETS_USER, condition, description)


def held(world: World, identity: Identity) -> list[RoleAssignment]:
    return [found for found in world.azure.assignments() if found.principal_id == identity.principal_id]


def test_identity_is_made_once_and_keeps_its_ids(world: World) -> None:
    first = world.put_identity()
    second = world.azure.put_identity(first.scope, world.location, {"a": "b"})
    assert (second.client_id, second.principal_id) == (first.client_id, first.principal_id)
    (found,) = (i for i in world.azure.identities() if i.scope.key == first.scope.key)
    assert found == second
    assert found.tags == {"a": "b"}
    assert first.client_id != first.principal_id


def test_new_identity_of_an_old_name_is_somebody_else(world: World) -> None:
    first = world.put_identity()
    world.azure.delete_identity(first.scope)
    assert world.put_identity().principal_id != first.principal_id


def test_deleted_identity_takes_its_credentials_along_and_leaves_its_assignments(world: World) -> None:
    identity = world.put_identity()
    world.azure.put_credential(credential(identity))
    world.azure.put_assignment(assignment(world, identity))
    world.azure.delete_identity(identity.scope)
    world.azure.delete_identity(identity.scope)
    assert world.azure.credentials(identity.scope) in ([], ())
    assert len(held(world, identity)) == 1
    assert identity.scope.key not in {i.scope.key for i in world.azure.identities()}


def test_credentials_are_made_replaced_and_removed(world: World) -> None:
    identity = world.put_identity()
    world.azure.put_credential(credential(identity))
    world.azure.put_credential(credential(identity))
    assert list(world.azure.credentials(identity.scope)) == [credential(identity)]
    changed = credential(identity, subject="system:serviceaccount:pay:other")
    world.azure.put_credential(changed)
    assert list(world.azure.credentials(identity.scope)) == [changed]
    world.azure.delete_credential(identity.scope, "keyleaf-a")
    world.azure.delete_credential(identity.scope, "keyleaf-a")
    assert list(world.azure.credentials(identity.scope)) == []


def test_one_credential_per_issuer_and_subject(world: World) -> None:
    identity = world.put_identity()
    world.azure.put_credential(credential(identity))
    with pytest.raises(RemoteError):
        world.azure.put_credential(credential(identity, "keyleaf-b"))


def test_twenty_credentials_per_identity(world: World) -> None:
    identity = world.put_identity()
    for number in range(20):
        world.azure.put_credential(credential(identity, f"keyleaf-{number}", f"s-{number}"))
    with pytest.raises(RemoteError):
        world.azure.put_credential(credential(identity, "keyleaf-20", "s-20"))
    assert len(world.azure.credentials(identity.scope)) == 20


def test_assignment_is_made_once_and_its_condition_may_change(world: World) -> None:
    identity = world.put_identity()
    world.azure.put_assignment(assignment(world, identity))
    world.azure.put_assignment(assignment(world, identity))
    assert held(world, identity) == [assignment(world, identity)]
    world.azure.put_assignment(assignment(world, identity, CONDITION, "two"))
    assert held(world, identity) == [assignment(world, identity, CONDITION, "two")]


def test_the_same_grant_under_another_name_is_done_already(world: World) -> None:
    identity = world.put_identity()
    world.azure.put_assignment(assignment(world, identity))
    twin = assignment(world, identity)
    other = twin.id[:-12] + "000000000000"
    world.azure.put_assignment(RoleAssignment(other, twin.scope, twin.principal_id, SECRETS_USER))
    assert held(world, identity) == [twin]


def test_assignments_on_one_secret_are_listed_and_removed(world: World) -> None:
    identity = world.put_identity()
    vault = world.azure.put_vault(world.vault("kv-contract"), world.location, {})
    scope = Scope(f"{vault.scope.path}/secrets/db")
    id_ = assignment_resource_id(scope, identity.principal_id, SECRETS_USER)
    world.azure.put_assignment(RoleAssignment(id_, scope, identity.principal_id, SECRETS_USER))
    assert [found.scope.key for found in held(world, identity)] == [scope.key]
    world.azure.delete_assignment(id_)
    world.azure.delete_assignment(id_)
    assert held(world, identity) == []


def test_vault_is_made_once_and_decides_by_rbac(world: World) -> None:
    for _ in range(2):
        vault = world.azure.put_vault(world.vault("kv-contract"), world.location, {"a": "b"})
    assert vault.rbac
    assert vault.uri.startswith("https://")
    found = [v for v in world.azure.vaults() if v.name == "kv-contract"]
    assert [(v.scope.key, v.uri.rstrip("/"), dict(v.tags)) for v in found] == [
        (vault.scope.key, vault.uri.rstrip("/"), {"a": "b"})
    ]


def test_states_of_secrets_without_their_values(world: World) -> None:
    vault = world.azure.put_vault(world.vault("kv-contract"), world.location, {})
    expires = datetime(2040, 1, 1, tzinfo=UTC).timestamp()
    world.set_secret(vault, SecretState(vault.name, "plain"))
    world.set_secret(vault, SecretState(vault.name, "off", enabled=False))
    world.set_secret(vault, SecretState(vault.name, "dated", expires=expires, content_type="text/plain"))
    world.set_secret(vault, SecretState(vault.name, "gone", deleted=True))
    found = {state.name: state for state in world.azure.secrets(vault)}
    assert set(found) == {"plain", "off", "dated", "gone"}
    assert {name: (state.enabled, state.deleted) for name, state in found.items() if name != "gone"} == {
        "plain": (True, False),
        "off": (False, False),
        "dated": (True, False),
    }
    assert found["gone"].deleted
    assert (found["dated"].expires, found["dated"].content_type) == (expires, "text/plain")


def test_no_custom_role_to_begin_with(world: World) -> None:
    assert list(world.azure.custom_roles()) == []
