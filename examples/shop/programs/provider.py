"""A payment provider: charges cards for whoever shows the right API key."""

import hmac
import os
from http.server import BaseHTTPRequestHandler
from typing import Any

from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from web import Refused, serve

vault = SecretClient(vault_url=os.environ["AZURE_KEYVAULT_URL"], credential=DefaultAzureCredential())
secret = os.environ["API_KEY_SECRET"]
vault.get_secret(secret)


def charge(request: BaseHTTPRequestHandler) -> Any:
    api_key = vault.get_secret(secret).value  # asked for each time: an old key is refused as soon as there is a new one
    if not hmac.compare_digest(request.headers.get("Authorization", ""), f"Bearer {api_key}"):
        raise Refused("wrong API key")
    return {"charged": True}


print("provider: ready; the API key came from the vault")
serve({"/charge": charge})
