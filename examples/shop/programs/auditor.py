"""Reads the one secret that it declares, asks for one that it does not, and says why it was refused."""

import os
from http.server import BaseHTTPRequestHandler
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from web import serve

vault = SecretClient(vault_url=os.environ["AZURE_KEYVAULT_URL"], credential=DefaultAzureCredential())


def attempt(name: str) -> dict[str, Any]:
    try:
        vault.get_secret(name)
    except HttpResponseError as error:
        details = error.model or error.error
        return {"secret": name, "status": error.status_code, "reason": str(getattr(details, "message", error.message))}
    return {"secret": name, "status": 200, "reason": ""}


def report(_: BaseHTTPRequestHandler) -> Any:
    return [attempt(os.environ["DECLARED_SECRET"]), attempt(os.environ["UNDECLARED_SECRET"])]


for result in report(None):  # type: ignore[arg-type]
    print(f"auditor: {result['secret']}: {result['status']} {result['reason'].splitlines()[:1]}")
serve({"/report": report})
