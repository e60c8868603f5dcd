"""A read says which activity of which instance it is for; the log keeps that, beside the proven identity."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import Any

import msgspec
import pytest

from embedded import Embedded, Person
from keyleaf.core.activity_header import LONGEST_HEADER, encode_activities
from keyleaf.ledger import Filter, Record, connect, query


@pytest.fixture(scope="module")
def vault(embedded: Embedded) -> dict[str, Any]:
    made = embedded.vault()
    embedded.put(made, "portal", "canary-portal")
    embedded.put(made, "other", "canary-other")
    return made


@pytest.fixture(scope="module")
def reader(embedded: Embedded, vault: dict[str, Any]) -> Person:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/portal")
    return person


def read(embedded: Embedded, vault: dict[str, Any], person: Person, name: str, activity: str) -> tuple[int, str]:
    """Status and client request id of a read that names an activity."""
    request = str(uuid.uuid4())
    headers = {"x-keyleaf-activity": activity, "x-ms-client-request-id": request}
    token = embedded.token(person, vault["resource"])
    answer = embedded.call("GET", f"{vault['url']}/secrets/{name}", vault, token, headers=headers)
    return answer.status_code, request


def records(embedded: Embedded, **wanted: Any) -> list[Record]:
    connection = connect(f"sqlite:///{embedded.state / 'state.db'}", read_only=True)
    try:
        return list(query(connection, Filter(**wanted)))
    finally:
        connection.close()


def test_reads_and_refusals_name_instance_and_activity(
    embedded: Embedded, vault: dict[str, Any], reader: Person
) -> None:
    header = encode_activities([("order-17", "charge"), ("order/18", "charge"), ("order/18", "charge")])
    asked = [read(embedded, vault, reader, "portal", header) for _ in range(3)]  # the short way from the second on
    refused = read(embedded, vault, reader, "other", encode_activities([("order-17", "peek")]))
    assert [status for status, _ in asked] == [200, 200, 200]
    assert refused[0] == 403
    for status, request in [*asked, refused]:
        (record,) = records(embedded, request_id=request)
        assert (record.status, record.client_request_id, record.client_id) == (status, request, reader.client_id)
    found = [(record.status, record.activity) for record in records(embedded, instance="order-17")]
    assert found == [(200, header)] * 3 + [(403, "order-17/peek")]
    assert len(records(embedded, instance="order/18", activity="charge")) == 3
    assert records(embedded, instance="order/18", activity="peek") == [], "both of the same entry"
    assert records(embedded, instance="order-1") == [], "the whole id"


def test_what_is_sent_cannot_break_a_record(embedded: Embedded, vault: dict[str, Any], reader: Person) -> None:
    for number, sent in enumerate(['{"time":1}', "%00/%0a", "x" * 6000]):
        assert read(embedded, vault, reader, "portal", f"marked-{number}/now,{sent}")[0] == 200
        (record,) = records(embedded, instance=f"marked-{number}")
        assert isinstance(record.activity, str)
        assert record.activity.isascii() and record.activity.isprintable()
        assert len(record.activity) <= LONGEST_HEADER


def test_records_without_an_activity_are_as_they_were(embedded: Embedded, vault: dict[str, Any]) -> None:
    embedded.call("GET", f"{vault['url']}/secrets/portal", vault, headers={"x-ms-client-request-id": "mine"})
    last = records(embedded, operation="SecretGet")[-1]
    assert (last.activity, last.client_request_id) == (msgspec.UNSET, msgspec.UNSET)
    assert b"activity" not in msgspec.json.encode(last) and b"client_request_id" not in msgspec.json.encode(last)


def test_the_log_is_asked_by_instance_and_still_verifies(
    embedded: Embedded, vault: dict[str, Any], reader: Person
) -> None:
    status, request = read(embedded, vault, reader, "portal", encode_activities([("asked-for", "charge")]))
    assert status == 200

    def audit(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "keyleaf", "audit", *words, "--state", str(embedded.state)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    (record,) = json.loads(audit("query", "--instance", "asked-for", "--json"))
    assert (record["activity"], record["client_request_id"]) == ("asked-for/charge", request)
    assert json.loads(audit("query", "--request-id", request, "--json")) == [record]
    assert json.loads(audit("query", "--instance", "asked-for", "--activity", "refund", "--json")) == []
    assert "for asked-for/charge" in audit("query", "--instance", "asked-for")
    assert "asked-for/charge" in audit("export", "--format", "csv")
    assert json.loads(audit("verify", "--json"))["fits"] is True
