"""Unmodified clients in every dialect: asynchronous, App Service, instance metadata; and identities that end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient

from embedded import SECRETS_OFFICER, Embedded, Person


@pytest.fixture(scope="module")
def vault(embedded: Embedded) -> dict[str, Any]:
    made = embedded.vault()
    embedded.put(made, "db", "one")
    embedded.put(made, "other", "two")
    return made


@contextmanager
def environment(embedded: Embedded, **variables: str) -> Iterator[None]:
    """The process's environment for a client: nothing of Azure's but these."""
    before = dict(os.environ)
    for name in [n for n in os.environ if n.startswith(("AZURE_", "IDENTITY_", "MSI_"))]:
        del os.environ[name]
    bundle = embedded.connection["ca_bundle"]
    os.environ.update({"REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle, "NO_PROXY": "127.0.0.1", **variables})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


ASYNCHRONOUS = """
import asyncio, os
from azure.core.exceptions import ResourceNotFoundError
from azure.identity.aio import DefaultAzureCredential
from azure.keyvault.secrets.aio import SecretClient

async def work():
    async with DefaultAzureCredential() as credential, SecretClient(os.environ["VAULT"], credential) as client:
        made = await client.set_secret("asynchronous", "v1", tags={"a": "b"})
        assert (await client.get_secret("asynchronous")).value == "v1"
        assert (await client.get_secret("asynchronous", made.properties.version)).value == "v1"
        names = [found.name async for found in client.list_properties_of_secrets()]
        assert {"asynchronous", "db", "other"} <= set(names)
        together = await asyncio.gather(*(client.get_secret("db") for _ in range(20)))
        assert {found.value for found in together} == {"one"}
        await client.delete_secret("asynchronous")
        try:
            await client.get_secret("asynchronous")
        except ResourceNotFoundError:
            pass
        else:
            raise AssertionError("it was deleted")
        await client.purge_deleted_secret("asynchronous")
    print("done")

asyncio.run(work())
"""


def test_the_asynchronous_client(embedded: Embedded, vault: dict[str, Any]) -> None:
    """In a process of its own: aiohttp reads SSL_CERT_FILE once, when it is imported."""
    person = embedded.person()
    embedded.grant(person, vault["id"], SECRETS_OFFICER)
    variables = {"PATH": os.environ["PATH"], "VAULT": vault["url"], **person.environment}
    finished = subprocess.run([sys.executable, "-c", ASYNCHRONOUS], env=variables, capture_output=True, text=True)
    assert finished.stdout == "done\n", finished.stderr[-2000:]


def bound(embedded: Embedded, person: Person) -> dict[str, str]:
    """What a process bound to a person is given in the App Service dialect."""
    binding = embedded.operator.arm("POST", f"{person.resource_id}/bindProcess", "2024-11-30", {"label": "tests"})
    return {"IDENTITY_ENDPOINT": binding["endpoint"], "IDENTITY_HEADER": binding["header"]}


def test_the_app_service_dialect_makes_one_process_one_identity(embedded: Embedded, vault: dict[str, Any]) -> None:
    person, other = embedded.person(), embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    embedded.grant(other, f"{vault['id']}/secrets/other")
    given = bound(embedded, person)
    with environment(embedded, **given):
        for credential in (ManagedIdentityCredential(), ManagedIdentityCredential(client_id=person.client_id)):
            with credential, SecretClient(vault["url"], credential) as client:
                assert client.get_secret("db").value == "one"
                with pytest.raises(HttpResponseError) as caught:
                    client.get_secret("other")
                assert caught.value.status_code == 403
        with (
            ManagedIdentityCredential(client_id=other.client_id) as credential,
            SecretClient(vault["url"], credential) as client,
            pytest.raises(ClientAuthenticationError),
        ):
            client.get_secret("other")
    with (
        environment(embedded, **{**given, "IDENTITY_HEADER": given["IDENTITY_HEADER"][:-1] + "x"}),
        ManagedIdentityCredential() as credential,
        SecretClient(vault["url"], credential) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.get_secret("db")


def test_the_instance_metadata_dialect(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    given = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": embedded.connection["authority"]}
    with (
        environment(embedded, **given),
        ManagedIdentityCredential(client_id=person.client_id) as credential,
        SecretClient(vault["url"], credential) as client,
    ):
        assert client.get_secret("db").value == "one"
    for headers in ({}, {"Metadata": "false"}, {"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}):
        answer = embedded.http.get(
            f"{embedded.connection['authority']}/metadata/identity/oauth2/token",
            params={"api-version": "2018-02-01", "resource": vault["resource"], "client_id": person.client_id},
            headers=headers,
        )
        assert answer.status_code == 400
        assert "access_token" not in answer.text


def test_a_deleted_identity_is_out_at_once(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    given = bound(embedded, person)
    token = embedded.token(person, vault["resource"])
    with embedded.client(person, vault) as client:
        for _ in range(2):
            assert client.get_secret("db").value == "one"
        embedded.operator.arm("DELETE", person.resource_id, "2024-11-30")
        assert embedded.call("GET", f"{vault['url']}/secrets/db", vault, token=token).status_code == 401
        with pytest.raises(ClientAuthenticationError):
            client.get_secret("db")
    with (
        environment(embedded, **given),
        ManagedIdentityCredential() as credential,
        SecretClient(vault["url"], credential) as client,
        pytest.raises(ClientAuthenticationError),
    ):
        client.get_secret("db")
    again = embedded.person(person.name)
    assert again.object_id != person.object_id
    with embedded.client(again, vault) as client, pytest.raises(HttpResponseError) as caught:
        client.get_secret("db")
    assert caught.value.status_code == 403, "a namesake inherits nothing"


def test_revoked_sessions_end_and_a_new_sign_in_begins(embedded: Embedded, vault: dict[str, Any]) -> None:
    person = embedded.person()
    embedded.grant(person, f"{vault['id']}/secrets/db")
    token = embedded.token(person, vault["resource"])
    url = f"{vault['url']}/secrets/db"
    assert embedded.call("GET", url, vault, token=token).status_code == 200
    embedded.operator.graph("POST", f"/servicePrincipals/{person.object_id}/revokeSignInSessions")
    refused = embedded.call("GET", url, vault, token=token)
    assert refused.status_code == 401
    assert 'claims="' in refused.headers["www-authenticate"]
