"""The errors of the data plane, with Azure's codes, inner codes, and the words that tools look for.

https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
"""

from __future__ import annotations

from keyleaf.core.errors import ServiceError


def not_found(name: str) -> ServiceError:
    """404 for a secret, or a version of it, that is not there."""
    return ServiceError(
        404,
        "SecretNotFound",
        f"A secret with (name/id) {name} was not found in this key vault. "
        "If it was deleted recently, it may still be recovered.",
    )


def deleted_not_found(name: str) -> ServiceError:
    """404 for a deleted secret that is not there."""
    return ServiceError(404, "SecretNotFound", f"Deleted Secret not found: {name}")


def deleted_but_recoverable(name: str) -> ServiceError:
    """409 for a name that a deleted secret still holds."""
    return ServiceError(
        409,
        "Conflict",
        f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; "
        "in this state, the secret can only be recovered or purged.",
        inner="ObjectIsDeletedButRecoverable",
    )


def already_exists(name: str) -> ServiceError:
    """409 for restoring over a secret that lives."""
    return ServiceError(409, "Conflict", f"A secret with the name {name} already exists in this key vault.")


def disabled() -> ServiceError:
    """403 for a version whose ``enabled`` is false."""
    return ServiceError(403, "Forbidden", "Operation get is not allowed on a disabled secret.", inner="SecretDisabled")


def bad_parameter(message: str) -> ServiceError:
    """400 for a request that breaks a rule; the message never repeats a value."""
    return ServiceError(400, "BadParameter", message)


def purge_protected(name: str) -> ServiceError:
    """403 for a purge under purge protection."""
    return ServiceError(
        403,
        "Forbidden",
        f'Operation "purge" is not allowed on {name} because purge protection is enabled for this vault. '
        "It is purged when its retention is over.",
        inner="ForbiddenByPolicy",
    )
