"""Where children run: local processes, each with an identity of its own."""

from keyleaf.runtime.issuer import AUDIENCE, LIFETIME, ServiceAccountIssuer

__all__ = ["AUDIENCE", "LIFETIME", "ServiceAccountIssuer"]
