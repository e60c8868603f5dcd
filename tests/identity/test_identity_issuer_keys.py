"""Fetching the keys of other issuers: from a real loopback server that may misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from identity_support import ExternalIssuer
from joserfc.jwk import ECKey, RSAKey

from keyleaf.core.clock import ManualClock
from keyleaf.core.errors import RemoteError
from keyleaf.identity import IssuerKeys

Answer = tuple[int, dict[str, str], bytes]


class Site:
    """A server whose answers the test sets: bytes, a whole answer, or a function that writes what it likes."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.answers: dict[str, bytes | Answer] = {}
        self.seen: list[str] = []

    def publish(self, issuer: ExternalIssuer) -> None:
        self.answers.update(issuer.documents())


@pytest.fixture
def site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.seen.append(self.path)
            answer = made.answers.get(self.path, (404, {}, b""))
            status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def issuer(site: Site) -> ExternalIssuer:
    made = ExternalIssuer(site.base)
    site.publish(made)
    return made


@pytest.fixture
def keys(clock: ManualClock) -> IssuerKeys:
    return IssuerKeys(clock, timeout=2.0)


def test_keys_are_held_for_their_lifetime(
    keys: IssuerKeys, site: Site, issuer: ExternalIssuer, clock: ManualClock
) -> None:
    first = keys.find(issuer.issuer, "first")
    assert first is not None
    assert keys.find(issuer.issuer, "first") is first
    assert site.seen == ["/.well-known/openid-configuration", "/openid/v1/jwks"]
    clock.advance(3600)
    # A key that the issuer withdrew is not honoured for longer.
    issuer.keys = {"second": RSAKey.generate_key(2048)}
    site.publish(issuer)
    assert keys.find(issuer.issuer, "first") is None
    assert len(site.seen) == 4


def test_unknown_ids_do_not_make_more_than_one_fetch_in_ten_seconds(
    keys: IssuerKeys, site: Site, issuer: ExternalIssuer, clock: ManualClock
) -> None:
    keys.find(issuer.issuer, "first")
    for n in range(50):
        assert keys.find(issuer.issuer, f"guess-{n}") is None
    assert len(site.seen) == 2
    issuer.keys["second"] = RSAKey.generate_key(2048)
    site.publish(issuer)
    assert keys.find(issuer.issuer, "second") is None
    clock.advance(10)
    assert keys.find(issuer.issuer, "second") is not None
    assert len(site.seen) == 4


def test_a_failure_is_remembered_for_a_moment_and_then_tried_again(
    keys: IssuerKeys, site: Site, issuer: ExternalIssuer, clock: ManualClock
) -> None:
    site.answers.clear()
    for _ in range(5):
        with pytest.raises(RemoteError, match="status 404"):
            keys.find(issuer.issuer, "first")
    assert len(site.seen) == 1
    site.publish(issuer)
    clock.advance(1)
    assert keys.find(issuer.issuer, "first") is not None


def redirect(site: Site, issuer: ExternalIssuer) -> None:
    site.answers["/moved"] = site.answers["/.well-known/openid-configuration"]
    site.answers["/.well-known/openid-configuration"] = (302, {"Location": f"{site.base}/moved"}, b"")


def another_issuer(site: Site, issuer: ExternalIssuer) -> None:
    document = {"issuer": issuer.issuer + "/", "jwks_uri": f"{site.base}/openid/v1/jwks"}
    site.answers["/.well-known/openid-configuration"] = json.dumps(document).encode()


def keys_elsewhere_in_the_clear(site: Site, issuer: ExternalIssuer) -> None:
    document = {"issuer": issuer.issuer, "jwks_uri": "http://issuer.example/jwks"}
    site.answers["/.well-known/openid-configuration"] = json.dumps(document).encode()


def keys_in_a_file(site: Site, issuer: ExternalIssuer) -> None:
    document = {"issuer": issuer.issuer, "jwks_uri": "file:///etc/passwd"}
    site.answers["/.well-known/openid-configuration"] = json.dumps(document).encode()


def too_large(site: Site, issuer: ExternalIssuer) -> None:
    site.answers["/openid/v1/jwks"] += b" " * 300_000  # type: ignore[operator]


def no_json(site: Site, issuer: ExternalIssuer) -> None:
    site.answers["/openid/v1/jwks"] = b"<html>"


def no_text(site: Site, issuer: ExternalIssuer) -> None:
    site.answers["/.well-known/openid-configuration"] = b'{"issuer": "\xff"}'


def other_shape(site: Site, issuer: ExternalIssuer) -> None:
    site.answers["/openid/v1/jwks"] = b'{"keys": {}}'


@pytest.mark.parametrize(
    "damage",
    [
        redirect,
        another_issuer,
        keys_elsewhere_in_the_clear,
        keys_in_a_file,
        too_large,
        no_json,
        no_text,
        other_shape,
    ],
)
def test_what_is_not_taken(
    keys: IssuerKeys, site: Site, issuer: ExternalIssuer, damage: Callable[[Site, ExternalIssuer], None]
) -> None:
    damage(site, issuer)
    with pytest.raises(RemoteError):
        keys.find(issuer.issuer, "first")
    assert "/moved" not in site.seen


def test_proxies_of_the_environment_are_not_asked(
    keys: IssuerKeys, issuer: ExternalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert keys.find(issuer.issuer, "first") is not None


@pytest.mark.filterwarnings("ignore:Key size should be")
def test_keys_that_cannot_verify_rs256_are_passed_over(keys: IssuerKeys, site: Site, issuer: ExternalIssuer) -> None:
    good = issuer.keys["first"].as_dict(private=False)
    small = RSAKey.generate_key(1024).as_dict(private=False)
    jwks = [
        {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "curve"},
        {**small, "kid": "small"},
        {**good, "kid": "encryption", "use": "enc"},
        {**good, "kid": "other", "alg": "PS512"},
        {**good, "kid": 7},
        {"kty": "RSA", "kid": "empty"},
        {"kty": "RSA", "kid": "odd", "n": 7, "e": []},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {**good, "kid": "good"},
    ]
    site.answers["/openid/v1/jwks"] = json.dumps({"keys": jwks}).encode()
    assert keys.find(issuer.issuer, "good") is not None
    for kid in ("curve", "small", "encryption", "other", "empty", "odd", "shared"):
        assert keys.find(issuer.issuer, kid) is None
