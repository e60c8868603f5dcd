"""The warehouse: keeps the stock and sends the mail. Each has an API key of its own, and asks the vault for it."""

import hmac
import json
import os
from http.server import BaseHTTPRequestHandler
from typing import Any

from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from web import Refused, serve

vault = SecretClient(vault_url=os.environ["AZURE_KEYVAULT_URL"], credential=DefaultAzureCredential())
stock = {"cup": 100, "plate": 100, "teapot": 2}
reserved: dict[str, str] = {}
mails: dict[str, str] = {}


def asked(request: BaseHTTPRequestHandler, secret: str) -> dict[str, Any]:
    """What is asked, if the key is the present one."""
    key = vault.get_secret(secret).value
    if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {key}"):
        raise Refused("wrong API key")
    body: dict[str, Any] = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
    return body


def reserve(request: BaseHTTPRequestHandler) -> Any:
    """Once for each idempotency key, however often it is asked."""
    wanted = asked(request, "stock-api-key")
    if wanted["key"] not in reserved:
        if stock.get(wanted["article"], 0) < 1:
            return {"reserved": False}
        stock[wanted["article"]] -= 1
        reserved[wanted["key"]] = wanted["article"]
    return {"reserved": True, "key": wanted["key"]}


def release(request: BaseHTTPRequestHandler) -> Any:
    article = reserved.pop(asked(request, "stock-api-key")["key"], None)
    if article is not None:
        stock[article] += 1
    return {"stock": stock}


def mail(request: BaseHTTPRequestHandler) -> Any:
    wanted = asked(request, "mail-api-key")
    mails.setdefault(wanted["key"], wanted["text"])
    return {"sent": len(mails)}


serve({"/reserve": reserve, "/release": release, "/mail": mail})
