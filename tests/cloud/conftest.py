"""Azure in memory, and the embedded one in this process over TLS. Trees come from the tests of plan."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cloud_server import running_server
from cloud_world import World
from hypothesis import settings

from keyleaf.cli.session import Options, Session, connect
from keyleaf.cloud import FakeAzure
from keyleaf.plan import SecretState, Vault

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))
# A busy machine is slow now and then: examples have no time limit of their own.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """An operator signed in to an embedded server; the environment is as before when it has gone."""
    with running_server(tmp_path_factory.mktemp("cloud") / "state") as state:
        yield connect(state, Options(tree="shop", create_vaults=True))


@pytest.fixture(params=["memory", "embedded"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Azure with one resource group and no identity in it but the operator's."""
    if request.param == "memory":
        azure = FakeAzure("0a0a0a0a-0000-4000-8000-00000000000a")
        yield World(azure, "rg", "westeurope", lambda vault, state: azure.set_secret(state))
        return
    signed_in: Session = request.getfixturevalue("session")
    yield World(
        signed_in.azure,
        signed_in.named["resource-group"],
        signed_in.named["location"],
        lambda vault, state: set_secret(signed_in, vault, state),
    )
    clear(signed_in)


def clear(signed_in: Session) -> None:
    """Remove every identity but the operator's, and every assignment that is not the operator's."""
    azure = signed_in.azure
    operator = {i.principal_id for i in azure.identities() if i.client_id == os.environ["AZURE_CLIENT_ID"]}
    for assignment in azure.assignments():
        if assignment.principal_id not in operator:
            azure.delete_assignment(assignment.id)
    for identity in azure.identities():
        if identity.principal_id not in operator:
            azure.delete_identity(identity.scope)


def set_secret(signed_in: Session, vault: Vault, state: SecretState) -> None:
    """Make a secret with those attributes, through Microsoft's client."""
    client = signed_in.azure.secret_client(vault)
    expires = datetime.fromtimestamp(state.expires, UTC) if state.expires else None
    client.set_secret(
        state.name, "value", enabled=state.enabled, expires_on=expires, content_type=state.content_type or None
    )
    if state.deleted:
        client.begin_delete_secret(state.name).wait()
