"""Several processes on one database, restarts, and what a state directory refuses."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from embedded import API, SECRETS_OFFICER, Embedded, Person, start_embedded
from keyleaf.ledger import Filter, connect, query

ROOT_KEY = base64.b64encode(b"shared root key of these tests!!").decode()


@dataclass
class Pair:
    """Two servers, ``first`` and ``second``, on one Postgres database."""

    first: Embedded
    second: Embedded
    database_url: str

    def url(self, vault: dict[str, Any]) -> str:
        """Where the second server answers for a vault."""
        made = self.second.operator.arm("GET", vault["id"], "2026-05-15")
        return str(made["properties"]["vaultUri"]).rstrip("/")

    def ask(self, url: str, token: str) -> tuple[int, str]:
        """Status and value of one read at the second server."""
        answer = self.second.http.get(f"{url}?{API}", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.json().get("value", "")


def serving(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """``keyleaf serve`` that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "keyleaf", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def pair(postgres_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={postgres_socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = f"postgresql://postgres@/{name}?host={postgres_socket}"
    servers = []
    for number in (1, 2):
        folder = tmp_path_factory.mktemp(f"shared{number}")
        servers.append(
            start_embedded(
                folder / "state", folder, "--database-url", url, "--root-key", "env", KEYLEAF_ROOT_KEY=ROOT_KEY
            )
        )
    yield Pair(*servers, url)
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def vault(pair: Pair) -> dict[str, Any]:
    made = pair.first.vault()
    pair.first.put(made, "db", "one")
    return made


@pytest.fixture
def person(pair: Pair) -> Person:
    return pair.first.person()


def everywhere(pair: Pair, person: Person) -> str:
    """A token that every vault takes, from the first server."""
    return pair.first.token(person, "https://vault.azure.net")


@pytest.mark.postgres
def test_a_vault_made_on_one_is_served_by_the_other(pair: Pair, vault: dict[str, Any]) -> None:
    url = pair.url(vault)
    assert url != vault["url"]
    token = pair.first.operator.token("https://vault.azure.net")
    assert pair.ask(f"{url}/secrets/db", token) == (200, "one")


@pytest.mark.postgres
def test_the_very_next_call_sees_a_grant_a_new_version_and_a_revocation(
    pair: Pair, vault: dict[str, Any], person: Person
) -> None:
    token, url = everywhere(pair, person), f"{pair.url(vault)}/secrets/db"
    for round_number in range(8):
        assert pair.ask(url, token)[0] == 403
        assignment = pair.first.grant(person, f"{vault['id']}/secrets/db")
        assert pair.ask(url, token)[0] == 200
        assert pair.ask(url, token)[0] == 200, "and again, out of memory"
        value = f"value-{round_number}"
        pair.first.put(vault, "db", value)
        assert pair.ask(url, token) == (200, value)
        pair.first.revoke(assignment)


@pytest.mark.postgres
def test_disabling_an_identity_on_one_counts_on_the_other_at_once(
    pair: Pair, vault: dict[str, Any], person: Person
) -> None:
    pair.first.grant(person, f"{vault['id']}/secrets/db")
    token, url = everywhere(pair, person), f"{pair.url(vault)}/secrets/db"
    for _ in range(2):
        assert pair.ask(url, token)[0] == 200
    pair.first.operator.graph("PATCH", f"/servicePrincipals/{person.object_id}", {"accountEnabled": False})
    assert pair.ask(url, token)[0] == 401


@pytest.mark.postgres
@pytest.mark.parametrize("ended", ["grant", "identity"])
def test_the_very_next_change_is_decided_by_what_the_other_has_ended(
    pair: Pair, vault: dict[str, Any], ended: str
) -> None:
    url = f"{pair.url(vault)}/secrets/written-{ended}?{API}"
    for _ in range(5):
        person = pair.first.person()
        assignment = pair.first.grant(person, vault["id"], SECRETS_OFFICER)
        headers = {"Authorization": f"Bearer {everywhere(pair, person)}"}
        assert pair.second.http.put(url, headers=headers, json={"value": "before"}).status_code == 200
        assert pair.second.http.get(url, headers=headers).status_code == 200, "who may do what is in memory now"
        if ended == "grant":
            pair.first.revoke(assignment)
        else:
            pair.first.operator.graph("PATCH", f"/servicePrincipals/{person.object_id}", {"accountEnabled": False})
        refused = pair.second.http.put(url, headers=headers, json={"value": "after"})
        assert refused.status_code == (403 if ended == "grant" else 401)


@pytest.mark.postgres
def test_changes_from_both_sides_meet_in_one_log(pair: Pair, vault: dict[str, Any]) -> None:
    token = pair.first.operator.token("https://vault.azure.net")
    sides = ((pair.first.http, vault["url"]), (pair.second.http, pair.url(vault)))
    headers = {"Authorization": f"Bearer {token}"}
    for number in range(10):
        (client, base), (other_client, other) = sides[number % 2], sides[1 - number % 2]
        answer = client.put(f"{base}/secrets/shared?{API}", headers=headers, json={"value": f"v{number}"})
        assert answer.status_code == 200, answer.text
        seen = other_client.get(f"{other}/secrets/shared?{API}", headers=headers)
        assert seen.json()["value"] == f"v{number}"
    versions = pair.second.http.get(f"{sides[1][1]}/secrets/shared/versions?{API}", headers=headers).json()
    assert len(versions["value"]) == 10
    raw = connect(pair.database_url, read_only=True)
    try:
        logged = [r for r in query(raw, Filter(operation="SecretSet")) if r.path == "/secrets/shared"]
    finally:
        raw.close()
    assert [r.status for r in logged] == [200] * 10
    assert {len(r.version) for r in logged} == {32}


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    before = start_embedded(tmp_path / "state", tmp_path)
    vault = before.vault()
    person = before.person()
    before.grant(person, f"{vault['id']}/secrets/db")
    versions = [before.put(vault, "db", value)["id"].rsplit("/", 1)[1] for value in ("one", "two")]
    before.put(vault, "gone", "x")
    assert before.call("DELETE", f"{vault['url']}/secrets/gone", vault).status_code == 200
    token = before.token(person, vault["resource"])
    before.stop()
    assert not (tmp_path / "state" / "connection.json").exists()
    after = start_embedded(tmp_path / "state", tmp_path)
    try:
        assert after.connection["authority"] == before.connection["authority"], "ports are kept"
        assert after.connection["vaults"] == {vault["name"]: vault["url"]}
        base = f"{vault['url']}/secrets"
        answer = after.call("GET", f"{base}/db", vault, token=token)
        assert (answer.status_code, answer.json()["value"]) == (200, "two"), "the token lives on as well"
        assert after.call("GET", f"{base}/db/{versions[0]}", vault, token=token).json()["value"] == "one"
        assert after.call("GET", f"{vault['url']}/deletedsecrets/gone", vault).status_code == 200
        assert after.call("GET", f"{base}/gone", vault).status_code == 404
        with after.client(person, vault) as client:
            assert client.get_secret("db").value == "two"
    finally:
        after.stop()


def test_a_second_server_on_one_state_directory_is_refused(embedded: Embedded) -> None:
    done = serving(["--state", str(embedded.state)])
    assert done.returncode == 3
    assert f"another keyleaf (pid {embedded.process.pid}) is using" in done.stderr
    assert "Traceback" not in done.stderr
    assert embedded.http.get(f"{embedded.connection['authority']}/healthz").status_code == 200


def test_a_port_that_is_taken_is_named_or_replaced(tmp_path: Path) -> None:
    first = start_embedded(tmp_path / "state", tmp_path)
    vault = first.vault()
    first.put(vault, "db", "one")
    first.stop()
    ports = [int(url.rsplit(":", 1)[1]) for url in (first.connection["authority"], vault["url"])]
    taken = [socket.create_server(("127.0.0.1", port)) for port in ports]
    try:
        done = serving(["--state", str(tmp_path / "state"), "--port", str(ports[0])])
        assert done.returncode == 2
        assert f"port {ports[0]} cannot be used" in done.stderr
        second = start_embedded(tmp_path / "state", tmp_path)
        try:
            assert second.connection["authority"] != first.connection["authority"]
            url = second.connection["vaults"][vault["name"]]
            assert url != vault["url"]
            moved = {**vault, "url": url, "resource": "https://0.0.1:" + url.rsplit(":", 1)[1]}
            assert second.call("GET", f"{url}/secrets/db", moved).json()["value"] == "one"
        finally:
            second.stop()
    finally:
        for held in taken:
            held.close()


def test_another_root_key_opens_nothing(tmp_path: Path) -> None:
    server = start_embedded(tmp_path / "state", tmp_path)
    server.stop()
    (tmp_path / "state" / "root.key").write_text(base64.b64encode(os.urandom(32)).decode())
    done = serving(["--state", str(tmp_path / "state")])
    assert done.returncode == 3
    assert "this is not the root key of this installation" in done.stderr
    (tmp_path / "state" / "root.key").unlink()
    assert serving(["--state", str(tmp_path / "state")]).returncode == 3
    assert not (tmp_path / "state" / "root.key").exists(), "a missing key is never made anew"
