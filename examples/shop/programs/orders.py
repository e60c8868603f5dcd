"""Lists orders; signs in to its database with the connection string from the vault."""

import base64
import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler
from typing import Any

from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from web import serve

vault = SecretClient(vault_url=os.environ["AZURE_KEYVAULT_URL"], credential=DefaultAzureCredential())


def orders(_: BaseHTTPRequestHandler) -> Any:
    # Asked for each time: a rotated password is in use at once, without a restart.
    connection_string = vault.get_secret(os.environ["CONNECTION_SECRET"]).value or ""
    account = dict(part.split("=", 1) for part in connection_string.split())
    basic = base64.b64encode(f"{account['user']}:{account['password']}".encode()).decode()
    request = urllib.request.Request(
        os.environ["DATABASE_URL"] + "/query",
        data=b"select id, item from orders",
        headers={"Authorization": f"Basic {basic}"},
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return [{"id": number, "item": item} for number, item in json.load(answer)]


serve({"/orders": orders, "/healthz": lambda request: len(orders(request))})
