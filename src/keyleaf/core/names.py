"""Names as Azure limits them.

Rules: https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules and
https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
"""

from __future__ import annotations

import re

from keyleaf.core.errors import InputError

SECRET_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}\Z")
SECRET_VERSION = re.compile(r"[0-9a-f]{32}\Z")
VAULT_NAME = re.compile(r"(?=.{3,24}\Z)[A-Za-z](?:-?[A-Za-z0-9])*\Z")
IDENTITY_NAME = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_-]{2,127}\Z")
RESOURCE_GROUP_NAME = re.compile(r"[\w().-]{1,89}[\w()-]\Z|[\w()-]\Z")
GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")


def check_secret_name(name: str) -> str:
    """``name`` if Key Vault takes it as a secret's name; otherwise InputError."""
    if not SECRET_NAME.match(name):
        raise InputError(f"{name!r} is not a secret name", hint="1 to 127 letters, digits and hyphens")
    return name


def check_vault_name(name: str) -> str:
    """``name`` if Azure takes it as a vault's name; otherwise InputError."""
    if not VAULT_NAME.match(name):
        raise InputError(
            f"{name!r} is not a vault name", hint="3 to 24 letters, digits and single hyphens, starting with a letter"
        )
    return name


def is_guid(text: str) -> bool:
    """Whether ``text`` is a GUID, in either case."""
    return GUID.match(text) is not None
