"""The Key Vault data plane."""
