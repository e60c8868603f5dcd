"""Trees come from the tests of plan; examples have no time limit of their own, a busy machine is slow now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from keyleaf.cloud import FakeAzure

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")

from cloud_world import World  # noqa: E402 - found through the path above


@pytest.fixture(params=["memory"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Azure with one resource group and nothing in it."""
    azure = FakeAzure("0a0a0a0a-0000-4000-8000-00000000000a")
    yield World(azure, "rg", "westeurope", lambda vault, state: azure.set_secret(state))
