"""What the routes of this room are built on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keyleaf.core.clock import Randomness
from keyleaf.identity.issuer_keys import IssuerKeys
from keyleaf.identity.signing_keys import SigningKeys


@dataclass(frozen=True, slots=True)
class IdentityService:
    """The token service and directory of one installation.

    Attributes:
        default_tenant: the tenant that ``adfs`` and ``common`` stand for.
        authority: scheme and authority that issuers are named by, without a trailing slash. It is part of every token,
            so all processes on one database, and their verifiers, must be given the same.
        is_resource: whether tokens may be asked for this audience.
        imds_allowed: whether the IMDS and Cloud Shell dialects answer; anybody on the host may call them.
    """

    default_tenant: str
    authority: str
    signing_keys: SigningKeys
    issuer_keys: IssuerKeys
    randomness: Randomness
    is_resource: Callable[[str], bool]
    imds_allowed: bool = False
