"""Exports: lines that verify on their own, CSV that no spreadsheet runs, Azure's AuditEvent."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_logs import START, VKEY, append, opened, record

from keyleaf.core.errors import InputError
from keyleaf.ledger import (
    audit_event,
    connect,
    copy_of_export,
    notes,
    snapshot,
    stored_entries,
    to_audit_events,
    to_csv,
    to_lines,
    verify,
)
from keyleaf.ledger.reader import Stored
from keyleaf.ledger.record import decode, encode


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Stored], str, str]:
    """Entries, the export as text, and an anchor."""
    url = f"sqlite:///{tmp_path_factory.mktemp('export') / 'state.db'}"
    with opened(url) as ledger:
        append(ledger, 25)
        asyncio.run(ledger.append(record(25, user_agent='é\u2028"\\\n', reason="\ud800")))
        ledger.begin_epoch(START, "a restore")
        append(ledger, 10)
        anchor = ledger.checkpoint()
    connection = connect(url, read_only=True)
    with snapshot(connection):
        entries = list(stored_entries(connection))
        text = "".join(to_lines(entries, notes(connection), VKEY))
    connection.close()
    return entries, text, anchor


def test_the_export_verifies_on_its_own(exported: tuple[list[Stored], str, str], tmp_path: Path) -> None:
    entries, text, anchor = exported
    path = tmp_path / "log.jsonl"
    path.write_text(text, encoding="utf-8", newline="\n")
    copy = copy_of_export(path)
    assert [(e.epoch, e.seq, e.leaf, e.entry) for e in copy.entries] == [
        (e.epoch, e.seq, e.leaf, e.entry) for e in entries
    ]
    report = verify(copy_of_export(path, VKEY), [anchor])
    assert (report.problem, report.records, report.sizes, report.anchors) == ("", 37, {1: 26, 2: 11}, 1)


def test_every_changed_byte_of_the_export_is_found(exported: tuple[list[Stored], str, str], tmp_path: Path) -> None:
    _, text, anchor = exported
    path = tmp_path / "log.jsonl"
    whole = text.encode()
    for seed in range(300):
        chance = random.Random(seed)
        content = bytearray(whole)
        place = chance.randrange(len(content) - 1)
        if seed % 3 == 0:
            content[place] ^= 1 << chance.randrange(8)
        elif seed % 3 == 1:
            del content[place]
        else:
            content.insert(place, chance.choice(b'a0" {}:,A'))
        path.write_bytes(content)
        try:
            fits = verify(copy_of_export(path, VKEY), [anchor]).fits
        except InputError as error:
            assert str(path) in str(error)
            fits = False
        assert not fits, f"seed {seed}, byte {place}"


def test_missing_and_moved_lines_are_found(exported: tuple[list[Stored], str, str], tmp_path: Path) -> None:
    entries, text, anchor = exported
    lines = [f"{line}\n" for line in text.split("\n")[:-1]]
    path = tmp_path / "log.jsonl"
    for number in range(len(entries)):
        for changed in (
            lines[:number] + lines[number + 1 :],
            lines[: number + 1] + lines[number:],
            [*lines[:number], *lines[len(entries) :]],
        ):
            path.write_text("".join(changed), encoding="utf-8", newline="\n")
            report = verify(copy_of_export(path, VKEY), [anchor])
            assert not report.fits
            assert report.first is not None


@given(st.text(max_size=80))
def test_junk_is_no_export(tmp_path_factory: pytest.TempPathFactory, junk: str) -> None:
    path = tmp_path_factory.getbasetemp() / "junk.jsonl"
    path.write_text(junk, encoding="utf-8", errors="replace", newline="\n")
    with pytest.raises(InputError):
        verify(copy_of_export(path))
        pytest.fail("an export came out of junk")


def test_the_error_names_the_line(exported: tuple[list[Stored], str, str], tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [f"{line}\n" for line in exported[1].split("\n")[:-1]]
    path.write_text("".join([*lines[:4], "{}\n", *lines[4:]]), encoding="utf-8")
    with pytest.raises(InputError, match="line 5"):
        copy_of_export(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"log\.jsonl"):
        copy_of_export(path)
    with pytest.raises(InputError, match="cannot read"):
        copy_of_export(tmp_path / "nothing")


formulas = st.sampled_from(["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", ""])


@given(st.builds(lambda sign, rest: sign + rest, formulas, st.text(max_size=20)))
def test_no_cell_of_the_csv_is_a_formula(text: str) -> None:
    made = record(1, user_agent=text, path=text, identity=text)
    entry = encode(made, 1, 0)
    lines = "".join(to_csv([Stored(1, 0, b"", entry)]))
    header, row = list(csv.reader(io.StringIO(lines, newline="")))
    read = dict(zip(header, row, strict=True))
    kept = decode(entry)
    for name in ("user_agent", "path", "identity"):
        assert not read[name].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
        assert read[name].removeprefix("'") == getattr(kept, name).removeprefix("'")
    assert read["seq"] == "0"


def test_the_shape_of_azures_audit_log() -> None:
    made = record(
        0,
        time=1_700_000_000_123_456,
        identity="oid",
        client_id="app",
        identity_resource="/subscriptions/s/x",
        resource="/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv/secrets/db",
        version="v1",
        path="/secrets/db",
        assignment="a1",
        latency_us=2_500,
        caller="127.0.0.1",
        user_agent="azsdk",
    )
    event = audit_event(made)
    assert event == {
        "time": "2023-11-14T22:13:20.123456Z",
        "resourceId": "/SUBSCRIPTIONS/S/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/KV",
        "operationName": "SecretGet",
        "operationVersion": event["operationVersion"],
        "category": "AuditEvent",
        "resultType": "Success",
        "resultSignature": "OK",
        "resultDescription": "",
        "durationMs": "2",
        "callerIpAddress": "127.0.0.1",
        "correlationId": "request-0",
        "identity": {"claim": {"oid": "oid", "appid": "app", "xms_mirid": "/subscriptions/s/x"}},
        "properties": {
            "id": "/secrets/db/v1",
            "clientInfo": "azsdk",
            "requestUri": "/secrets/db",
            "httpStatusCode": 200,
            "isRbacAuthorized": True,
            "appliedAssignmentId": "a1",
            "tlsVersion": "TLS1_3",
        },
    }
    refused = audit_event(record(1, status=403, decision="denied", error="Forbidden/ForbiddenByRbac", path="/secrets"))
    assert (refused["resultType"], refused["resultSignature"]) == ("Failed", "Forbidden")
    assert audit_event(record(2, status=404))["resultSignature"] == "Not Found"
    assert audit_event(record(3, resource="", path="/tenant/oauth2/v2.0/token"))["resourceId"] == ""


def test_audit_events_are_lines(exported: tuple[list[Stored], str, str]) -> None:
    lines = list(to_audit_events(exported[0]))
    assert len(lines) == 37
    assert all(json.loads(line)["category"] == "AuditEvent" and line.endswith("}\n") for line in lines)
