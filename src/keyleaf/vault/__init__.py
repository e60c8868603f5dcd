"""The Key Vault data plane: vaults, secrets, their versions, deletion, backup."""

from keyleaf.vault.deletion import purge_due
from keyleaf.vault.policy import VaultPolicy, check_times
from keyleaf.vault.reader import StoredSecret, attributes, bundle, load_secret
from keyleaf.vault.routes import GET, operations, secret_demand, vault_of
from keyleaf.vault.vaults import (
    VaultRow,
    create_vault,
    find_vault,
    find_vault_by_resource,
    list_vaults,
    purge_vault,
    recover_vault,
    soft_delete_vault,
    update_vault,
)

__all__ = [
    "GET",
    "StoredSecret",
    "VaultPolicy",
    "VaultRow",
    "attributes",
    "bundle",
    "check_times",
    "create_vault",
    "find_vault",
    "find_vault_by_resource",
    "list_vaults",
    "load_secret",
    "operations",
    "purge_due",
    "purge_vault",
    "recover_vault",
    "secret_demand",
    "soft_delete_vault",
    "update_vault",
    "vault_of",
]
