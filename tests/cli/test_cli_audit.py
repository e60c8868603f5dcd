"""``keyleaf audit`` beside a real server, on copies, and after a restore; each time as a process of its own."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded import Embedded, start_embedded
from keyleaf.ledger import Ed25519Signer, Ledger, Record


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A server with one vault, and some reading and refusing behind it."""
    folder = tmp_path_factory.mktemp("audit")
    embedded = start_embedded(folder / "state", folder)
    vault = embedded.vault("kv-audit")
    embedded.put(vault, "db", "canary-5b1d")
    embedded.call("GET", f"{vault['url']}/secrets/db", vault)
    person = embedded.person("id-nobody")
    embedded.call("GET", f"{vault['url']}/secrets/db", vault, embedded.token(person, vault["resource"]))
    yield embedded
    embedded.stop()


@pytest.fixture
def copied(server: Embedded, tmp_path: Path) -> Path:
    """A copy of the server's state, as a backup makes it while the server runs; with a checkpoint."""
    state = tmp_path / "copy"
    shutil.copytree(server.state, state, ignore=shutil.ignore_patterns("state.db*", "connection.json", "server.lock"))
    source, target = sqlite3.connect(server.state / "state.db"), sqlite3.connect(state / "state.db")
    source.backup(target)
    source.close()
    target.close()
    state.chmod(0o700)
    signed = audit(state, "epoch", "--reason", "the copy is a log of its own")
    assert signed.returncode == 0, signed.stderr
    return state


def audit(state: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("KEYLEAF_")}
    return subprocess.run(
        [sys.executable, "-m", "keyleaf", "audit", *arguments, "--state", str(state)],
        capture_output=True,
        text=True,
        env={**clean, "NO_COLOR": "1", **environment},
        check=False,
    )


def answer(state: Path, *arguments: str) -> Any:
    done = audit(state, *arguments, "--json")
    assert done.stderr == ""
    return json.loads(done.stdout)


def change(state: Path, statement: str) -> None:
    connection = sqlite3.connect(state / "state.db")
    with connection:
        connection.execute(statement)
    connection.close()


def test_tail_and_query_beside_a_running_server(server: Embedded) -> None:
    found = answer(server.state, "tail", "-n", "2")
    assert [r["operation"] for r in found][-1] == "SecretGet"
    assert [r["decision"] for r in found][-1] == "denied"
    read = answer(server.state, "query", "--secret", "DB", "--decision", "allowed", "--operation", "SecretGet")
    assert len(read) == 1
    assert (read[0]["status"], read[0]["method"]) == (200, "GET")
    denied = answer(server.state, "query", "--status", "403", "--since", "1h")
    assert [r["identity_resource"].rsplit("/", 1)[1] for r in denied] == ["id-nobody"]
    assert denied[0]["application"] == "app-id-nobody"
    assert answer(server.state, "query", "--identity", "app-id-nobody", "--decision", "denied") == denied
    assert answer(server.state, "query", "--until", "2001-01-01") == []
    assert len(answer(server.state, "query", "-n", "3")) == 3
    table = audit(server.state, "tail")
    assert "kv-audit/db" in table.stdout
    assert "denied" in table.stdout
    assert "canary" not in table.stdout + json.dumps(found)


def test_tail_follows(server: Embedded) -> None:
    command = [
        sys.executable,
        "-m",
        "keyleaf",
        "audit",
        "tail",
        "-n",
        "1",
        "-f",
        "--json",
        "--state",
        str(server.state),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    vault = server.vaults["kv-audit"]
    server.call("GET", f"{vault['url']}/secrets/followed", vault)
    second = json.loads(process.stdout.readline())
    while second["path"] != "/secrets/followed":
        second = json.loads(process.stdout.readline())
    assert (second["status"], second["seq"] > first["seq"]) == (404, True)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_verify_fits_beside_a_running_server(server: Embedded) -> None:
    report = answer(server.state, "verify")
    assert report["fits"] is True
    assert report["records"] > 5
    assert report["problem"] == ""
    assert "fits" in audit(server.state, "verify").stdout


def test_verify_names_what_was_altered(copied: Path, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    assert audit(copied, "anchor", str(anchor)).returncode == 0
    assert anchor.stat().st_mode & 0o077 == 0
    good = audit(copied, "verify", "--anchor", str(anchor))
    assert (good.returncode, good.stderr) == (0, "")
    records = answer(copied, "query", "--status", "403")
    allowed = "entry = CAST(replace(CAST(entry AS TEXT), '\"denied\"', '\"allowed\"') AS BLOB)"
    change(copied, f"UPDATE ledger_entry SET {allowed} WHERE epoch = 1 AND seq = {records[0]['seq']}")
    bad = audit(copied, "verify", "--anchor", str(anchor), "--json")
    report = json.loads(bad.stdout)
    assert (bad.returncode, report["fits"]) == (1, False)
    assert report["first"] == {"epoch": 1, "seq": records[0]["seq"]}
    shown = audit(copied, "verify", "--anchor", str(anchor))
    assert f"record {records[0]['seq']} of epoch 1" in shown.stdout


def test_a_roll_back_is_seen_by_the_anchor(copied: Path, tmp_path: Path) -> None:
    older = (copied / "state.db").read_bytes()
    assert audit(copied, "epoch", "--reason", "another").returncode == 0
    anchor = tmp_path / "anchor"
    assert audit(copied, "anchor", str(anchor)).returncode == 0
    for leftover in copied.glob("state.db*"):
        leftover.unlink()
    (copied / "state.db").write_bytes(older)
    (copied / "ledger.checkpoint").unlink()
    assert audit(copied, "verify").returncode == 0
    assert audit(copied, "verify", "--anchor", str(anchor)).returncode == 1


def test_an_honest_restore_is_declared(copied: Path) -> None:
    older = (copied / "state.db").read_bytes()
    assert audit(copied, "epoch", "--reason", "grows").returncode == 0
    for leftover in copied.glob("state.db*"):
        leftover.unlink()
    (copied / "state.db").write_bytes(older)
    refused = audit(copied, "verify")
    assert refused.returncode == 1
    begun = answer(copied, "epoch", "--reason", "the disk\nfailed")
    assert begun["origin"].endswith("/epoch-4")
    report = answer(copied, "verify")
    assert (report["fits"], len(report["lost"])) == (True, 1)
    declared = answer(copied, "query", "--operation", "LedgerEpoch")[-1]
    assert declared["reason"].startswith("the disk failed\n\n")


def test_an_epoch_needs_the_state_for_itself(server: Embedded) -> None:
    refused = audit(server.state, "epoch", "--reason", "a server is running")
    assert refused.returncode == 3
    assert "another keyleaf" in refused.stderr
    assert audit(server.state, "epoch", "--reason", " ").returncode == 2


def test_exports_verify_on_their_own(copied: Path, tmp_path: Path) -> None:
    anchor, path = tmp_path / "anchor", tmp_path / "log.jsonl"
    audit(copied, "anchor", str(anchor))
    assert audit(copied, "export", "--output", str(path)).returncode == 0
    nowhere = tmp_path / "nowhere"
    alone = audit(nowhere, "verify", "--export", str(path), "--vkey", str(copied / "ledger.vkey"))
    assert (alone.returncode, alone.stderr) == (0, "")
    assert not nowhere.exists()
    assert "copy's own word" in audit(nowhere, "verify", "--export", str(path)).stdout
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    path.write_text("\n".join(lines[:3] + lines[4:]), encoding="utf-8")
    found = json.loads(audit(copied, "verify", "--export", str(path), "--anchor", str(anchor), "--json").stdout)
    assert found["first"] == {"epoch": 1, "seq": 3}
    path.write_text(text.replace("seq", "sek", 1), encoding="utf-8")
    broken = audit(copied, "verify", "--export", str(path))
    assert (broken.returncode, "line 1" in broken.stderr) == (2, True)


def test_csv_and_auditevent(copied: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(audit(copied, "export", "--format", "csv").stdout)))
    events = [json.loads(line) for line in audit(copied, "export", "--format", "auditevent").stdout.splitlines()]
    assert len(rows) == len(events) > 5
    assert {event["category"] for event in events} == {"AuditEvent"}
    assert [event["operationName"] for event in events] == [row["operation"] for row in rows]


def test_what_cannot_be_used_is_one_line(server: Embedded, copied: Path, tmp_path: Path) -> None:
    for code, arguments in (
        (3, (tmp_path / "nothing", "tail")),
        (2, (server.state, "query", "--since", "yesterday")),
        (2, (server.state, "query", "--decision", "maybe")),
        (2, (server.state, "verify", "--anchor", str(tmp_path / "nothing"))),
        (2, (server.state, "export", "--format", "xml")),
        (2, (server.state, "export", "--output", str(tmp_path / "no" / "such"))),
    ):
        done = audit(*arguments)  # type: ignore[arg-type]
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    (copied / "state.db").write_bytes(b"no database" * 500)
    for leftover in copied.glob("state.db-*"):
        leftover.unlink()
    done = audit(copied, "verify")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)


def test_a_database_by_url(database_url: str, tmp_path: Path) -> None:
    """The environment's database goes before the state directory's."""
    signer = Ed25519Signer("keyleaf.dev/audit", bytes(range(32)))
    ledger = Ledger.open(database_url, signer=signer, origin=signer.name)
    for number in range(3):
        made = Record(time=number, request_id=str(number), operation="SecretGet", decision="denied", status=403)
        asyncio.run(ledger.append(made))
    ledger.close()
    (tmp_path / "ledger.vkey").write_text(ledger.vkey + "\n")
    tail = audit(tmp_path, "tail", "-n", "2", "--json", KEYLEAF_DATABASE_URL=database_url)
    assert [r["seq"] for r in json.loads(tail.stdout)] == [1, 2]
    assert audit(tmp_path, "verify", KEYLEAF_DATABASE_URL=database_url).returncode == 0
    path = tmp_path / "log.jsonl"
    assert audit(tmp_path, "export", "-o", str(path), KEYLEAF_DATABASE_URL=database_url).returncode == 0
    assert json.loads(audit(tmp_path, "verify", "--export", str(path), "--json").stdout)["records"] == 3


def test_a_password_in_the_url_is_never_shown(tmp_path: Path) -> None:
    done = audit(tmp_path, "tail", KEYLEAF_DATABASE_URL="postgresql://u:hunter2@127.0.0.1:1/none?connect_timeout=2")
    assert done.returncode == 3
    assert "hunter2" not in done.stderr


def test_a_server_refuses_a_roll_back_and_goes_on_after_an_epoch(copied: Path, tmp_path: Path) -> None:
    (copied / "ports.json").unlink()
    older = (copied / "state.db").read_bytes()
    first = start_embedded(copied, tmp_path)
    first.vault("kv-later")
    first.stop()
    for leftover in copied.glob("state.db*"):
        leftover.unlink()
    (copied / "state.db").write_bytes(older)
    serve = [sys.executable, "-m", "keyleaf", "serve", "--state", str(copied)]
    refused = subprocess.run(serve, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 3
    assert "rolled back" in refused.stderr
    assert "keyleaf audit epoch" in refused.stderr
    assert audit(copied, "epoch", "--reason", "restored on purpose").returncode == 0
    again = start_embedded(copied, tmp_path)
    again.vault("kv-again")
    again.stop()
    report = answer(copied, "verify")
    assert (report["fits"], len(report["lost"]), report["unsigned"]) == (True, 1, 0)
