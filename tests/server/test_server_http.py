"""Hostile HTTP by hand: nothing gets around the token, nothing makes the server fault, every refusal is Azure's."""

from __future__ import annotations

import json
import ssl
import time
from typing import Any

import pytest
from raw_http import RawAnswer, RawCaller, parsed

from embedded import API, Embedded

CANARY = b"canary-of-http"
TARGET = f"/secrets/db?{API}"


@pytest.fixture(scope="module")
def vault(embedded: Embedded) -> dict[str, Any]:
    made = embedded.vault()
    embedded.put(made, "db", CANARY.decode())
    return made


@pytest.fixture
def raw(embedded: Embedded, vault: dict[str, Any]) -> RawCaller:
    return RawCaller(embedded, vault)


def refused(answer: RawAnswer, *statuses: int) -> None:
    """The answer is one of these refusals, in Azure's shape, and gives nothing away."""
    assert answer.status in statuses, (answer.status, answer.body)
    assert CANARY not in answer.body
    assert b"Traceback" not in answer.body
    error = json.loads(answer.body)["error"]
    assert isinstance(error["code"], str)
    assert error["message"]


def test_a_plain_request_is_answered(raw: RawCaller) -> None:
    answer = raw.get()
    assert (answer.status, json.loads(answer.body)["value"]) == (200, CANARY.decode())


@pytest.mark.parametrize(
    "trailer",
    ["Authorization: {0}", "authorization: {0}", "X: y\r\nAuthorization: {0}", "Host: evil\r\nAuthorization: {0}"],
)
def test_a_trailer_never_becomes_a_header(raw: RawCaller, trailer: str) -> None:
    token = raw.authorization.removeprefix("Authorization: ").strip()
    body = f"5\r\nhello\r\n0\r\n{trailer.format(token)}\r\n\r\n"
    refused(raw.get(token=False, headers="Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n", body=body), 401)
    refused(raw.get(token=False, method="PUT", headers="Transfer-Encoding: chunked\r\n", body=body), 401)


@pytest.mark.parametrize(
    "headers",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5,5\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Folded: x\r\n",
        "Bad Name: x\r\n",
        "No-Colon\r\n",
        "Nul: a\x00b\r\n",
        "Lf: a\n\r\n",
        "Cr: a\rb\r\n",
    ],
)
def test_a_message_whose_end_is_in_doubt_is_refused(raw: RawCaller, headers: str) -> None:
    answers = raw.send(
        f"PUT {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n{raw.authorization}{headers}\r\n"
        f"0\r\n\r\nGET {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n{raw.authorization}Connection: close\r\n\r\n"
    )
    assert len(answers) == 1, "what was smuggled in is not answered"
    refused(answers[0], 400, 413)


def test_a_chunk_of_a_wrong_size_is_refused(raw: RawCaller) -> None:
    for body in (
        "zz\r\nhello\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "2\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nx",
    ):
        answers = raw.send(
            f"PUT {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n{raw.authorization}Transfer-Encoding: chunked\r\n\r\n{body}"
        )
        refused(answers[0], 400, 413)


@pytest.mark.parametrize("second", ["Authorization: Bearer x", "authorization: Basic eDp5", "AUTHORIZATION:"])
def test_two_authorizations_are_refused(raw: RawCaller, second: str) -> None:
    refused(raw.get(headers=f"{second}\r\n"), 400, 401)
    refused(raw.get(token=False, headers=f"{second}\r\n{raw.authorization}"), 400, 401)


def test_two_hosts_are_refused(raw: RawCaller) -> None:
    refused(raw.get(headers=f"Host: {raw.host}\r\n"), 400)
    refused(raw.get(headers="Host: evil.example\r\n"), 400)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "user@127.0.0.1:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "[::ffff:127.0.0.1]:{port}",
        "127.0.0.1:{port}:{port}",
        "127.0.0.1:0{port}",
        "127.0.0.1:{port}/",
        "\xe4:{port}",
        "*",
        " ",
    ],
)
def test_an_unknown_host_is_misdirected(raw: RawCaller, host: str) -> None:
    refused(raw.get(host=host.format(port=raw.port)), 421)


def test_a_request_without_host_is_misdirected(raw: RawCaller) -> None:
    refused(raw.get(host=""), 400, 421)
    refused(raw.get(host="", version="1.0"), 421)


def test_http_1_0_is_served_and_closed(raw: RawCaller) -> None:
    assert raw.get(version="1.0").status == 200
    refused(raw.get(version="1.0", token=False), 401)


@pytest.mark.parametrize("version", ["0.9", "2.0", "1.2", "3", "x", "11"])
def test_other_versions_are_refused(raw: RawCaller, version: str) -> None:
    refused(raw.get(version=version), 400)


def test_pipelined_requests_are_answered_in_order_each_by_its_own_token(raw: RawCaller) -> None:
    one = f"GET {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n"
    with_token, without = f"{one}{raw.authorization}\r\n", f"{one}\r\n"
    last = f"{one}{raw.authorization}Connection: close\r\n\r\n"
    statuses = [a.status for a in raw.send(with_token + without + with_token + without + last)]
    assert statuses == [200, 401, 200, 401, 200]


def test_a_second_request_on_a_connection_needs_a_token_of_its_own(raw: RawCaller) -> None:
    with raw.connect() as connection:
        one = f"GET {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n"
        connection.sendall(f"{one}{raw.authorization}\r\n".encode())
        received = b""
        while CANARY not in received:
            received += connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 200")
        while not received.endswith(b"}"):
            received += connection.recv(65536)
        received = b""
        connection.sendall(f"{one}\r\n".encode())
        while not received.endswith(b"}}"):
            received += connection.recv(65536)
        refused(parsed(received)[0], 401)


@pytest.mark.parametrize(
    "target",
    [
        "/secrets/../secrets/db",
        "/secrets/./db",
        "/secrets/%2e%2e/secrets/db",
        "/secrets/%2E/db",
        "/secrets%2fdb",
        "/secrets/%2fdb",
        "/secrets/db%2f",
        "/secrets/db%5c",
        "/secrets/db%00",
        "/%00/secrets/db",
        "/secrets/db%0a",
        "/secrets/%",
        "/secrets/%zz",
        "/secrets/%2",
        "/secrets/%252e%252e",
        "/secrets/%c0%ae",
        "/secrets/%ff",
        "/secrets/db;x=y",
        "/secrets/db%3b",
        "/secrets/db%3fapi-version=7.4",
        "/secrets/db/%23",
        "/SECRETS/db",
        "/oidc/../secrets/db",
        "/oidc/%2e%2e/%2e%2e/state.db",
        "/oidc/local/issuer.key",
        "/oidc/local/public/../issuer.key",
        "/oidc/local/%2e%2e/%2e%2e/root.key",
        "/healthz/../secrets/db",
        "/" + "a/" * 60,
        "/secrets/" + "a" * 128,
        "//" * 40,
    ],
)
def test_tricks_with_the_path_lead_nowhere(raw: RawCaller, target: str) -> None:
    refused(raw.get(f"{target}?{API}"), 400, 404, 405)
    refused(raw.get(f"{target}?{API}", token=False), 401, 404)
    refused(raw.get(f"{target}?{API}", method="DELETE"), 400, 404, 405)


@pytest.mark.parametrize("target", ["/secrets/d%62", "/%73ecrets/db", "//secrets//db//", "/secrets/DB"])
def test_other_spellings_of_a_name_are_decided_like_the_name(
    embedded: Embedded, vault: dict[str, Any], raw: RawCaller, target: str
) -> None:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/other")
    token = embedded.token(person, vault["resource"])
    refused(raw.get(f"{target}?{API}", token=False, headers=f"Authorization: Bearer {token}\r\n"), 403)
    refused(raw.get(f"{target}?{API}", token=False), 401)
    assert raw.get(f"{target}?{API}").status in (200, 400, 404)


def test_an_absolute_target_needs_host_and_token_all_the_same(raw: RawCaller) -> None:
    absolute = f"https://{raw.host}{TARGET}"
    assert raw.get(absolute).status == 200
    refused(raw.get(absolute, token=False), 401)
    refused(raw.get(absolute, host="evil.example"), 421)
    refused(raw.get(f"https://evil.example{TARGET}", token=False), 400, 401, 421)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("OPTIONS", "*"),
        ("CONNECT", "127.0.0.1:443"),
        ("GET", "secrets/db"),
        ("GET", "\xe4"),
        ("GET", "/secrets/\xe4"),
        ("GET", "/a b"),
        ("GET", "?x"),
        ("GET", "http://"),
        ("GET", "http://[::1"),
        ("TRACE", TARGET),
        ("BREW", TARGET),
        ("get", TARGET),
        ("PRI", "*"),
    ],
)
def test_odd_methods_and_targets_are_refused(raw: RawCaller, method: str, target: str) -> None:
    for token in (True, False):
        answers = raw.send(
            f"{method} {target} HTTP/1.1\r\nHost: {raw.host}\r\n"
            f"{raw.authorization if token else ''}Connection: close\r\n\r\n"
        )
        refused(answers[0], 400, 401, 404, 405)


def test_asking_for_another_protocol_changes_nothing(raw: RawCaller) -> None:
    for wanted in ("h2c", "websocket", "TLS/1.0"):
        upgrade = f"Upgrade: {wanted}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Key: eA==\r\n"
        answers = raw.send(
            f"GET {TARGET} HTTP/1.0\r\nHost: {raw.host}\r\n{upgrade}Connection: Upgrade, HTTP2-Settings\r\n\r\n"
        )
        refused(answers[0], 400, 401)


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override"],
)
def test_headers_of_proxies_are_not_believed(raw: RawCaller, name: str) -> None:
    refused(raw.get(token=False, headers=f"{name}: 127.0.0.1\r\n"), 401)
    refused(raw.get("/nowhere", headers=f"{name}: {TARGET}\r\n"), 400, 404)
    assert raw.get(headers=f"{name}: DELETE\r\n").status == 200


@pytest.mark.parametrize(
    "headers",
    ["X: " + "a" * 70_000 + "\r\n", "".join(f"X{n}: y\r\n" for n in range(200)), "a" * 70_000 + ": x\r\n"],
    ids=["a value", "many", "a name"],
)
def test_too_large_a_head_is_refused(raw: RawCaller, headers: str) -> None:
    refused(raw.get(headers=headers), 400)


def test_too_long_a_target_is_refused(raw: RawCaller) -> None:
    for target in ("/secrets/" + "a" * 20_000, f"{TARGET}&x={'y' * 20_000}"):
        refused(raw.get(target), 400)
    refused(raw.get(TARGET + "&a=b" * 100), 400)


def test_too_large_a_body_is_refused(raw: RawCaller) -> None:
    refused(raw.get(method="PUT", headers="Content-Length: 1048577\r\n"), 413)
    answers = raw.send(
        f"PUT {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n{raw.authorization}Connection: close\r\n"
        f"Content-Length: 2000000\r\n\r\n{'x' * 2_000_000}"
    )
    assert answers == [] or answers[0].status == 413


def test_an_endless_body_is_ended(raw: RawCaller) -> None:
    with raw.connect() as connection:
        connection.sendall(
            f"PUT {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n{raw.authorization}"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        deadline = time.monotonic() + 20
        with pytest.raises((ConnectionError, ssl.SSLError)):
            while time.monotonic() < deadline:
                connection.sendall(chunk)
    assert raw.get().status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"value":1}',
        b'{"value":null}',
        b'{"value":"\\ud800"}',
        b'{"value":"\xff"}',
        b"[" * 100_000,
        b'{"value":' + b"[" * 50_000,
        b'{"value":"x","attributes":{"exp":1e400}}',
        b'{"value":"x","attributes":{"exp":99999999999999999999}}',
        b'{"value":"x","attributes":{"exp":-1}}',
        b'{"value":"x","attributes":{"enabled":"no"}}',
        b'{"value":"x","tags":{"a":1}}',
        b'{"value":"x","tags":[]}',
        b'{"value":"x","contentType":{}}',
        b"\x00",
        b"\xef\xbb\xbf{}",
        b"\x1f\x8b\x08",
    ],
    ids=range(22),
)
def test_a_body_that_is_no_request_is_refused(embedded: Embedded, vault: dict[str, Any], body: bytes) -> None:
    for method, path in (("PUT", "/secrets/bad"), ("PATCH", "/secrets/db"), ("POST", "/secrets/restore")):
        answer = embedded.call(method, vault["url"] + path, vault, content=body)
        assert answer.status_code == 400 or (method == "PATCH" and answer.status_code == 200), (method, answer.text)
    assert embedded.call("GET", f"{vault['url']}/secrets/bad", vault).status_code == 404


@pytest.mark.parametrize("nested", [b'{"a":' * 5_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000, b'{"a":' + b"[" * 50_000])
def test_a_deeply_nested_body_is_refused_by_every_service(
    embedded: Embedded, vault: dict[str, Any], nested: bytes
) -> None:
    arm, graph = embedded.connection["arm"], f"{embedded.connection['arm']}/v1.0"
    identity = embedded.person().resource_id
    for url, audience in (
        (f"{vault['url']}/secrets/nested", vault["resource"]),
        (f"{arm}{embedded.operator.group()}", arm),
        (f"{arm}{identity}", arm),
        (f"{arm}{identity}/federatedIdentityCredentials/x", arm),
        (f"{arm}{vault['id']}", arm),
    ):
        headers = {"Authorization": f"Bearer {embedded.operator.token(audience)}"}
        answer = embedded.http.put(f"{url}?{API}", headers=headers, content=nested)
        assert answer.status_code == 400, (url, answer.text)
    posted = [(f"{arm}{identity}/bindProcess?{API}", arm), (f"{graph}/applications", "https://graph.microsoft.com")]
    for url, audience in posted:
        headers = {"Authorization": f"Bearer {embedded.operator.token(audience)}"}
        answer = embedded.http.post(url, headers=headers, content=nested)
        assert answer.status_code == 400, (url, answer.text)


def test_plain_http_on_the_port_gets_nothing(raw: RawCaller) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", raw.port), timeout=10) as connection:
        connection.sendall(f"GET {TARGET} HTTP/1.1\r\nHost: {raw.host}\r\n{raw.authorization}\r\n".encode())
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionError:
            pass
    assert CANARY not in received
    assert b"HTTP/1.1 200" not in received


def test_old_tls_is_refused(embedded: Embedded, raw: RawCaller) -> None:
    import socket
    import warnings

    context = ssl.create_default_context(cafile=embedded.connection["ca_bundle"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", raw.port), timeout=10) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
