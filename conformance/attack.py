"""Hostile requests of our own making: paths, headers, tokens, framing and JSON that no schema describes."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import random
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TIMEOUT_SECONDS = 20
PATIENCE_SECONDS = 0.5  # with a request that announces more than it brings: the server rightly waits
_METHODS = ("GET", "GET", "GET", "PUT", "PUT", "PATCH", "DELETE", "POST", "POST")
_ODD_METHODS = ("HEAD", "OPTIONS", "TRACE", "CONNECT", "BREW", "get", "PROPFIND", "")
_TRICKS = (
    "%2e%2e", "%2e", "..", ".", "%2f", "%5c", "%00", "%", "%zz", "%ff", "%c0%ae", "%252f", ";a=b", "//", "\\", "\t",
    "\x00", "\xe9", "%0d%0aX: y", "#", "?", "*", "~", "a" * 300, "%e2%84%aa", "&", "{name}", "$(id)", "'--", "\x7f",
)  # fmt: skip
_HEADERS = (
    "Host: evil.example", "Authorization: Bearer x", "Authorization:", "Transfer-Encoding: chunked",
    "Content-Length: 7", "Content-Length: -1", "Content-Length: 99999999999", "Expect: 100-continue", "Expect: x",
    "Connection: Upgrade",
    "Upgrade: websocket", "Upgrade: h2c", "X-Forwarded-For: 127.0.0.1", "Forwarded: for=1;host=x", "Metadata: true",
    "X-Identity-Header: x", "Secret: x", "Content-Type: text/xml", "Content-Encoding: gzip", "Range: bytes=0-1",
    "If-Match: *", "X: \x00", "X: \xff", "Bad Name: x", ": x", "NoColon", " folded", "Cookie: a=b", "Te: trailers",
    "X-HTTP-Method-Override: DELETE", "X-Ms-Client-Request-Id: \x01", "User-Agent: \xff\xfe", "X: " + "y" * 9000,
)  # fmt: skip
_QUERIES = (
    "api-version=2026-04-01", "api-version=2026-04-01", "api-version=2026-04-01", "api-version=7.4", "", "api-version=",
    "api-version=x", "api-version=2026-04-01&api-version=1", "API-VERSION=7.4", "api-version=2026-04-01&maxresults=-1",
    "api-version=2026-04-01&maxresults=%00", "api-version=2026-04-01&$skiptoken=AAAA", "%", "%ff=%fe", "a=b&" * 80,
    "api-version=2026-04-01&$filter=principalId eq 'x'", "api-version=2026-04-01&$filter=((((", "api-version=%32%30",
    "api-version=2026-04-01&resource=x", "api-version=2019-08-01&resource=https://vault.azure.net",
)  # fmt: skip
_SCALARS: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 2**63, 2**70, "", "x", "\x00", "\ud800", "a" * 30_000, [], {}, [[]], {"a": {}},
    "2026-01-01",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A port and what it is asked for.

    Attributes:
        valid: tokens that the port accepts from somebody who may do everything.
        foreign: tokens that are genuine and hold elsewhere, or belong to somebody without any right here.
    """

    port: int
    paths: Sequence[str]
    bodies: Sequence[Any]
    valid: str
    foreign: Sequence[str]


@dataclass(frozen=True)
class Attack:
    """One request in bytes; ``authorised`` says whether a valid token is somewhere in it."""

    port: int
    request: bytes
    authorised: bool


class Attacker:
    """Makes attacks, repeatably for a seed."""

    def __init__(self, seed: int, targets: Sequence[Target]) -> None:
        self._random = random.Random(seed)
        self._targets = targets

    def next(self) -> Attack:
        """One more."""
        choose = self._random
        target = choose.choice(self._targets)
        authorised = choose.random() < 0.5
        token = target.valid if authorised else self._bad_token(target)
        method = choose.choice(_METHODS if choose.random() < 0.9 else _ODD_METHODS)
        lines = [f"{method} {self._path(target)} HTTP/{self._version()}"]
        lines.append(f"Host: 127.0.0.1:{target.port}" if choose.random() < 0.95 else f"Host: {choose.choice(_TRICKS)}")
        if authorised or token:
            lines.append(f"Authorization: Bearer {token}")
        lines += choose.sample(_HEADERS, choose.choice((0, 0, 0, 1, 1, 2)))
        body = self._body(target)
        if body and choose.random() < 0.9:
            lines.append(f"Content-Length: {len(body)}")
        choose.shuffle(tail := lines[1:])
        head = "\r\n".join([lines[0], *tail, "Connection: close", "", ""]).encode("latin-1", "replace")
        return Attack(target.port, head + body, authorised)

    def _version(self) -> str:
        return "1.1" if self._random.random() < 0.95 else self._random.choice(("1.0", "0.9", "2.0", "x", "1.1.1", ""))

    def _path(self, target: Target) -> str:
        choose = self._random
        path = choose.choice(target.paths)
        for _ in range(choose.choice((0, 0, 0, 1, 1, 2))):
            at = choose.randrange(len(path) + 1)
            trick = choose.choice(_TRICKS)
            kind = choose.randrange(4)
            if kind == 0:
                path = path[:at] + trick + path[at:]
            elif kind == 1:
                path = path[:at] + f"/{trick}/" + path[at:]
            elif kind == 2:
                path = "".join(f"%{ord(c):02x}" if choose.random() < 0.3 and c.isascii() else c for c in path)
            else:
                path = path.swapcase()
        query = choose.choice(_QUERIES)
        absolute = choose.choice(("https://evil.example", f"https://127.0.0.1:{target.port}", "//evil.example"))
        return (absolute if choose.random() < 0.05 else "") + path + (f"?{query}" if query else "")

    def _bad_token(self, target: Target) -> str:
        choose = self._random
        kind = choose.randrange(9)
        head, claims, signature = target.valid.split(".")
        if kind == 0:
            return ""
        if kind == 1:
            return choose.choice(target.foreign)
        if kind == 2:
            return f"{_encoded({'alg': 'none', 'typ': 'JWT'})}.{claims}."
        if kind == 3:
            signed = f"{_encoded({**_decoded(head), 'alg': 'HS256'})}.{claims}"
            mac = hmac.new(choose.randbytes(32), signed.encode(), "sha256").digest()
            return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        if kind == 4:
            changed = {**_decoded(claims), choose.choice(("aud", "iss", "oid", "exp", "nbf", "tid")): _scalar(choose)}
            return f"{head}.{_encoded(changed)}.{signature}"
        if kind == 5:
            changed = {**_decoded(head), choose.choice(("alg", "kid", "crit", "b64", "jku")): _scalar(choose)}
            return f"{_encoded(changed)}.{claims}.{signature}"
        if kind == 6:
            at = choose.randrange(len(signature) - 4)
            return f"{head}.{claims}.{signature[:at]}{'A' if signature[at] != 'A' else 'B'}{signature[at + 1 :]}"
        if kind == 7:
            return choose.choice(("x", "..", "a.b.c", "." * 200, "e30.e30.", "y" * 12_000, "\xff.\xff.\xff", "null"))
        return f"{head}.{claims}.{signature[: choose.randrange(len(signature))]}"

    def _body(self, target: Target) -> bytes:
        choose = self._random
        kind = choose.randrange(6)
        if kind == 0 or not target.bodies:
            return b""
        if kind == 1:
            return choose.randbytes(choose.choice((1, 10, 3000)))
        if kind == 2:
            return choose.choice(
                (
                    b"[" * 30_000,
                    b'{"a":' * 5_000,
                    b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
                    b'"',
                    b"{",
                    b"null",
                    b"\xef\xbb\xbf{}",
                    b"NaN",
                    b"-",
                )
            )
        body = json.loads(json.dumps(choose.choice(target.bodies)))
        if isinstance(body, str):
            return body.encode()
        for _ in range(choose.choice((0, 1, 1, 2))):
            _change(body, choose)
        return json.dumps(body).encode()


def send(attack: Attack, context: ssl.SSLContext) -> bytes:
    """What the server answers.

    Raises:
        TimeoutError: nothing, although the request was complete.
    """
    received = b""
    waits = announces_more(attack.request)
    with (
        contextlib.suppress(TimeoutError) if waits else contextlib.nullcontext(),
        socket.create_connection(
            ("127.0.0.1", attack.port), timeout=PATIENCE_SECONDS if waits else TIMEOUT_SECONDS
        ) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            secured.sendall(attack.request)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while part := secured.recv(65536):
                received += part
                if _complete(received):
                    break
    return received


def announces_more(request: bytes) -> bool:
    """Whether the request announces a longer body than it brings, so that the server rightly waits for the rest."""
    head, _, body = request.lower().partition(b"\r\n\r\n")
    lengths = [line[15:].strip() for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return b"transfer-encoding" in head or any(n.isdigit() and int(n) > len(body) for n in lengths)


def _complete(received: bytes) -> bool:
    head, end, rest = received.partition(b"\r\n\r\n")
    if not end or head.startswith(b"HTTP/1.1 100"):
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(rest) >= int(line.partition(b":")[2])
    return False


def _change(body: Any, choose: random.Random) -> None:
    """Put something else into one place of a JSON value."""
    while isinstance(body, dict) and body:
        key = choose.choice(list(body))
        if isinstance(body[key], dict) and choose.random() < 0.6:
            body = body[key]
            continue
        kind = choose.randrange(4)
        if kind == 0:
            del body[key]
        elif kind == 1:
            body[choose.choice(("x", key.upper(), "", "\x00"))] = body[key]
        else:
            body[key] = _scalar(choose)
        return


def _scalar(choose: random.Random) -> Any:
    return choose.choice(_SCALARS)


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
