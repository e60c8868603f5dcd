"""Microsoft's own credentials, unmodified, against the token service over TLS."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import azure.identity
import azure.identity.aio
import pytest
from azure.core.exceptions import ClientAuthenticationError
from identity_support import AUDIENCE, SUBJECT, TENANT, VAULT, ExternalIssuer, Host, Installation, publish, self_signed
from joserfc.jwk import RSAKey

from keyleaf.identity import (
    Revoked,
    add_certificate,
    add_client_secret,
    bind_process,
    create_application,
    put_federated_credential,
    revoke_sessions,
    set_enabled,
)

SCOPE = f"{VAULT}/.default"


def claims_of(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def run(credential: Any, **options: Any) -> str:
    async def ask() -> str:
        async with credential:
            return (await credential.get_token(SCOPE, **options)).token

    return asyncio.run(ask())


@pytest.fixture
def workload(
    served: Installation, issuer: ExternalIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls_host: Host
) -> Installation:
    publish(tls_host, issuer)
    with served.database.write() as conn:
        put_federated_credential(conn, served.identity.object_id, "local", issuer.issuer, SUBJECT, [AUDIENCE])
    file = tmp_path / "token"
    file.write_text(issuer.assertion(served.clock.now()) + "\n")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    monkeypatch.setenv("AZURE_CLIENT_ID", served.identity.client_id)
    return served


class TestWorkloadIdentity:
    def test_default_credential_gets_a_token_that_verifies(
        self, workload: Installation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "WorkloadIdentityCredential")
        token = azure.identity.DefaultAzureCredential().get_token(SCOPE, enable_cae=True).token
        principal = workload.verify(token)
        assert principal.object_id == workload.identity.object_id
        assert principal.application == "shop/orders"
        claims = claims_of(token)
        assert claims["xms_cc"] == ["CP1"]
        assert claims["xms_mirid"] == workload.identity.resource_id
        assert claims["aud"] == VAULT
        assert claims["ver"] == "2.0"
        assert claims["azp"] == workload.identity.client_id

    def test_without_the_capability_the_token_does_not_claim_it(self, workload: Installation) -> None:
        token = azure.identity.WorkloadIdentityCredential().get_token(SCOPE).token
        assert "xms_cc" not in claims_of(token)

    def test_async(self, workload: Installation) -> None:
        assert workload.verify(run(azure.identity.aio.WorkloadIdentityCredential())).name == "id-orders"
        assert workload.verify(run(azure.identity.aio.DefaultAzureCredential())).name == "id-orders"

    def test_revocation_and_the_answer_to_its_challenge(self, workload: Installation) -> None:
        credential = azure.identity.WorkloadIdentityCredential()
        old = credential.get_token(SCOPE, enable_cae=True).token
        with workload.database.write() as conn:
            revoke_sessions(conn, workload.identity.object_id, workload.clock.now())
        with pytest.raises(Revoked) as refused:
            workload.verify(old)
        challenge = base64.b64decode(refused.value.claims).decode()
        new = credential.get_token(SCOPE, enable_cae=True, claims=challenge).token
        assert new != old
        assert workload.verify(new).object_id == workload.identity.object_id

    def test_a_key_that_the_issuer_added_is_found(
        self, workload: Installation, issuer: ExternalIssuer, tls_host: Host, tmp_path: Path
    ) -> None:
        workload.issuer_keys._patience = 0.0
        azure.identity.WorkloadIdentityCredential().get_token(SCOPE)
        issuer.keys = {"second": RSAKey.generate_key(2048)}
        publish(tls_host, issuer)
        (tmp_path / "token").write_text(issuer.assertion(workload.clock.now(), kid="second"))
        token = azure.identity.WorkloadIdentityCredential().get_token(SCOPE).token
        assert workload.verify(token).name == "id-orders"

    def test_another_key_with_the_same_id_is_refused(
        self, workload: Installation, issuer: ExternalIssuer, tmp_path: Path
    ) -> None:
        forged = issuer.assertion(workload.clock.now(), key=RSAKey.generate_key(2048))
        (tmp_path / "token").write_text(forged)
        with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            azure.identity.WorkloadIdentityCredential().get_token(SCOPE)

    def test_the_certificate_of_the_issuer_is_verified(self, workload: Installation) -> None:
        workload.issuer_keys._ca_bundle = None
        with pytest.raises(ClientAuthenticationError, match="AADSTS501661"):
            azure.identity.WorkloadIdentityCredential().get_token(SCOPE)

    def test_a_subject_that_differs_by_case_is_refused_and_said_so(
        self, workload: Installation, issuer: ExternalIssuer, tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text(issuer.assertion(workload.clock.now(), sub=SUBJECT.upper()))
        with pytest.raises(ClientAuthenticationError, match=r"AADSTS700213.*only in upper and lower case"):
            azure.identity.WorkloadIdentityCredential().get_token(SCOPE)

    def test_disabled(self, workload: Installation) -> None:
        with workload.database.write() as conn:
            set_enabled(conn, workload.identity.object_id, False, workload.clock.now())
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000112"):
            azure.identity.WorkloadIdentityCredential().get_token(SCOPE)


class TestManagedIdentity:
    @pytest.fixture
    def bound(self, served: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
        with served.database.write() as conn:
            header = bind_process(
                conn, served.identity.object_id, "test", randomness=served.randomness, now=served.clock.now()
            )
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{served.base}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", header.reveal())
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        return served

    def test_app_service(self, bound: Installation) -> None:
        for credential in (
            azure.identity.DefaultAzureCredential(),
            azure.identity.ManagedIdentityCredential(),
            azure.identity.ManagedIdentityCredential(client_id=bound.identity.client_id),
            azure.identity.ManagedIdentityCredential(identity_config={"resource_id": bound.identity.resource_id}),
        ):
            token = credential.get_token(SCOPE).token
            assert bound.verify(token).object_id == bound.identity.object_id
            assert claims_of(token)["appid"] == bound.identity.client_id

    def test_app_service_async(self, bound: Installation, tls_host: Host) -> None:
        credential = azure.identity.aio.ManagedIdentityCredential()

        async def twice() -> tuple[str, str]:
            async with credential:
                first = (await credential.get_token(SCOPE)).token
                return first, (await credential.get_token(SCOPE)).token

        first, second = asyncio.run(twice())
        assert bound.verify(first).name == "id-orders"
        assert first == second
        assert tls_host.seen.count("/msi/token") == 1

    def test_app_service_refuses_another_identity(self, bound: Installation) -> None:
        with bound.database.write() as conn:
            other = bound.new_identity(conn, bound.identity.resource_id + "-other")
        with pytest.raises(ClientAuthenticationError, match="bound to another identity"):
            azure.identity.ManagedIdentityCredential(client_id=other.client_id).get_token(SCOPE)

    def test_app_service_refuses_an_unknown_header(self, bound: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("IDENTITY_HEADER", "guess")
        with pytest.raises(ClientAuthenticationError, match="no process is bound"):
            azure.identity.ManagedIdentityCredential().get_token(SCOPE)

    @pytest.fixture
    def imds(self, served: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", served.base)
        return served

    def test_imds(self, imds: Installation) -> None:
        for credential in (
            azure.identity.ManagedIdentityCredential(),
            azure.identity.ManagedIdentityCredential(client_id=imds.identity.client_id),
            azure.identity.ManagedIdentityCredential(identity_config={"object_id": imds.identity.object_id}),
        ):
            assert imds.verify(credential.get_token(SCOPE).token).name == "id-orders"

    def test_imds_async(self, imds: Installation) -> None:
        assert imds.verify(run(azure.identity.aio.ManagedIdentityCredential())).name == "id-orders"

    def test_imds_of_an_unknown_identity_lets_a_chain_go_on(self, imds: Installation) -> None:
        unknown = azure.identity.ManagedIdentityCredential(client_id=TENANT)
        with pytest.raises(azure.identity.CredentialUnavailableError, match="Identity not found"):
            unknown.get_token(SCOPE)

    def test_cloud_shell(self, served: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MSI_ENDPOINT", f"{served.base}/msi/token")
        token = azure.identity.ManagedIdentityCredential().get_token(SCOPE).token
        assert served.verify(token).name == "id-orders"

    def test_azure_machine_learning_dialect(self, bound: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
        import os

        monkeypatch.setenv("MSI_ENDPOINT", f"{bound.base}/msi/token")
        monkeypatch.setenv("MSI_SECRET", os.environ["IDENTITY_HEADER"])
        monkeypatch.delenv("IDENTITY_ENDPOINT")
        monkeypatch.delenv("IDENTITY_HEADER")
        assert bound.verify(run(azure.identity.aio.ManagedIdentityCredential())).name == "id-orders"


class TestApplications:
    @pytest.fixture
    def application(self, served: Installation) -> dict[str, str]:
        with served.database.write() as conn:
            row = create_application(
                conn, tenant_id=TENANT, name="legacy", randomness=served.randomness, now=served.clock.now()
            )
            _, secret = add_client_secret(
                conn, row.object_id, display_name="", randomness=served.randomness, now=served.clock.now()
            )
        return {"client_id": row.client_id, "object_id": row.object_id, "client_secret": secret.reveal()}

    def test_client_secret_sync_through_adfs(
        self, served: Installation, application: dict[str, str], monkeypatch: pytest.MonkeyPatch, tls_host: Host
    ) -> None:
        monkeypatch.setenv("AZURE_TENANT_ID", "adfs")
        monkeypatch.setenv("AZURE_CLIENT_ID", application["client_id"])
        monkeypatch.setenv("AZURE_CLIENT_SECRET", application["client_secret"])
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
        token = azure.identity.DefaultAzureCredential().get_token(SCOPE).token
        principal = served.verify(token)
        assert (principal.kind, principal.object_id) == ("application", application["object_id"])
        assert "/adfs/.well-known/openid-configuration" in tls_host.seen

    def test_client_secret_async(self, served: Installation, application: dict[str, str]) -> None:
        credential = azure.identity.aio.ClientSecretCredential(
            TENANT, application["client_id"], application["client_secret"]
        )
        assert served.verify(run(credential)).client_id == application["client_id"]

    def test_wrong_client_secret(self, application: dict[str, str]) -> None:
        credential = azure.identity.aio.ClientSecretCredential(TENANT, application["client_id"], "wrong")
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            run(credential)

    def test_discovery_with_a_guid_tenant(self, served: Installation, application: dict[str, str]) -> None:
        credential = azure.identity.ClientSecretCredential(
            TENANT, application["client_id"], application["client_secret"], disable_instance_discovery=True
        )
        assert served.verify(credential.get_token(SCOPE, enable_cae=True).token).name == "legacy"

    @pytest.mark.parametrize("tenant", [TENANT, "adfs"])
    def test_certificate(self, served: Installation, application: dict[str, str], tenant: str) -> None:
        pem, der = self_signed("legacy")
        with served.database.write() as conn:
            add_certificate(conn, application["object_id"], der, display_name="", randomness=served.randomness)
        options: dict[str, Any] = {"certificate_data": pem}
        sync = azure.identity.CertificateCredential(
            tenant, application["client_id"], disable_instance_discovery=True, **options
        )
        assert served.verify(sync.get_token(SCOPE).token).name == "legacy"
        if tenant != "adfs":
            credential = azure.identity.aio.CertificateCredential(tenant, application["client_id"], **options)
            assert served.verify(run(credential)).name == "legacy"

    def test_certificate_that_is_not_registered(self, application: dict[str, str]) -> None:
        pem, _ = self_signed("stranger")
        credential = azure.identity.aio.CertificateCredential(TENANT, application["client_id"], certificate_data=pem)
        with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
            run(credential)
