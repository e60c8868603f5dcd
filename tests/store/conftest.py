"""An empty store on each database, and a state directory beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from keyleaf.store import Database, StateDirectory


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database without rows, on SQLite and on Postgres."""
    opened = Database.open(database_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    """A state directory without files."""
    return StateDirectory.open(tmp_path / "state")
