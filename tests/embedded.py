"""A real server in a process of its own, and people to talk to it: for tests of the wire."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from conformance.subject import Operator, start_server

from keyleaf.runtime.issuer import ServiceAccountIssuer

SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"
SECRETS_OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"
READER = "21090545-7ca7-4776-b22c-e363652d74d2"
API = "api-version=2026-04-01"


@dataclass
class Person:
    """A managed identity and what a process needs to be it."""

    name: str
    resource_id: str
    object_id: str
    client_id: str
    subject: str
    environment: dict[str, str]


@dataclass
class Embedded:
    """A running server and its operator."""

    state: Path
    process: subprocess.Popen[bytes]
    connection: dict[str, Any]
    operator: Operator
    issuer: ServiceAccountIssuer
    scratch: Path
    vaults: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def http(self) -> httpx2.Client:
        """A bare HTTP client that trusts the server."""
        return self.operator._http

    def vault(self, name: str = "", **properties: object) -> dict[str, Any]:
        """A new vault; ``url`` is its data plane without trailing slash."""
        name = name or f"kv-{uuid.uuid4().hex[:12]}"
        made = self.operator.vault(name, **properties)
        made["url"] = made["properties"]["vaultUri"].rstrip("/")
        made["resource"] = "https://0.0.1:" + made["url"].rsplit(":", 1)[1]
        self.vaults[name] = made
        return made

    def person(self, name: str = "", *, federated: bool = True) -> Person:
        """A new managed identity, federated with a service account of the local issuer."""
        name = name or f"id-{uuid.uuid4().hex[:12]}"
        made = self.operator.arm(
            "PUT",
            f"{self.operator.group()}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
            "2024-11-30",
            {"location": "local", "tags": {"keyleaf-application": f"app-{name}"}},
        )
        subject = f"system:serviceaccount:tests:{name}"
        if federated:
            self.operator.arm(
                "PUT",
                f"{made['id']}/federatedIdentityCredentials/local",
                "2024-11-30",
                {
                    "properties": {
                        "issuer": self.connection["issuer"],
                        "subject": subject,
                        "audiences": ["api://AzureADTokenExchange"],
                    }
                },
            )
        token_file = self.scratch / f"{name}.token"
        token_file.write_text(self.issuer.token("tests", name, now=time.time()))
        environment = {
            "AZURE_AUTHORITY_HOST": self.connection["authority"],
            "AZURE_TENANT_ID": self.connection["tenant_id"],
            "AZURE_CLIENT_ID": made["properties"]["clientId"],
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
            "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",
            "REQUESTS_CA_BUNDLE": self.connection["ca_bundle"],
            "SSL_CERT_FILE": self.connection["ca_bundle"],
            "NO_PROXY": "127.0.0.1",
        }
        properties = made["properties"]
        return Person(name, made["id"], properties["principalId"], properties["clientId"], subject, environment)

    def grant(self, person: Person, scope: str, role: str = SECRETS_USER, **more: object) -> str:
        """Assign a role; returns the assignment's id."""
        subscription = f"/subscriptions/{self.connection['subscription_id']}"
        identifier = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        properties = {
            "principalId": person.object_id,
            "principalType": "ServicePrincipal",
            "roleDefinitionId": f"{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}",
            **more,
        }
        self.operator.arm("PUT", identifier, "2022-04-01", {"properties": properties})
        return identifier

    def revoke(self, assignment: str) -> None:
        """Delete a role assignment."""
        self.operator.arm("DELETE", assignment, "2022-04-01")

    def put(self, vault: dict[str, Any], name: str, value: str, **more: object) -> dict[str, Any]:
        """Set a secret as the operator."""
        answer = self.call("PUT", f"{vault['url']}/secrets/{name}", vault, json={"value": value, **more})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def call(self, method: str, url: str, vault: dict[str, Any], token: str = "", **more: Any) -> httpx2.Response:
        """One raw call of a vault, as the operator unless a token is given."""
        separator = "&" if "?" in url else "?"
        bearer = token or self.operator.token(vault["resource"])
        headers = {"Authorization": f"Bearer {bearer}", **more.pop("headers", {})}
        return self.http.request(method, f"{url}{separator}{API}", headers=headers, **more)

    def token(self, person: Person, resource: str) -> str:
        """An access token of a person."""
        answer = self.http.post(
            f"{self.connection['authority']}/{self.connection['tenant_id']}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": person.client_id,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": self.issuer.token("tests", person.name, now=time.time()),
                "scope": f"{resource}/.default",
            },
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    @contextlib.contextmanager
    def client(self, person: Person, vault: dict[str, Any]) -> Iterator[SecretClient]:
        """The unmodified SDK as that person: environment variables only."""
        before = dict(os.environ)
        for name in [n for n in os.environ if n.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
            del os.environ[name]
        os.environ.update(person.environment)
        try:
            with DefaultAzureCredential() as credential, SecretClient(vault["url"], credential) as client:
                yield client
        finally:
            os.environ.clear()
            os.environ.update(before)

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        assert self.process.wait(20) == 0


def start_embedded(state: Path, scratch: Path, *arguments: str, **environment: str) -> Embedded:
    """Start a server on a state directory."""
    process, connection = start_server(state, arguments=arguments, environment={**os.environ, **environment})
    return Embedded(
        state=state,
        process=process,
        connection=connection,
        operator=Operator(state, connection),
        issuer=ServiceAccountIssuer.open(state / "oidc" / "local", connection["issuer"]),
        scratch=scratch,
    )
