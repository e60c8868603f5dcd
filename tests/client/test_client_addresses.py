"""Where vaults are comes from the environment; a bad variable is named."""

from __future__ import annotations

import pytest

from keyleaf.client import VaultAddresses, secret
from keyleaf.core.errors import InputError


def test_short_names_are_looked_up_without_regard_to_case() -> None:
    addresses = VaultAddresses.from_environment(
        {
            "KEYLEAF_VAULTS": " payments = https://127.0.0.1:8443/ ,, Stock=HTTPS://Stock.Example:443, ",
            "AZURE_KEYVAULT_URL": "https://127.0.0.1:9443/",
        }
    )
    assert addresses.url(secret("Payments/key")) == "https://127.0.0.1:8443"
    assert addresses.url(secret("stock/key")) == "https://stock.example"
    assert addresses.url(secret("mail/key")) == "https://mail.vault.azure.net"
    assert addresses.url(secret("key")) == "https://127.0.0.1:9443"
    assert addresses.url(secret("https://other.example/secrets/key")) == "https://other.example"


def test_without_a_default_vault_a_bare_name_says_what_to_set() -> None:
    with pytest.raises(InputError, match="AZURE_KEYVAULT_URL") as caught:
        VaultAddresses.from_environment({}).url(secret("key"))
    assert "vault/key" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KEYLEAF_VAULTS", "payments"),
        ("KEYLEAF_VAULTS", "payments="),
        ("KEYLEAF_VAULTS", "=https://a.example"),
        ("KEYLEAF_VAULTS", "a b=https://a.example"),
        ("KEYLEAF_VAULTS", "payments=http://a.example"),
        ("KEYLEAF_VAULTS", "payments=https://a.example/path"),
        ("KEYLEAF_VAULTS", "payments=https://a.example,PAYMENTS=https://b.example"),
        ("AZURE_KEYVAULT_URL", "payments"),
        ("AZURE_KEYVAULT_URL", "https://"),
        ("AZURE_KEYVAULT_URL", "https://a.example?x=1"),
        ("AZURE_KEYVAULT_URL", "https://name:password@a.example"),
    ],
)
def test_a_bad_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(InputError, match=variable) as caught:
        VaultAddresses.from_environment({variable: text})
    assert "\n" not in str(caught.value)
    assert caught.value.hint
