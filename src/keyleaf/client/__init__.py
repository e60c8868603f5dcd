"""What a user's app imports: secrets named, read just in time, and never kept."""

from keyleaf.client.addresses import VaultAddresses
from keyleaf.client.callers import ACTIVITY_HEADER, REQUEST_ID_HEADER, Caller
from keyleaf.client.reader import Expectation, ReaderSettings, SecretReader
from keyleaf.client.reading import Reading
from keyleaf.client.reference import SecretReference, secret
from keyleaf.client.unavailable import SecretUnavailable
from keyleaf.client.vault import AzureVaultConnection, VaultAnswer, VaultConnection

__all__ = [
    "ACTIVITY_HEADER",
    "AzureVaultConnection",
    "Caller",
    "Expectation",
    "REQUEST_ID_HEADER",
    "Reading",
    "ReaderSettings",
    "SecretReader",
    "SecretReference",
    "SecretUnavailable",
    "VaultAddresses",
    "VaultAnswer",
    "VaultConnection",
    "secret",
]
