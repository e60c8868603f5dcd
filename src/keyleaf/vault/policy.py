"""keyleaf's stricter rules for a vault. All are off unless asked for: then the vault behaves as Azure's does.

Azure serves a secret past its ``exp`` and before its ``nbf``, and takes any string as a value:
https://learn.microsoft.com/azure/key-vault/secrets/about-secrets
"""

from __future__ import annotations

import re

import msgspec

from keyleaf.core.errors import ServiceError

_PLACEHOLDER = re.compile(
    r"""
    \s*\Z                                   # nothing, or only white space
    | \ufeff                                # a byte order mark in front
    | @Microsoft\.KeyVault\(                # an App Service reference that was never resolved
    | \$\{[^}]*\}\Z | \$\([^)]*\)\Z | \{\{.*\}\}\Z | <[^<>]*>\Z | %[A-Za-z_]+%\Z
    | (?:change[-_ ]?me|replace[-_ ]?me|placeholder|todo|tbd|dummy|null|none|undefined|x{3,})\Z
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)


class VaultPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a vault refuses beyond Azure.

    Attributes:
        refuse_expired: a get of an expired or not yet valid version answers 403.
        refuse_placeholders: a set of an empty, blank or placeholder value answers 400.
    """

    refuse_expired: bool = False
    refuse_placeholders: bool = False


def check_value(policy: VaultPolicy, value: str) -> None:
    """Refuse a value that is no secret, if the policy says so.

    Raises:
        ServiceError: 400 BadParameter, inner code KeyleafPlaceholderValue; the value is not repeated.
    """
    if not policy.refuse_placeholders:
        return
    reason = ""
    if "\x00" in value:
        reason = "it holds a NUL character"
    elif value != value.rstrip("\r\n"):
        reason = "it ends with a line break"
    elif _PLACEHOLDER.match(value):
        reason = "it is empty, blank or a placeholder"
    if reason:
        raise ServiceError(
            400,
            "BadParameter",
            f"This vault refuses the value: {reason}. Set the real value, or take the tag "
            "keyleaf-policy-refuse-placeholders off the vault.",
            inner="KeyleafPlaceholderValue",
        )


def check_times(policy: VaultPolicy, nbf: int | None, exp: int | None, now: float) -> None:
    """Refuse to serve a version outside its time, if the policy says so.

    Raises:
        ServiceError: 403 Forbidden, inner code KeyleafSecretExpired or KeyleafSecretNotYetValid.
    """
    if not policy.refuse_expired:
        return
    if exp is not None and now >= exp:
        raise ServiceError(
            403, "Forbidden", "This vault does not serve a secret after its expiry.", inner="KeyleafSecretExpired"
        )
    if nbf is not None and now < nbf:
        raise ServiceError(
            403, "Forbidden", "This vault does not serve a secret before its time.", inner="KeyleafSecretNotYetValid"
        )
