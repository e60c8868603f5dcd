"""What a fetch gives, and what a vault's answer means for it."""

from __future__ import annotations

from dataclasses import dataclass

from keyleaf.client.reference import SecretReference
from keyleaf.client.unavailable import Reason
from keyleaf.client.vault import VaultAnswer
from keyleaf.core.secret import Secret

_REASONS_OF_INNER_CODES: dict[str, Reason] = {
    "SecretDisabled": "disabled",
    # A keyleaf vault may be told to refuse these; Azure serves them and leaves the rule to its clients.
    "KeyleafSecretExpired": "expired",
    "KeyleafSecretNotYetValid": "not yet valid",
}


@dataclass(frozen=True)
class Reading:
    """A secret as a vault had it when this fetch was under way.

    Attributes:
        secret: the value.
        version: the version that was served.
        request_id: ``x-ms-client-request-id`` of the request; Azure's audit log calls it the correlation id.
        expires_on: expiry time of the version, seconds since 1970-01-01 UTC; None if it has none.
        enabled: as the vault says; a disabled version is not served.
        shared: how many fetches the request served, this one included.
    """

    secret: Secret
    reference: SecretReference
    version: str
    request_id: str
    expires_on: float | None
    enabled: bool
    shared: int


def judge(answer: VaultAnswer, now: float) -> Reason | None:
    """Why an answer has no value that may be used at ``now`` (seconds since 1970-01-01 UTC); None if it has one.

    An expired value is named ``expired`` although it is there: the reference's policy decides.

    Codes: https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
    """
    if answer.outcome != "answered":
        return answer.outcome
    if answer.status == 200 and answer.secret is not None:
        if not answer.enabled:
            return "disabled"
        if answer.not_before is not None and now < answer.not_before:
            return "not yet valid"
        return "expired" if answer.expires_on is not None and now >= answer.expires_on else None
    if answer.status == 401:
        return "sign-in failed"
    if answer.status == 404:
        return "missing"
    if answer.status == 429:
        return "throttled"
    if 400 <= answer.status < 500 and answer.status != 408:
        # Any other refusal is of this request too, and says nothing about the vault.
        return _REASONS_OF_INNER_CODES.get(answer.inner, "forbidden")
    return "away"
