"""One server for the tests of this room that speak to a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedded import Embedded, start_embedded


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A server on SQLite, in a process of its own."""
    folder = tmp_path_factory.mktemp("client")
    server = start_embedded(folder / "state", folder)
    yield server
    server.stop()
