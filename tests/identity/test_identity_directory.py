"""The directory: managed identities, federated credentials and their limits, bindings, the Graph subset."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from identity_support import AUDIENCE, IDENTITY_ID, SUBJECT, TENANT, Installation, self_signed

from keyleaf.core.errors import ServiceError
from keyleaf.identity import (
    ManagedIdentityError,
    bind_process,
    bound_identity,
    create_application,
    delete_federated_credential,
    delete_managed_identity,
    find_by_client_id,
    find_by_object_id,
    find_by_resource,
    get_federated_credential,
    list_federated_credentials,
    list_managed_identities,
    put_federated_credential,
    set_directory_roles,
    unbind_process,
    update_tags,
)
from keyleaf.identity.binding_routes import ACTION

ISSUER = "https://issuer.example"


class TestManagedIdentities:
    def test_found_by_each_of_its_names(self, installation: Installation) -> None:
        made = installation.identity
        with installation.database.read() as conn:
            assert find_by_resource(conn, made.resource_id.upper()) == made
            assert find_by_client_id(conn, made.client_id.upper()) == made
            assert find_by_object_id(conn, made.object_id.upper()) == made
            assert find_by_client_id(conn, made.object_id) is None

    def test_a_second_one_of_the_same_name_is_refused(self, installation: Installation) -> None:
        with installation.database.write() as conn, pytest.raises(ServiceError) as refused:
            installation.new_identity(conn, IDENTITY_ID.upper())
        assert refused.value.status == 409

    def test_deleted_and_made_again_it_is_another(self, installation: Installation) -> None:
        made = installation.identity
        with installation.database.write() as conn:
            put_federated_credential(conn, made.object_id, "local", ISSUER, SUBJECT, [AUDIENCE])
            header = bind_process(
                conn, made.object_id, "", randomness=installation.randomness, now=installation.clock.now()
            )
            assert delete_managed_identity(conn, made.object_id, installation.clock.now())
            assert not delete_managed_identity(conn, made.object_id, installation.clock.now())
            assert find_by_resource(conn, IDENTITY_ID) is None
            assert find_by_client_id(conn, made.client_id) is None
            assert bound_identity(conn, header.reveal()) is None
            assert list_federated_credentials(conn, made.object_id) == []
            again = installation.new_identity(conn, IDENTITY_ID)
        assert again.object_id != made.object_id
        kept = installation.lookup(made.object_id)
        assert kept is not None
        assert kept.deleted is not None

    def test_listed_by_scope(self, installation: Installation) -> None:
        group = IDENTITY_ID.split("/providers")[0]
        with installation.database.write() as conn:
            installation.new_identity(conn, IDENTITY_ID.replace("/keyleaf/", "/keyleaf-2/"))
            assert [r.resource_id for r in list_managed_identities(conn, group.upper())] == [IDENTITY_ID]
            assert len(list_managed_identities(conn, group.split("/resourceGroups")[0])) == 2

    def test_tags_name_the_application(self, installation: Installation) -> None:
        with installation.database.write() as conn:
            update_tags(conn, installation.identity.object_id, {"keyleaf-application": "shop/other"})
        row = installation.lookup(installation.identity.object_id)
        assert row is not None
        assert row.as_principal().application == "shop/other"

    def test_an_unknown_principal(self, installation: Installation) -> None:
        with installation.database.write() as conn, pytest.raises(ServiceError) as refused:
            update_tags(conn, TENANT, {})
        assert refused.value.status == 404


class TestFederatedCredentials:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"name": "ab"}, "'name'"),
            ({"name": "-abc"}, "'name'"),
            ({"name": "a" * 121}, "'name'"),
            ({"issuer": "http://issuer.example"}, "'issuer'"),
            ({"issuer": "https://issuer.example?a=b"}, "'issuer'"),
            ({"issuer": "https://user@issuer.example"}, "'issuer'"),
            ({"issuer": " https://issuer.example"}, "'issuer'"),
            ({"issuer": "https://"}, "'issuer'"),
            ({"issuer": "https://[x"}, "'issuer'"),
            ({"issuer": "https://a.example/" + "a" * 600}, "'issuer'"),
            ({"subject": ""}, "'subject'"),
            ({"subject": "repo:*"}, "'subject'"),
            ({"subject": "a\x00b"}, "'subject'"),
            ({"audiences": ["a\x00b"]}, "'audiences'"),
            ({"issuer": "https://a.example/\x00"}, "'issuer'"),
            ({"subject": "a" * 601}, "'subject'"),
            ({"audiences": []}, "'audiences'"),
            ({"audiences": [AUDIENCE, "other"]}, "'audiences'"),
            ({"audiences": [""]}, "'audiences'"),
        ],
    )
    def test_limits(self, installation: Installation, change: dict[str, Any], words: str) -> None:
        good: dict[str, Any] = {"name": "abc", "issuer": ISSUER, "subject": SUBJECT, "audiences": [AUDIENCE]}
        with installation.database.write() as conn, pytest.raises(ServiceError, match=words) as refused:
            put_federated_credential(conn, installation.identity.object_id, **(good | change))
        assert refused.value.status == 400

    def test_at_most_twenty(self, installation: Installation) -> None:
        object_id = installation.identity.object_id
        with installation.database.write() as conn:
            for n in range(20):
                _, made = put_federated_credential(conn, object_id, f"c{n:02}", ISSUER, f"s{n}", [AUDIENCE])
                assert made
            with pytest.raises(ServiceError, match="maximum per identity is 20"):
                put_federated_credential(conn, object_id, "c20", ISSUER, "s20", [AUDIENCE])
            # Replacing is possible at the limit.
            assert put_federated_credential(conn, object_id, "C05", ISSUER, "other", [AUDIENCE])[1] is False
            found = get_federated_credential(conn, object_id, "c05")
            assert found is not None
            assert (found.name, found.subject) == ("c05", "other")
            assert delete_federated_credential(conn, object_id, "c05")
            assert not delete_federated_credential(conn, object_id, "c05")

    def test_issuer_and_subject_are_unique_per_identity_and_case_sensitive(self, installation: Installation) -> None:
        with installation.database.write() as conn:
            other = installation.new_identity(conn, IDENTITY_ID + "-2")
            for owner in (installation.identity, other):
                put_federated_credential(conn, owner.object_id, "one", ISSUER, SUBJECT, [AUDIENCE])
            with pytest.raises(ServiceError) as refused:
                put_federated_credential(conn, other.object_id, "two", ISSUER, SUBJECT, ["other"])
            assert refused.value.status == 409
            put_federated_credential(conn, other.object_id, "two", ISSUER, SUBJECT.upper(), [AUDIENCE])


class TestBindings:
    PATH = f"{IDENTITY_ID}/bindProcess"

    def test_bound_through_arm_used_and_unbound(self, installation: Installation) -> None:
        found = installation.find("POST", self.PATH)
        assert found is not None
        operation, _ = found
        assert (operation.surface, operation.access, operation.mutates) == ("arm", "demand", True)
        reply = installation.call("POST", self.PATH, document={"label": "worker"})
        body: Any = reply.body
        headers = {"x-identity-header": body["header"]}
        query = {"api-version": "2019-08-01", "resource": "https://vault.azure.net"}
        token: Any = installation.call("GET", "/msi/token", headers=headers, query=query).body
        assert installation.verify(token["access_token"]).object_id == installation.identity.object_id
        assert set(token) == {
            "access_token",
            "client_id",
            "expires_in",
            "expires_on",
            "ext_expires_in",
            "not_before",
            "resource",
            "token_type",
        }
        assert installation.call("DELETE", self.PATH, document={"label": "other"}).status == 204
        assert installation.call("DELETE", self.PATH, document={"label": "worker"}).status == 200
        with pytest.raises(ManagedIdentityError) as refused:
            installation.call("GET", "/msi/token", headers=headers, query=query)
        assert refused.value.status == 401
        assert set(refused.value.body()) == {"statusCode", "message"}

    def test_the_demand(self, installation: Installation) -> None:
        found = installation.find("POST", self.PATH)
        assert found is not None
        operation, values = found
        assert operation.demand is not None
        from keyleaf.core.operation import Call

        call = Call("POST", None, values, {}, {}, b"", installation.base, "", 0, "id")
        with installation.database.read() as conn:
            demand = operation.demand(conn, call)
        assert (demand.action, demand.scope.path, demand.data) == (ACTION, IDENTITY_ID, False)

    def test_by_label_or_all(self, installation: Installation) -> None:
        owner = installation.identity.object_id
        with installation.database.write() as conn:
            for label in ("a", "a", "b"):
                bind_process(conn, owner, label, randomness=installation.randomness, now=0)
            assert unbind_process(conn, owner, "a") == 2
            assert unbind_process(conn, owner) == 1

    def test_imds_guards(self, installation: Installation) -> None:
        query = {"api-version": "2018-02-01", "resource": "https://vault.azure.net"}
        path = "/metadata/identity/oauth2/token"
        good = {"metadata": "true"}
        assert installation.call("GET", path, query=query, headers=good).status == 200
        for bad_query, headers in (
            (query, {}),
            (query, good | {"x-forwarded-for": "10.0.0.1"}),
            ({"api-version": "2018-02-01"}, good),
            ({"resource": "https://vault.azure.net"}, good),
            (query | {"resource": "https://other.example"}, good),
            (query | {"client_id": TENANT}, good),
            (query | {"client_id": installation.identity.client_id, "object_id": TENANT}, good),
        ):
            with pytest.raises(ManagedIdentityError) as refused:
                installation.call("GET", path, query=bad_query, headers=headers)
            assert refused.value.status == 400
            assert set(refused.value.body()) == {"error", "error_description"}
        with installation.database.write() as conn:
            installation.new_identity(conn, IDENTITY_ID + "-2")
        with pytest.raises(ManagedIdentityError, match="Multiple user assigned"):
            installation.call("GET", path, query=query, headers=good)

    def test_imds_gives_no_token_to_an_application(self, installation: Installation) -> None:
        with installation.database.write() as conn:
            row = create_application(conn, tenant_id=TENANT, name="a", randomness=installation.randomness, now=0)
        query = {"api-version": "2018-02-01", "resource": "https://vault.azure.net", "client_id": row.client_id}
        with pytest.raises(ManagedIdentityError, match="Identity not found"):
            installation.call("GET", "/metadata/identity/oauth2/token", query=query, headers={"metadata": "true"})

    def test_imds_is_closed_unless_it_is_opened(self, database: Any, clock: Any) -> None:
        closed = Installation(database, clock, "https://login.example", imds_allowed=False)
        query = {"api-version": "2018-02-01", "resource": "https://vault.azure.net"}
        for method, path in (("GET", "/metadata/identity/oauth2/token"), ("POST", "/msi/token")):
            with pytest.raises(ManagedIdentityError, match="does not offer"):
                closed.call(method, path, query=query, form=query, headers={"metadata": "true"})


class TestGraph:
    @pytest.fixture
    def administer(self, installation: Installation) -> Any:
        with installation.database.write() as conn:
            row = create_application(conn, tenant_id=TENANT, name="admin", randomness=installation.randomness, now=0)
            set_directory_roles(conn, row.object_id, ("Application Administrator",))

        def call(method: str, path: str, document: object = None, **query: str) -> Any:
            query = {f"${k}": v for k, v in query.items()}
            return installation.call(
                method, f"/v1.0/{path}", document=document, query=query, principal=row.as_principal()
            ).body

        return call

    def test_an_application_from_making_to_deleting(self, installation: Installation, administer: Any) -> None:
        made = administer("POST", "applications", {"displayName": "web"})
        assert administer("GET", f"applications/{made['id']}")["appId"] == made["appId"]
        assert administer("GET", f"applications(appId='{made['appId']}')")["id"] == made["id"]
        added = administer("POST", f"applications/{made['id']}/addPassword", {"passwordCredential": {}})
        form = {"client_id": made["appId"], "client_secret": added["secretText"]}
        assert installation.token(**form).status == 200
        shown = administer("GET", f"applications/{made['id']}")["passwordCredentials"][0]
        assert (shown["secretText"], shown["hint"]) == (None, added["secretText"][:3])
        administer("POST", f"applications/{made['id']}/removePassword", {"keyId": added["keyId"]})
        with pytest.raises(ServiceError, match="AADSTS7000215"):
            installation.token(**form)
        _, der = self_signed("web")
        key = {"key": base64.b64encode(der).decode(), "type": "AsymmetricX509Cert", "usage": "Verify"}
        administer("PATCH", f"applications/{made['id']}", {"keyCredentials": [key]})
        assert len(administer("GET", f"applications/{made['id']}")["keyCredentials"]) == 1
        administer("PATCH", f"applications/{made['id']}", {"keyCredentials": []})
        assert administer("GET", f"applications/{made['id']}")["keyCredentials"] == []
        administer("DELETE", f"applications/{made['id']}")
        with pytest.raises(ServiceError) as gone:
            administer("GET", f"applications/{made['id']}")
        assert gone.value.status == 404

    def test_federated_credentials(self, administer: Any) -> None:
        made = administer("POST", "applications", {"displayName": "web"})
        path = f"applications/{made['id']}/federatedIdentityCredentials"
        body = {"name": "ci-main", "issuer": ISSUER, "subject": SUBJECT, "audiences": [AUDIENCE]}
        credential = administer("POST", path, body)
        with pytest.raises(ServiceError) as again:
            administer("POST", path, body)
        assert again.value.status == 409
        administer("PATCH", f"{path}/{credential['id']}", {"subject": "other"})
        assert administer("GET", f"{path}/ci-main")["subject"] == "other"
        administer("DELETE", f"{path}/{credential['id']}")
        assert administer("GET", path)["value"] == []

    def test_service_principals(self, installation: Installation, administer: Any) -> None:
        own = installation.identity
        found = administer("GET", "servicePrincipals", filter=f"appId eq '{own.client_id}'")["value"]
        assert [(p["id"], p["servicePrincipalType"]) for p in found] == [(own.object_id, "ManagedIdentity")]
        administer("PATCH", f"servicePrincipals/{own.object_id}", {"accountEnabled": False})
        keyed = f"servicePrincipals(appId='{own.client_id}')"
        assert administer("GET", keyed)["accountEnabled"] is False
        administer("PATCH", keyed, {"accountEnabled": True})
        before = installation.lookup(own.object_id)
        assert before is not None
        installation.clock.advance(5)  # type: ignore[attr-defined]
        administer("POST", f"servicePrincipals/{own.object_id}/revokeSignInSessions")
        after = installation.lookup(own.object_id)
        assert after is not None
        assert after.tokens_valid_from == before.tokens_valid_from + 5

    def test_the_two_collections_are_not_mixed_up(self, installation: Installation, administer: Any) -> None:
        made = administer("POST", "applications", {"displayName": "web"})
        for path in (
            f"servicePrincipals/{made['id']}",
            f"applications/{installation.identity.object_id}",
            f"applications(appId='{installation.identity.client_id}')",
            f"groups(appId='{made['appId']}')",
        ):
            with pytest.raises(ServiceError) as refused:
                administer("GET", path)
            assert refused.value.status == 404

    def test_without_the_role_every_operation_is_refused(self, installation: Installation) -> None:
        caller = installation.identity.as_principal()
        graph = [o for _, o in installation.operations if o.surface == "graph"]
        assert len(graph) > 20
        for operation in graph:
            path = operation.pattern.replace("{", "").replace("}", "")
            with pytest.raises(ServiceError) as refused:
                installation.call(operation.method, path, principal=caller)
            assert (refused.value.status, refused.value.code) == (403, "Authorization_RequestDenied")

    @pytest.mark.parametrize(
        "body",
        [[], {"displayName": 7}, {"displayName": ""}, {"displayName": "a\x00"}, {"keyCredentials": [{"key": "!"}]}],
    )
    def test_bodies_that_are_not_taken(self, administer: Any, body: object) -> None:
        with pytest.raises(ServiceError) as refused:
            administer("POST", "applications", body)
        assert refused.value.status == 400

    def test_ids_that_no_database_could_hold(self, installation: Installation, administer: Any) -> None:
        for path in ("applications/%00", "servicePrincipals/%00", "applications(appId='%00')"):
            with pytest.raises(ServiceError) as refused:
                administer("GET", path)
            assert refused.value.status == 404
        with pytest.raises(ServiceError, match="AADSTS700016"):
            installation.token(client_id="a\x00", client_secret="x")
        with pytest.raises(ServiceError, match="AADSTS90002"):
            installation.call("POST", "/a%00/oauth2/v2.0/token", form={})
        for label in ("a\x00", "a" * 257):
            with pytest.raises(ServiceError) as refused:
                installation.call("POST", TestBindings.PATH, document={"label": label})
            assert refused.value.status == 400
