"""A slice of ``make fuzz``, and that the judge of that run would notice what it looks for."""

from __future__ import annotations

import json

import pytest
from conformance.fuzz import CANARY, Report, _judge, run

from keyleaf.server.openapi import described

REFUSAL = json.dumps({"error": {"code": "Forbidden", "message": "No."}}).encode()


@pytest.mark.slow
def test_hostile_requests_find_nothing() -> None:
    report = run(500, 7)
    assert report.failures == []
    assert report.requests["described"] + report.requests["our own"] >= 500
    assert {200, 400, 401, 403, 404} <= set(report.statuses), "the requests reach every stage"


@pytest.mark.parametrize(
    ("status", "body", "allowed"),
    [
        (500, REFUSAL, True),
        (503, REFUSAL, False),
        (200, b"{}", False),
        (204, b"", False),
        (403, f'{{"error":{{"code":"x","message":"{CANARY}"}}}}'.encode(), False),
        (404, b"not found", True),
        (400, b"{}", True),
        (400, b'{"error":"x"}', True),
        (400, b'{"error":{"code":1,"message":"x"}}', True),
        (400, b'{"error":{"code":"x","message":"Traceback (most recent call last)"}}', True),
    ],
)
def test_the_judge_notices(status: int, body: bytes, allowed: bool) -> None:
    report = Report()
    _judge(report, "vault", status, body, allowed, "")
    assert report.failures


@pytest.mark.parametrize(("status", "body", "allowed"), [(403, REFUSAL, False), (200, CANARY.encode(), True)])
def test_the_judge_lets_pass_what_is_right(status: int, body: bytes, allowed: bool) -> None:
    report = Report()
    _judge(report, "vault", status, body, allowed, "")
    assert report.failures == []


def test_the_document_describes_every_operation_once() -> None:
    document = described()
    found = [operation for methods in document["paths"].values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in found}) == len(found) > 100
    assert document["paths"]["/secrets/{name}"]["put"]["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/SetRequest"
    }
    assert document["components"]["schemas"]["SetRequest"]["required"] == ["value"]
    public = {p for p, methods in document["paths"].items() if any(not o["security"] for o in methods.values())}
    assert all("token" in p or "keys" in p or "well-known" in p or "discovery" in p for p in public), public
    json.dumps(document)
