"""The one error of a secret that cannot be had now: why, and when a new try is sensible."""

from __future__ import annotations

from typing import Literal

from keyleaf.client.reference import SecretReference
from keyleaf.core.errors import RemoteError

Reason = Literal[
    "disabled",
    "missing",
    "expired",
    "not yet valid",
    "forbidden",
    "throttled",
    "away",
    "sign-in failed",
]

_SENTENCES: dict[Reason, tuple[str, str]] = {
    "disabled": ("{} is disabled", "enable this version, or set a new one"),
    "missing": ("{} is not in the vault", "set it, or recover it if it was deleted"),
    "expired": ("{} is past its expiry time", "set a new version"),
    "not yet valid": ("{} is not valid yet", "wait for its not-before time, or set a new version"),
    "forbidden": ("reading {} is forbidden", "the identity needs Key Vault Secrets User on it; and look at firewalls"),
    "throttled": ("the vault of {} answers that it has too many requests", "it is asked again by itself"),
    "away": ("the vault of {} does not answer", "it is asked again by itself"),
    "sign-in failed": ("signing in to read {} failed", "look at the AZURE_* variables and the federated credential"),
}


class SecretUnavailable(RemoteError):
    """A secret that cannot be had now; it may be good again without any change to the program that asked.

    Attributes:
        reason: why.
        reference: which secret.
        retry_after: seconds until a new try is sensible; sooner tries are answered from memory, or refused.
        waits: an orchestration may wait for it; True for every reason.
        detail: name of an exception type or an error code, where that says more; never a message of a server.
    """

    waits = True

    def __init__(
        self, reason: Reason, reference: SecretReference, *, retry_after: float = 0.0, detail: str = ""
    ) -> None:
        sentence, hint = _SENTENCES[reason]
        version = f" (version {reference.version})" if reference.version else ""
        message = sentence.format(reference.label) + version
        super().__init__(f"{message}: {detail}" if detail else message, hint=hint)
        self.reason: Reason = reason
        self.reference = reference
        self.retry_after = retry_after
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (self.reason, self.reference, self.retry_after, self.detail)


def _rebuilt(reason: Reason, reference: SecretReference, retry_after: float, detail: str) -> SecretUnavailable:
    return SecretUnavailable(reason, reference, retry_after=retry_after, detail=detail)
