"""The token service: tenants, managed identities, app registrations, federation, OIDC discovery and keys."""
