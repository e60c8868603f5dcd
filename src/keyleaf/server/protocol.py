"""HTTP/1.1 as this server takes it: uvicorn's httptools protocol, stricter.

- Trailers of a chunked body are dropped. The parser reports them like headers, and a trailer must never become an
  ``Authorization`` header (RFC 9110 section 6.5.1).
- Header and target sizes are bounded while they arrive.
- The parser itself (llhttp, strict) refuses a message with both Content-Length and Transfer-Encoding, and repeated
  Content-Length.
- What is no HTTP at all is refused in the shape of every other error, and the connection closed.
"""

from __future__ import annotations

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from keyleaf.core.errors import ServiceError

MAX_HEADER_BYTES = 64 * 1024
MAX_TARGET_BYTES = 16 * 1024
MAX_HEADERS = 100
LINGER_SECONDS = 2.0


_NOT_HTTP = msgspec.json.encode(ServiceError(400, "BadRequest", "The request is not valid HTTP/1.1.").body())
_REFUSAL = b"\r\n".join(
    (
        b"HTTP/1.1 400 Bad Request",
        b"content-type: application/json; charset=utf-8",
        b"content-length: %d" % len(_NOT_HTTP),
        b"connection: close",
        b"",
        _NOT_HTTP,
    )
)


class NotServed(Exception):
    """A request's head is larger than this server reads, or of another version of HTTP; the answer is a 400."""


class StrictProtocol(HttpToolsProtocol):
    """One connection."""

    _head_done = False
    _head_bytes = 0

    @property
    def idle(self) -> bool:
        """Whether no request is being served."""
        return self.cycle is None or self.cycle.response_complete

    def on_message_begin(self) -> None:
        self._head_done = False
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._head_bytes += len(url)
        if self._head_bytes > MAX_TARGET_BYTES:
            raise NotServed
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            raise NotServed
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_done = True
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise NotServed
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self.transport.write(_REFUSAL)
        self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            # Closing TLS waits for the client, and a client that is still sending a refused body need never stop.
            self.loop.call_later(LINGER_SECONDS, self.transport.abort)
