"""A database server: runs SQL for whoever knows the password in the connection string."""

import base64
import hmac
import os
import sqlite3
from http.server import BaseHTTPRequestHandler
from typing import Any

from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from web import Refused, serve

vault = SecretClient(vault_url=os.environ["AZURE_KEYVAULT_URL"], credential=DefaultAzureCredential())
connection_string = vault.get_secret(os.environ["CONNECTION_SECRET"]).value or ""
account = dict(part.split("=", 1) for part in connection_string.split())
expected = "Basic " + base64.b64encode(f"{account['user']}:{account['password']}".encode()).decode()
database = sqlite3.connect(":memory:", check_same_thread=False)
database.execute("create table orders (id integer primary key, item text)")
database.execute("insert into orders (item) values ('a kettle'), ('a lamp')")


def query(request: BaseHTTPRequestHandler) -> Any:
    if not hmac.compare_digest(request.headers.get("Authorization", ""), expected):
        raise Refused("wrong user or password")
    sql = request.rfile.read(int(request.headers["Content-Length"])).decode()
    return database.execute(sql).fetchall()


print("database: ready; the password came from the vault")
serve({"/query": query})
