"""A web server for the programs of the shop: paths to functions that give what is answered as JSON."""

import json
import os
import signal
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Refused(Exception):
    """Answered as 401."""


def serve(routes: dict[str, Callable[[BaseHTTPRequestHandler], Any]]) -> None:
    """Listen on $PORT until SIGTERM; ``/healthz`` is answered for every program."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            try:
                route = routes.get(self.path) or {"/healthz": lambda request: "ok"}.get(self.path)
                status, body = (200, route(self)) if route else (404, "no such page")
            except Refused as refusal:
                status, body = 401, str(refusal)
            except Exception as error:
                # The name alone: a message might quote what was sent.
                status, body = 500, type(error).__name__
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
