"""An embedded server in a process of its own, with a vault, a payload key and a person who may read them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.embedded import start_embedded

from bench.flow_contestant import SECRET

PAYLOAD_KEY = "payload-key"


@contextlib.contextmanager
def furnished() -> Iterator[dict[str, str]]:
    """Environment of a program that reads the vault as a managed identity."""
    with tempfile.TemporaryDirectory(prefix="keyleaf-bench-") as scratch:
        server = start_embedded(Path(scratch) / "state", Path(scratch))
        try:
            vault, person = server.vault("kv-bench"), server.person()
            server.grant(person, vault["id"])
            server.put(vault, SECRET, "the password of a portal")
            server.put(vault, PAYLOAD_KEY, "bench payload key, forty-four characters long")
            yield {**person.environment, "AZURE_KEYVAULT_URL": vault["url"]}
        finally:
            server.stop()
