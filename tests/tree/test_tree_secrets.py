"""Who needs which secret: every form in which it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tree_samples import access, application

from keyleaf.tree import MemoryFiles, Tools, read_tree
from keyleaf.tree.model import AppTree, Unknown
from keyleaf.tree.placeholders import known, vault_of_url
from keyleaf.tree.secrets_external import duration


def read(text: str, **more: str) -> AppTree:
    files = {"root.yaml": application("app", "x"), "x/all.yaml": text, **more}
    return read_tree(MemoryFiles(files), tools=Tools(path=""))


def store(
    kind: str = "SecretStore", name: str = "store", version: str = "v1", azure: str = "", namespace: str = ""
) -> str:
    place = f"  namespace: {namespace}\n" if namespace else ""
    body = azure or "      authType: WorkloadIdentity\n      vaultUrl: https://kv-shop.vault.azure.net/\n"
    return (
        f"apiVersion: external-secrets.io/{version}\nkind: {kind}\nmetadata:\n  name: {name}\n{place}"
        f"spec:\n  provider:\n    azurekv:\n{body}---\n"
    )


def external(body: str, version: str = "v1", kind: str = "SecretStore") -> str:
    return (
        f"apiVersion: external-secrets.io/{version}\nkind: ExternalSecret\nmetadata:\n  name: db\nspec:\n"
        f"  refreshInterval: 1h30m\n  secretStoreRef: {{kind: {kind}, name: store}}\n"
        f"  target: {{name: db-secret}}\n{body}"
    )


def line_of(text: str, part: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if part in line)


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1", "v1"])
def test_external_secrets_in_every_version(version: str) -> None:
    text = store(version=version) + external(
        "  data:\n    - secretKey: password\n      remoteRef:\n        key: secret/db-password\n        version: abc\n"
        "        property: inner\n        decodingStrategy: Base64\n",
        version,
    )
    need = read(text).needs[0]
    assert (need.vault, need.secret, need.object_type, need.version) == ("kv-shop", "db-password", "secret", "abc")
    delivery = need.delivery
    assert (delivery.form, delivery.target, delivery.key) == ("kubernetes-secret", "db-secret", "password")
    assert (delivery.property, delivery.encoding, delivery.refresh_seconds) == ("inner", "base64", 5400)
    assert (need.declared_by, need.auth, need.namespace) == ("ExternalSecret/db", "workload-identity", "shop")
    assert need.where.line == line_of(text, "secret/db-password")


@pytest.mark.parametrize(
    ("key", "kind"), [("cert/tls", "cert"), ("key/tls", "key"), ("tls", "secret"), ("secret/tls", "secret")]
)
def test_prefixes_say_what_kind_it_is(key: str, kind: str) -> None:
    need = read(store() + external(f"  data: [{{secretKey: a, remoteRef: {{key: {key}}}}}]\n")).needs[0]
    assert (need.secret, need.object_type) == ("tls", kind)


def test_data_from() -> None:
    text = store() + external(
        "  dataFrom:\n    - extract: {key: whole}\n    - find: {name: {regexp: '^app-.*'}}\n    - key: old-style\n"
        "    - sourceRef: {generatorRef: {kind: Password, name: x}}\n"
    )
    tree = read(text)
    assert [need.secret for need in tree.needs if isinstance(need.secret, str)] == ["whole", "old-style"]
    search = next(need.secret for need in tree.needs if isinstance(need.secret, Unknown))
    assert (search.kind, search.text) == ("dynamic", "^app-.*")
    assert all(need.delivery.key == "" for need in tree.needs)


@pytest.mark.parametrize(
    ("body", "auth", "account", "client"),
    [
        ("      vaultUrl: https://kv-a.vault.azure.net\n", "service-principal", "", ""),
        (
            "      authType: ServicePrincipal\n      vaultUrl: https://kv-a.vault.azure.net\n",
            "service-principal",
            "",
            "",
        ),
        (
            "      authType: ManagedIdentity\n      identityId: abc\n      vaultUrl: https://kv-a.vault.azure.net\n",
            "managed-identity",
            "",
            "abc",
        ),
        (
            "      authType: WorkloadIdentity\n      vaultUrl: https://kv-a.vault.azure.net\n"
            "      serviceAccountRef: {name: reader}\n",
            "workload-identity",
            "reader",
            "",
        ),
        ("      authType: New\n      vaultUrl: https://kv-a.vault.azure.net\n", "unknown", "", ""),
    ],
)
def test_how_stores_sign_in(body: str, auth: str, account: str, client: str) -> None:
    need = read(store(azure=body) + external("  dataFrom: [{extract: {key: a}}]\n")).needs[0]
    assert (need.vault, need.auth, need.service_account, need.client_id) == ("kv-a", auth, account, client)


def test_an_account_in_another_namespace_is_shared() -> None:
    body = (
        "      authType: WorkloadIdentity\n      vaultUrl: https://kv-a.vault.azure.net\n"
        "      serviceAccountRef: {name: eso, namespace: external-secrets}\n"
    )
    text = store("ClusterSecretStore", azure=body) + external(
        "  dataFrom: [{extract: {key: a}}]\n", kind="ClusterSecretStore"
    )
    need = read(text).needs[0]
    assert (need.service_account, need.shared_service_account) == ("", "external-secrets/eso")


def test_a_missing_store_is_told_and_its_vault_not_guessed() -> None:
    text = external("  data:\n    - {secretKey: a, remoteRef: {key: x}}\n    - {secretKey: b, remoteRef: {key: y}}\n")
    tree = read(text)
    assert [need.secret for need in tree.needs] == ["x", "y"]
    assert all(isinstance(need.vault, Unknown) and need.vault.kind == "remote" for need in tree.needs)
    assert [(one.code, one.where and one.where.line) for one in tree.findings] == [("store-missing", 7)]


def test_a_store_of_another_namespace_is_an_error() -> None:
    tree = read(store(namespace="elsewhere") + external("  dataFrom: [{extract: {key: a}}]\n"))
    assert [one.code for one in tree.findings] == ["store-in-other-namespace"]


def test_stores_of_other_clouds_are_none_of_ours() -> None:
    text = store().replace("azurekv", "vault") + external("  dataFrom: [{extract: {key: a}}]\n")
    tree = read(text)
    assert not tree.needs and not tree.findings


def test_the_nearest_of_several_stores_counts() -> None:
    def cluster(vault: str) -> str:
        return store("ClusterSecretStore", azure=f"      vaultUrl: https://{vault}.vault.azure.net\n")

    wanted = external("  dataFrom: [{extract: {key: a}}]\n", kind="ClusterSecretStore")
    files = {
        "dev.yaml": application("dev", "dev", namespace="dev"),
        "prod.yaml": application("prod", "prod", namespace="prod"),
        "dev/s.yaml": cluster("kv-dev"),
        "dev/e.yaml": wanted,
        "prod/s.yaml": cluster("kv-prod"),
        "prod/e.yaml": wanted,
    }
    tree = read_tree(MemoryFiles(files), tools=Tools(path=""))
    assert {need.application: need.vault for need in tree.needs} == {"dev": "kv-dev", "prod": "kv-prod"}
    files["third.yaml"] = application("third", "third")
    files["third/e.yaml"] = wanted
    tree = read_tree(MemoryFiles(files), tools=Tools(path=""))
    third = next(need for need in tree.needs if need.application == "third")
    assert isinstance(third.vault, Unknown)
    assert "store-ambiguous" in [one.code for one in tree.findings]


def test_cluster_external_secrets() -> None:
    text = store("ClusterSecretStore") + (
        "apiVersion: external-secrets.io/v1\nkind: ClusterExternalSecret\nmetadata: {name: all}\nspec:\n"
        "  externalSecretName: copy\n  namespaces: [one, two]\n  externalSecretSpec:\n"
        "    secretStoreRef: {kind: ClusterSecretStore, name: store}\n"
        "    data: [{secretKey: k, remoteRef: {key: a}}]\n"
    )
    tree = read(text)
    assert [(need.namespace, need.delivery.target) for need in tree.needs] == [("one", "copy"), ("two", "copy")]
    labelled = read(text.replace("  namespaces: [one, two]\n", "  namespaceSelectors: [{matchLabels: {a: b}}]\n"))
    assert [one.code for one in labelled.findings] == ["namespaces-dynamic"]
    assert len(labelled.needs) == 1


def test_pushing_is_told() -> None:
    tree = read("apiVersion: external-secrets.io/v1alpha1\nkind: PushSecret\nmetadata: {name: p}\nspec: {}\n")
    assert [one.code for one in tree.findings] == ["push-secret-not-granted"]
    assert not tree.needs


PROVIDER = """apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: spc
spec:
  provider: azure
  secretObjects:
    - secretName: copied
      type: Opaque
      data:
        - objectName: renamed
          key: url
  parameters:
    clientID: 11111111-2222-3333-4444-555555555555
    keyvaultName: kv-shop
    objects: |
      array:
        - |
          objectName: plain
          objectType: secret
        - |
          objectType: secret
          objectName: database
          objectAlias: renamed
          objectVersion: "012345678901234567890123456789e1"
          objectEncoding: base64
        - |
          objectName: tls
          objectType: cert
"""


def pod(name: str, account: str, kind: str = "Deployment", reference: str = "") -> str:
    template = (
        f"spec: {{serviceAccountName: {account}, volumes: [{{name: v, csi: {{driver: secrets-store.csi.k8s.io, "
        f"{reference}volumeAttributes: {{secretProviderClass: spc}}}}}}]}}"
    )
    return f"---\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{template: {{{template}}}}}\n"


def test_provider_classes() -> None:
    tree = read(PROVIDER + pod("web", "web"))
    assert [(n.secret, n.object_type, n.delivery.form, n.delivery.target, n.delivery.key) for n in tree.needs] == [
        ("plain", "secret", "file", "spc", "plain"),
        ("database", "secret", "file", "spc", "renamed"),
        ("database", "secret", "kubernetes-secret", "copied", "url"),
        ("tls", "cert", "file", "spc", "tls"),
    ]
    assert {need.service_account for need in tree.needs} == {"web"}
    assert {need.client_id for need in tree.needs} == {"11111111-2222-3333-4444-555555555555"}
    assert tree.needs[1].version == "012345678901234567890123456789e1"
    assert tree.needs[1].delivery.encoding == "base64"
    assert [need.where.line for need in tree.needs] == [
        line_of(PROVIDER, "objectName: plain"),
        line_of(PROVIDER, "objectName: database"),
        line_of(PROVIDER, "objectName: database"),
        line_of(PROVIDER, "objectName: tls"),
    ]


def test_each_account_that_mounts_a_class_needs_it() -> None:
    tree = read(PROVIDER + pod("web", "web") + pod("again", "web") + pod("job", "batch", "Job"))
    assert [(need.secret, need.service_account) for need in tree.needs if need.secret == "tls"] == [
        ("tls", "web"),
        ("tls", "batch"),
    ]


@pytest.mark.parametrize(
    ("instead", "auth"),
    [
        ("useVMManagedIdentity: 'true'", "managed-identity"),
        ("usePodIdentity: 'true'", "unknown"),
        ("tenantId: x", "workload-identity"),
        ("clientID: ${ID}", "workload-identity"),
    ],
)
def test_how_classes_sign_in(instead: str, auth: str) -> None:
    text = PROVIDER.replace("clientID: 11111111-2222-3333-4444-555555555555", instead)
    assert {need.auth for need in read(text + pod("web", "web")).needs} == {auth}


def test_a_class_with_a_node_publish_secret_signs_in_by_it() -> None:
    text = PROVIDER.replace("    clientID: 11111111-2222-3333-4444-555555555555\n", "")
    tree = read(text + pod("web", "web", reference="nodePublishSecretRef: {name: creds}, "))
    assert {need.auth for need in tree.needs} == {"service-principal"}


@pytest.mark.parametrize(
    ("objects", "line"),
    [
        ("objects: |\n      array:\n        - |\n          objectType: secret\n", 9),
        ("objects: |\n      nothing: 1\n", 8),
        ("objects: |\n      array: [\n", 8),
        ("objects: |\n      array:\n        - |\n          objectName: [\n", 10),
        ("objects: [a]\n", 7),
        ("cloudName: x\n", 7),
    ],
)
def test_broken_objects_are_told_by_line(objects: str, line: int) -> None:
    text = (
        "apiVersion: secrets-store.csi.x-k8s.io/v1\nkind: SecretProviderClass\nmetadata: {name: spc}\nspec:\n"
        f"  provider: azure\n  parameters:\n    {objects}"
    )
    tree = read(text)
    assert not tree.needs
    assert [one.code for one in tree.findings] == ["provider-class-invalid"]
    where = tree.findings[0].where
    assert where is not None and abs(where.line - line) <= 1


def test_classes_of_other_clouds_are_none_of_ours() -> None:
    tree = read(PROVIDER.replace("provider: azure", "provider: aws"))
    assert not tree.needs and not tree.findings


def test_secret_access() -> None:
    text = access("pay", "db-password", "{name: api-key, version: 0123456789abcdef0123456789abcdef, purpose: calls}")
    text = text.replace("  vault:", "  purpose: payments\n  vault:")
    tree = read(text)
    assert not tree.findings
    first, second = tree.needs
    assert (first.vault, first.secret, first.service_account, first.purpose) == (
        "kv-shop",
        "db-password",
        "pay",
        "payments",
    )
    assert (second.secret, second.version, second.purpose) == ("api-key", "0123456789abcdef0123456789abcdef", "calls")
    assert (first.delivery.form, first.declared_by) == ("sdk", "SecretAccess/pay")
    assert [need.where.line for need in tree.needs] == [line_of(text, "db-password"), line_of(text, "api-key")]
    assert [(one.name, one.namespace, one.implicit) for one in tree.service_accounts] == [("pay", "shop", True)]


def test_secret_access_by_address() -> None:
    text = access("pay", "a").replace("vault: kv-shop", "vaultUrl: https://kv-x.vault.usgovcloudapi.net/")
    assert read(text).needs[0].vault == "kv-x"


@pytest.mark.parametrize(
    ("change", "message", "line"),
    [
        (("- a", "- a_b"), "'a_b' is not a secret name", 9),
        (("- a", "- {version: x}"), "name is missing", 9),
        (("- a", "- {name: a, version: 7f}"), "'7f' is not a version", 9),
        (("- a", "- {name: a, extra: 1}"), "has no field 'extra'", 9),
        (("- a", "- [a]"), "neither a name nor a mapping", 9),
        (("- a", "- 12"), "neither a name nor a mapping", 9),
        (("vault: kv-shop", "vault: x"), "'x' is not a vault name", 7),
        (("vault: kv-shop", "valt: kv-shop"), "has no field 'valt'", 7),
        (("  vault: kv-shop\n", ""), "spec.vault is missing", 6),
        (("vault: kv-shop", "vault: kv-shop\n  vaultUrl: https://kv-shop.vault.azure.net"), "both", 8),
        (("    - a\n", ""), "at least one secret", 8),
        (("serviceAccountName: pay", "serviceAccountName: 12"), "must be text", 6),
    ],
)
def test_what_is_wrong_in_secret_access_is_told_by_line(change: tuple[str, str], message: str, line: int) -> None:
    tree = read(access("pay", "a").replace(*change))
    found = [one for one in tree.findings if message in one.message]
    assert found, [one.message for one in tree.findings]
    assert found[0].code == "keyleaf-resource-invalid"
    assert str(found[0].where) == f"x/all.yaml:{line}"
    assert found[0].owner == "app"


def seed(secrets: str) -> str:
    return (
        f"apiVersion: keyleaf.dev/v1alpha1\nkind: SecretSeed\nmetadata: {{name: s}}\nspec:\n"
        f"  vault: kv-shop\n  secrets:\n{secrets}"
    )


def test_secret_seeds() -> None:
    tree = read(
        seed(
            "    - {name: db, template: 'Server=db;Password={random}', generate: 32, contentType: text/plain}\n"
            "    - name: key\n"
        )
    )
    assert [(one.vault, one.secret, one.template, one.generate, one.content_type) for one in tree.seeds] == [
        ("kv-shop", "db", "Server=db;Password={random}", 32, "text/plain"),
        ("kv-shop", "key", "{random}", 24, ""),
    ]
    assert [one.where.line for one in tree.seeds] == [7, 8]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{name: a, template: fixed}", "no {random}"),
        ("{name: a, generate: 4}", "from 8 to 1024"),
        ("{name: a, generate: yes}", "from 8 to 1024"),
        ("{name: '${X}'}", "plain names"),
        ("{nam: a}", "no field 'nam'"),
    ],
)
def test_what_is_wrong_in_a_seed(entry: str, message: str) -> None:
    tree = read(seed(f"    - {entry}\n"))
    assert not tree.seeds
    assert any(message in one.message for one in tree.findings)


def test_service_accounts_and_pods() -> None:
    text = (
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: web\n  annotations:\n"
        "    azure.workload.identity/client-id: 11111111-2222-3333-4444-555555555555\n"
        "    azure.workload.identity/tenant-id: ${TENANT}\n" + pod("web", "web") + pod("job", "other", "Job")
    )
    web, other = read(text).service_accounts
    assert (web.name, web.client_id, web.implicit) == ("web", "11111111-2222-3333-4444-555555555555", False)
    assert isinstance(web.tenant_id, Unknown)
    assert (other.name, other.implicit) == ("other", True)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://kv-a.vault.azure.net", "kv-a"),
        ("https://kv-a.vault.azure.cn/", "kv-a"),
        ("kv-a.vault.azure.net", "kv-a"),
        ("https://kv-a.vault.usgovcloudapi.net:443/secrets", "kv-a"),
        ("https://kv-a.vault.microsoftazure.de", "kv-a"),
        ("https://kv-a.vault.keyleaf.internal:8443", "kv-a"),
    ],
)
def test_vaults_of_addresses(url: str, name: str) -> None:
    assert vault_of_url(url) == name


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:8443",
        "https://localhost",
        "https://hsm.managedhsm.azure.net",
        "",
        "https://${VAULT}.vault.azure.net",
        "https://<your-vault>.vault.azure.net",
        "https://{{ .Values.vault }}.vault.azure.net",
        "https://a_b.vault.azure.net",
        "https://[",
        "https://your-vault.vault.azure.net",
    ],
)
def test_addresses_that_name_no_vault(url: str) -> None:
    found = vault_of_url(url)
    assert isinstance(found, Unknown) and found.kind == "unresolved"


@pytest.mark.parametrize(
    "text",
    [
        "${X}",
        "$(X)",
        "$VAULT_NAME",
        "{{ x }}",
        "<name>",
        "PLACEHOLDER",
        "changeme",
        "change-me",
        "REPLACE_ME",
        "__NAME__",
        "kv-${ENV}",
        "REPLACE-WITH-YOUR-NAME",
        "xxxx",
        "your-vault",
        "@name@",
        "TODO",
    ],
)
def test_placeholders(text: str) -> None:
    assert isinstance(known(text), Unknown)


@pytest.mark.parametrize(
    "text",
    [
        "kv-shop",
        "todos-api",
        "exchange-metrics",
        "db-password",
        "api.key/x",
        "money-$",
        "xx",
        "a@b.c",
        "placeholders-not",
    ],
)
def test_plain_names_are_known(text: str) -> None:
    assert known(text) == text


@given(st.text(max_size=60))
def test_any_text_is_known_or_not(text: str) -> None:
    known(text)
    vault_of_url(text)
    duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("1h0m0s", 3600), ("0", 0), ("15s", 15), ("1.5m", 90), ("", None), ("soon", None), (None, None)],
)
def test_durations(text: str | None, seconds: int | None) -> None:
    assert duration(text) == seconds
