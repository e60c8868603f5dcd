"""No answer without its record: what a server does whose audit log cannot be written."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from embedded import start_embedded
from keyleaf.ledger import Filter, connect, query


@pytest.mark.parametrize("damage", ["DROP TABLE ledger_entry", "DELETE FROM ledger_head"])
def test_nothing_is_answered_when_the_log_cannot_be_written(tmp_path: Path, damage: str) -> None:
    server = start_embedded(tmp_path / "state", tmp_path)
    try:
        vault = server.vault()
        server.put(vault, "db", "canary-unlogged")
        url = f"{vault['url']}/secrets/db"
        token = server.operator.token(vault["resource"])
        for _ in range(2):
            assert server.call("GET", url, vault).status_code == 200
        health = f"{server.connection['authority']}/healthz"
        assert server.http.get(health).status_code == 200
        other = sqlite3.connect(tmp_path / "state" / "state.db", timeout=10)
        with other:
            other.execute(damage)
        for method, path, body in (
            ("GET", "", None),
            ("GET", "/", None),
            ("PUT", "", {"value": "unlogged"}),
            ("DELETE", "", None),
            ("GET", "x", None),
        ):
            answer = server.call(method, url + path, vault, token=token, json=body)
            assert answer.status_code == 503, (method, path, answer.text)
            assert "canary" not in answer.text
            assert answer.json()["error"]["code"] == "ServiceUnavailable"
        assert server.http.get(url).status_code == 503, "not even a challenge"
        assert server.http.get(health).status_code == 503
        stored = other.execute("SELECT count(*) FROM secret_version").fetchone()
        assert stored == (1,), "a change that is not on record has not happened"
        assert other.execute("SELECT count(*) FROM secret WHERE deleted IS NOT NULL").fetchone() == (0,)
        other.close()
    finally:
        server.process.kill()
        server.process.wait(20)


def test_token_requests_are_on_record_with_what_they_asked_for(tmp_path: Path) -> None:
    server = start_embedded(tmp_path / "state", tmp_path)
    try:
        person = server.person()
        vault = server.vault()
        server.token(person, vault["resource"])
        endpoint = f"{server.connection['authority']}/{server.connection['tenant_id']}/oauth2/v2.0/token"
        form = {
            "grant_type": "client_credentials",
            "client_id": person.client_id,
            "scope": f"{vault['resource']}/.default",
        }
        refused = server.http.post(endpoint, data={**form, "client_secret": "canary-guess"})
        assert refused.status_code == 401
        nobody = server.http.post(endpoint, data={"grant_type": "password"})
        assert nobody.status_code in (400, 401)
    finally:
        server.stop()
    raw = connect(f"sqlite:///{tmp_path / 'state' / 'state.db'}", read_only=True)
    try:
        found = list(query(raw, Filter(operation="TokenIssue")))
    finally:
        raw.close()
    theirs = [r for r in found if r.client_id == person.client_id]
    assert [(r.status, r.decision) for r in theirs] == [(200, "allowed"), (401, "unauthenticated")]
    assert theirs[0].identity == person.object_id
    assert all(vault["resource"] in r.resource for r in theirs)
    assert any(r.status == nobody.status_code and not r.identity for r in found)
    for file in (tmp_path / "state").rglob("*"):
        assert not file.is_file() or b"canary-guess" not in file.read_bytes(), file


def test_an_altered_value_is_refused_in_azures_shape_every_time_and_on_record(tmp_path: Path) -> None:
    server = start_embedded(tmp_path / "state", tmp_path)
    try:
        vault = server.vault()
        server.put(vault, "db", "one")
        with contextlib.closing(sqlite3.connect(tmp_path / "state" / "state.db")) as database:
            database.execute("UPDATE secret_version SET sealed = zeroblob(length(sealed))")
            database.commit()
        for _ in range(3):
            answer = server.call("GET", f"{vault['url']}/secrets/db", vault)
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "ServiceUnavailable"
            assert answer.headers["x-ms-request-id"]
    finally:
        server.stop()
    with contextlib.closing(connect(f"sqlite:///{tmp_path / 'state' / 'state.db'}", read_only=True)) as log:
        assert [r.status for r in query(log, Filter(operation="SecretGet"))] == [503, 503, 503]
