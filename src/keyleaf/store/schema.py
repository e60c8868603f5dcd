"""Every table of the embedded Azure, in one place.

ARM ids and scopes are stored in lower case where they are looked up (``*_key``) and as written beside it. Times are
integer seconds since 1970 UTC. JSON columns hold text that the owning room encodes with msgspec. The ledger keeps
tables of its own (``keyleaf.ledger``): nothing here may join them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# What the installation itself is: schema owner, epoch, wrapped root check value, settings.
meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

# --- directory (room: identity) ---------------------------------------------------------------------------------
tenant = Table(
    "tenant",
    metadata,
    Column("id", String, primary_key=True),  # GUID, lower case
    Column("name", String, nullable=False),
)

# Managed identities and the service principals of app registrations.
principal = Table(
    "principal",
    metadata,
    Column("object_id", String, primary_key=True),
    Column("tenant_id", String, ForeignKey("tenant.id"), nullable=False),
    Column("kind", String, nullable=False),  # managed_identity | application
    Column("client_id", String, nullable=False, unique=True),
    Column("app_object_id", String, unique=True),  # of the app registration; null for managed identities
    Column("name", String, nullable=False),
    Column("resource_id", String),  # ARM id as written; null for applications
    Column("resource_key", String, unique=True),
    Column("location", String, nullable=False, default=""),
    Column("tags", Text, nullable=False, default="{}"),
    Column("directory_roles", Text, nullable=False, default="[]"),  # for Graph: JSON list of role names
    Column("enabled", Boolean, nullable=False, default=True),
    Column("tokens_valid_from", BigInteger, nullable=False, default=0),  # older tokens are revoked
    Column("created", BigInteger, nullable=False),
    Column("deleted", BigInteger),  # null while it lives
)

app_credential = Table(
    "app_credential",
    metadata,
    Column("id", String, primary_key=True),  # keyId
    Column("object_id", String, ForeignKey("principal.object_id", ondelete="CASCADE"), nullable=False),
    Column("kind", String, nullable=False),  # password | certificate
    Column("display_name", String, nullable=False, default=""),
    Column("hint", String, nullable=False, default=""),
    Column("digest", LargeBinary),  # salted scrypt digest of a password
    Column("certificate", LargeBinary),  # DER
    Column("starts", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
)

federated_credential = Table(
    "federated_credential",
    metadata,
    Column("id", String, primary_key=True),
    Column("object_id", String, ForeignKey("principal.object_id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("issuer", String, nullable=False),
    Column("subject", String, nullable=False),
    Column("audiences", Text, nullable=False),  # JSON list
    UniqueConstraint("object_id", "name"),
    UniqueConstraint("object_id", "issuer", "subject"),
)

signing_key = Table(
    "signing_key",
    metadata,
    Column("kid", String, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # PKCS#8 under the root key
    Column("public", Text, nullable=False),  # JWK, JSON
    Column("created", BigInteger, nullable=False),
    Column("signs_until", BigInteger, nullable=False),
    Column("published_until", BigInteger, nullable=False),
)

# One row per process that was handed an App Service style header: header -> identity.
process_binding = Table(
    "process_binding",
    metadata,
    Column("digest", LargeBinary, primary_key=True),  # SHA-256 of the header
    Column("object_id", String, ForeignKey("principal.object_id", ondelete="CASCADE"), nullable=False),
    Column("label", String, nullable=False, default=""),
    Column("created", BigInteger, nullable=False),
)

# --- resource hierarchy and RBAC (room: resources) --------------------------------------------------------------
management_group = Table(
    "management_group",
    metadata,
    Column("name", String, primary_key=True),
    Column("parent", String),  # null: directly below the tenant root
)

subscription = Table(
    "subscription",
    metadata,
    Column("id", String, primary_key=True),  # GUID, lower case
    Column("tenant_id", String, ForeignKey("tenant.id"), nullable=False),
    Column("management_group", String),
    Column("name", String, nullable=False, default=""),
)

resource_group = Table(
    "resource_group",
    metadata,
    Column("key", String, primary_key=True),  # ARM id, lower case
    Column("subscription", String, ForeignKey("subscription.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("location", String, nullable=False),
    Column("tags", Text, nullable=False, default="{}"),
)

role_definition = Table(
    "role_definition",
    metadata,
    Column("id", String, primary_key=True),  # GUID, lower case
    Column("name", String, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("permissions", Text, nullable=False),  # JSON, ARM shape
    Column("assignable_scopes", Text, nullable=False),  # JSON list
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
)  # custom roles only: the built-in ones live in keyleaf.access

role_assignment = Table(
    "role_assignment",
    metadata,
    Column("key", String, primary_key=True),  # full ARM id, lower case
    Column("id", String, nullable=False),  # GUID as written
    Column("scope", String, nullable=False),  # as written
    Column("scope_key", String, nullable=False, index=True),
    Column("principal_id", String, nullable=False, index=True),  # lower case
    Column("principal_type", String, nullable=False, default="ServicePrincipal"),
    Column("role_definition_id", String, nullable=False),  # GUID, lower case
    Column("condition", Text),
    Column("condition_version", String),
    Column("description", Text),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("created_by", String, nullable=False, default=""),
    UniqueConstraint("scope_key", "principal_id", "role_definition_id"),
)

# --- vaults and secrets (room: vault; the ARM face of a vault is in resources) ----------------------------------
vault = Table(
    "vault",
    metadata,
    Column("name_key", String, primary_key=True),  # lower case: vault names are global
    Column("name", String, nullable=False),
    Column("resource_id", String, nullable=False),
    Column("resource_key", String, nullable=False, unique=True),
    Column("tenant_id", String, ForeignKey("tenant.id"), nullable=False),
    Column("location", String, nullable=False),
    Column("sku", String, nullable=False, default="standard"),
    Column("rbac", Boolean, nullable=False, default=True),  # enableRbacAuthorization
    Column("access_policies", Text, nullable=False, default="[]"),  # JSON, ARM shape; used when rbac is false
    Column("retention_days", Integer, nullable=False, default=90),
    Column("purge_protection", Boolean, nullable=False, default=False),
    Column("tags", Text, nullable=False, default="{}"),
    Column("policy", Text, nullable=False, default="{}"),  # keyleaf's stricter rules, JSON; {} is Azure's behaviour
    Column("wrapped_key", LargeBinary, nullable=False),  # the vault's key under the root key
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("deleted", BigInteger),  # soft-deleted at
    Column("purge_at", BigInteger),
)

secret = Table(
    "secret",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("vault_key", String, ForeignKey("vault.name_key", ondelete="CASCADE"), nullable=False),
    Column("name_key", String, nullable=False),  # lower case: names are case-insensitive
    Column("name", String, nullable=False),  # as first set
    Column("deleted", BigInteger),
    Column("purge_at", BigInteger),
    UniqueConstraint("vault_key", "name_key"),
)

secret_version = Table(
    "secret_version",
    metadata,
    Column("secret_id", Integer, ForeignKey("secret.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),  # 1, 2, 3 …: the highest is the latest
    Column("version", String, nullable=False),  # 32 hex digits
    Column("content_type", Text),
    Column("tags", Text, nullable=False, default="{}"),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("nbf", BigInteger),
    Column("exp", BigInteger),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),  # the version's data key under the vault's key
    Column("sealed", LargeBinary, nullable=False),  # nonce + AES-256-GCM ciphertext
    UniqueConstraint("secret_id", "version"),
)
Index("secret_by_vault", secret.c.vault_key, secret.c.deleted, secret.c.name_key)
