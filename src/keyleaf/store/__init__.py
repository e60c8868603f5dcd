"""Durable state: SQL schema and migrations, envelope encryption, root-key providers."""

from keyleaf.store.database import Database, Dialect, raw_connection, sqlite_url
from keyleaf.store.envelope import Keyring, SealedValue
from keyleaf.store.state import StateDirectory, StateLock, write_private

__all__ = [
    "Database",
    "Dialect",
    "Keyring",
    "SealedValue",
    "StateDirectory",
    "StateLock",
    "raw_connection",
    "sqlite_url",
    "write_private",
]
