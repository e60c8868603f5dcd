"""A keyleaf server of its own, furnished as the Azure SDKs' live tests expect a subscription to be."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

READY_SECONDS = 60


@dataclass(frozen=True)
class Subject:
    """Where the server is and what was made in it."""

    state: Path
    process: subprocess.Popen[bytes]
    connection: dict[str, Any]
    vault_url: str
    client_id: str
    client_secret: str
    identity_client_id: str
    msi_endpoint: str
    msi_header: str

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        self.process.wait(20)

    def trust(self) -> dict[str, str]:
        """Environment that makes a client trust the server's certificate and reach it directly."""
        bundle = self.connection["ca_bundle"]
        return {
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "AZURE_AUTHORITY_HOST": self.connection["authority"],
            "NO_PROXY": "127.0.0.1",
        }


def start_server(
    state: Path,
    *,
    arguments: tuple[str, ...] = ("--imds",),
    environment: dict[str, str] | None = None,
    errors: Path | None = None,
) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start ``keyleaf serve`` on ``state`` and wait until it says where it is; ``errors`` takes its error output."""
    command = [sys.executable, "-m", "keyleaf", "serve", "--state", str(state), *arguments]
    with contextlib.ExitStack() as files:
        written_to = files.enter_context(errors.open("wb")) if errors else None
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=written_to, env=environment)
    written = state / "connection.json"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"keyleaf serve ended with {process.returncode}")
        if written.exists():
            connection: dict[str, Any] = json.loads(written.read_text())
            if connection["pid"] == process.pid:
                return process, connection
        time.sleep(0.05)
    process.kill()
    raise SystemExit("keyleaf serve did not become ready")


class Operator:
    """Speaks to Resource Manager and Graph as the operator, over plain HTTP so that nothing hides the answers."""

    def __init__(self, state: Path, connection: dict[str, Any]) -> None:
        from keyleaf.runtime.issuer import ServiceAccountIssuer

        self.connection = connection
        issuer = ServiceAccountIssuer.open(state / "oidc" / "local", connection["issuer"])
        self._assertion = issuer.token("keyleaf-system", "operator", now=time.time())
        import ssl

        self._http = httpx2.Client(verify=ssl.create_default_context(cafile=connection["ca_bundle"]), trust_env=False)
        self._tokens: dict[str, str] = {}

    def token(self, resource: str) -> str:
        """An access token for ``resource``."""
        if resource not in self._tokens:
            answer = self._http.post(
                f"{self.connection['authority']}/{self.connection['tenant_id']}/oauth2/v2.0/token",
                data={
                    "grant_type": "client_credentials",
                    "client_id": self.connection["operator_client_id"],
                    "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                    "client_assertion": self._assertion,
                    "scope": f"{resource}/.default",
                },
            )
            answer.raise_for_status()
            self._tokens[resource] = answer.json()["access_token"]
        return self._tokens[resource]

    def arm(self, method: str, path: str, version: str, body: object = None) -> Any:
        """One call of Resource Manager."""
        base = self.connection["arm"]
        return self._send(method, f"{base}{path}?api-version={version}", self.token(base), body)

    def graph(self, method: str, path: str, body: object = None) -> Any:
        """One call of Graph."""
        base = self.connection["arm"]
        return self._send(method, f"{base}/v1.0{path}", self.token("https://graph.microsoft.com"), body)

    def _send(self, method: str, url: str, token: str, body: object) -> Any:
        answer = self._http.request(method, url, json=body, headers={"Authorization": f"Bearer {token}"})
        if answer.status_code >= 400:
            raise SystemExit(f"{method} {url}: {answer.status_code} {answer.text}")
        return answer.json() if answer.content else None

    def group(self) -> str:
        """Resource id of the group that everything is made in."""
        return f"/subscriptions/{self.connection['subscription_id']}/resourceGroups/{self.connection['resource_group']}"

    def vault(self, name: str, **properties: object) -> dict[str, Any]:
        """Create a vault; returns its resource."""
        body = {
            "location": "local",
            "properties": {
                "tenantId": self.connection["tenant_id"],
                "sku": {"family": "A", "name": "standard"},
                "enableRbacAuthorization": True,
                **properties,
            },
        }
        made = self.arm("PUT", f"{self.group()}/providers/Microsoft.KeyVault/vaults/{name}", "2026-05-15", body)
        assert isinstance(made, dict)
        return made

    def grant(self, principal_id: str, role: str, scope: str) -> None:
        """Assign a built-in role, by its id."""
        subscription = f"/subscriptions/{self.connection['subscription_id']}"
        definition = f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
        self.arm(
            "PUT",
            f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}",
            "2022-04-01",
            {
                "properties": {
                    "principalId": principal_id,
                    "principalType": "ServicePrincipal",
                    "roleDefinitionId": definition,
                }
            },
        )


SECRETS_OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"


def furnish(state: Path) -> Subject:
    """Start a server and make a vault, an app registration with a client secret, and a managed identity."""
    process, connection = start_server(state, environment=dict(os.environ))
    operator = Operator(state, connection)
    vault = operator.vault("kv-suite", softDeleteRetentionInDays=7)
    application = operator.graph("POST", "/applications", {"displayName": "suite"})
    principal = operator.graph("POST", "/servicePrincipals", {"appId": application["appId"]})
    password = operator.graph("POST", f"/applications/{application['id']}/addPassword", {"passwordCredential": {}})
    identity = operator.arm(
        "PUT",
        f"{operator.group()}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-suite",
        "2024-11-30",
        {"location": "local"},
    )
    binding = operator.arm("POST", f"{identity['id']}/bindProcess", "2024-11-30", {"label": "suite"})
    for principal_id in (principal["id"], identity["properties"]["principalId"]):
        operator.grant(principal_id, SECRETS_OFFICER, vault["id"])
    return Subject(
        state=state,
        process=process,
        connection=connection,
        vault_url=vault["properties"]["vaultUri"].rstrip("/"),
        client_id=application["appId"],
        client_secret=password["secretText"],
        identity_client_id=identity["properties"]["clientId"],
        msi_endpoint=binding["endpoint"],
        msi_header=binding["header"],
    )
