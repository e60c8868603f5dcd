"""Secrets are named in three forms; whatever else is written fails in one line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.client import SecretReference, VaultAddresses, secret
from keyleaf.core.errors import InputError
from keyleaf.core.names import SECRET_NAME, VAULT_NAME

VERSION = "0123456789abcdef0123456789abcdef"
NAMES = st.from_regex(r"[0-9a-zA-Z-]{1,127}", fullmatch=True)
VAULTS = st.from_regex(r"[a-z](-?[a-z0-9]){2,11}", fullmatch=True)
VERSIONS = st.one_of(st.just(""), st.from_regex(r"[0-9a-f]{32}", fullmatch=True))


@settings(deadline=None)
@given(VAULTS, NAMES, VERSIONS)
def test_a_name_in_a_vault_stays_what_it_is(vault: str, name: str, version: str) -> None:
    reference = secret(f"{vault}/{name}", version=version, expired="use")
    assert reference == SecretReference(vault, name, version, "", "use")
    assert reference.label == f"{vault}/{name}"
    assert VaultAddresses().url(reference) == f"https://{vault}.vault.azure.net"


@settings(deadline=None)
@given(NAMES)
def test_a_name_alone_is_in_the_default_vault(name: str) -> None:
    reference = secret(name)
    assert reference == SecretReference("", name)
    assert reference.label == name
    assert VaultAddresses(default="https://there.example").url(reference) == "https://there.example"


@settings(deadline=None)
@given(VAULTS, st.sampled_from(["", ":8443"]), NAMES, VERSIONS, st.booleans())
def test_a_url_names_vault_secret_and_version(vault: str, port: str, name: str, version: str, in_path: bool) -> None:
    url = f"https://{vault}.vault.azure.net{port}"
    path = f"/secrets/{name}" + (f"/{version}" if version and in_path else "")
    reference = secret(url + path, version="" if in_path else version)
    assert reference == SecretReference(vault, name, version, url)
    assert reference.label == f"{vault}/{name}"
    assert VaultAddresses({vault: "https://elsewhere.example"}).url(reference) == url


def test_a_url_is_kept_in_one_form() -> None:
    forms = [
        "https://Payments.Vault.Azure.Net:443/secrets/key/",
        "HTTPS://payments.vault.azure.net/secrets/key",
        "https://payments.vault.azure.net//secrets/key",
    ]
    assert {secret(form).url for form in forms} == {"https://payments.vault.azure.net"}
    local = secret("https://127.0.0.1:8443/secrets/key")
    assert (local.vault, local.url, local.label) == ("", "https://127.0.0.1:8443", "127.0.0.1:8443/key")
    assert secret("https://[::1]:8443/secrets/key").url == "https://[::1]:8443"


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "/",
        "/name",
        "payments/",
        "payments//name",
        "payments/a/b",
        "na me",
        "name\n",
        "näme",
        "x" * 128,
        "ab/name",
        "1payments/name",
        "pay--ments/name",
        "http://payments.vault.azure.net/secrets/name",
        "https://payments.vault.azure.net/keys/name",
        "https://payments.vault.azure.net/secrets/",
        "https://payments.vault.azure.net/secrets/name/latest",
        f"https://payments.vault.azure.net/secrets/name/{VERSION}/more",
        f"https://payments.vault.azure.net/secrets/name/{VERSION.upper()}",
        "https://payments.vault.azure.net/secrets/name?api-version=7.4",
        "https://payments.vault.azure.net/secrets/name#top",
        "https://user@payments.vault.azure.net/secrets/name",
        "https://payments.vault.azure.net/more/secrets/name",
        "https:///secrets/name",
        "https://payments.vault.azure.net:99999/secrets/name",
        "https://[::1/secrets/name",
        "https://pay ments/secrets/name",
    ],
)
def test_what_names_no_secret_is_one_clear_line(reference: str) -> None:
    with pytest.raises(InputError) as caught:
        secret(reference)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_good_reference_or_an_input_error(text: str) -> None:
    try:
        reference = secret(text)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert SECRET_NAME.match(reference.name)
        assert not reference.vault or VAULT_NAME.match(reference.vault)


def test_what_is_no_text_or_no_policy_is_refused() -> None:
    with pytest.raises(InputError, match="string"):
        secret(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="string"):
        secret("name", version=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'block' or 'use'"):
        secret("name", expired="ignore")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="another version"):
        secret(f"https://payments.vault.azure.net/secrets/name/{VERSION}", version=VERSION[::-1])
    with pytest.raises(InputError, match="not a version"):
        secret("payments/name", version="latest")
    with pytest.raises(InputError):
        SecretReference("payments", "na me")
