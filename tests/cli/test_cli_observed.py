"""What the audit log says about the readers of one secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyleaf.cli.observed import Seen, seen_by, summarize
from keyleaf.core.scope import vault_scope
from keyleaf.ledger import Record
from keyleaf.plan import Observation, Vault

SCOPE = vault_scope("0a0a0a0a-0000-4000-8000-00000000000a", "rg", "kv-one")
VAULT = Vault("kv-one", SCOPE, "https://127.0.0.1:8443/")
OURS = f"{SCOPE}/secrets/db"
SINCE = 1_700_000_000.0


def entry(identity: str, status: int, seconds: float, resource: str = OURS, application: str = "") -> Record:
    return Record(
        time=int(seconds * 1_000_000),
        request_id="r",
        operation="SecretGet",
        decision="allowed" if status == 200 else "denied",
        status=status,
        identity=identity,
        resource=resource,
        application=application,
        epoch=1,
        seq=0,
    )


@pytest.mark.parametrize("resource", [OURS, OURS.upper(), "https://127.0.0.1:8443/secrets/db"])
def test_reads_in_and_before_the_window_and_refusals(resource: str) -> None:
    entries = [
        entry("a", 200, SINCE - 0.000001, resource),
        entry("a", 200, SINCE, resource, "pay"),
        entry("a", 403, SINCE + 1, resource),
        entry("a", 404, SINCE + 2, resource),
        entry("b", 401, SINCE, resource),
    ]
    assert summarize(entries, VAULT, "DB", SINCE) == {
        "a": Seen(Observation(1, 1, 1), SINCE, "pay"),
        "b": Seen(Observation(0, 0, 1), 0.0, ""),
    }


def test_other_secrets_and_strangers_do_not_count() -> None:
    entries = [
        entry("a", 200, SINCE, f"{SCOPE}2/secrets/db"),
        entry("a", 200, SINCE, f"{SCOPE}/secrets/db2"),
        entry("", 401, SINCE),
    ]
    assert summarize(entries, VAULT, "db", SINCE) == {}


def test_no_embedded_server_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KEYLEAF_DATABASE_URL", raising=False)
    assert seen_by(None, VAULT, "db", SINCE) is None
    assert seen_by(tmp_path, VAULT, "db", SINCE) is None
