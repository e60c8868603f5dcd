"""The shop window: signs session cookies with a token that reaches it as a Kubernetes Secret."""

import hashlib
import hmac
import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler
from typing import Any

from web import serve

token = os.environ.pop("SESSION_TOKEN").encode()
assert len(token) >= 16, "the session token is too short to sign with"


def session(request: BaseHTTPRequestHandler) -> Any:
    visitor = request.client_address[0]
    return {"visitor": visitor, "signature": hmac.new(token, visitor.encode(), hashlib.sha256).hexdigest()}


def buy(_: BaseHTTPRequestHandler) -> Any:
    with urllib.request.urlopen(os.environ["CHECKOUT_URL"] + "/charge", timeout=5) as answer:
        return json.load(answer)


print("storefront: ready; the session token came from a Secret that External Secrets fills")
serve({"/session": session, "/buy": buy})
