"""An empty room on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vault_room import Room

from keyleaf.store import Database


@pytest.fixture
def room(database_url: str) -> Iterator[Room]:
    """A vault without secrets, on SQLite and on Postgres."""
    database = Database.open(database_url)
    yield Room(database)
    database.close()
