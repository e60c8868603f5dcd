"""HTTP/1.1 as this server takes it: uvicorn's httptools protocol, stricter.

- Trailers of a chunked body are dropped. The parser reports them like headers, and a trailer must never become an
  ``Authorization`` header (RFC 9110 section 6.5.1).
- Header and target sizes are bounded while they arrive.
- The parser itself (llhttp, strict) refuses a message with both Content-Length and Transfer-Encoding, and repeated
  Content-Length.
"""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024
MAX_TARGET_BYTES = 16 * 1024
MAX_HEADERS = 100


class TooLarge(Exception):
    """The head of a request is larger than this server reads; the parser turns it into a 400."""


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
            raise TooLarge
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            raise TooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_done = True
        super().on_headers_complete()
