"""The one error tree.

    KeyleafError                 anything that keyleaf tells a person or a client
    ├── InputError               a manifest, option or file is not usable; names it and says what to do
    ├── StateError               the state directory or database cannot be used as it stands
    │   └── LedgerError          the audit log does not fit its own proofs
    ├── RemoteError              something keyleaf talks to answered no, or did not answer
    └── ServiceError             an answer of the embedded Azure, in Azure's shape

No message may hold a secret value; none is built from a request body.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyleaf.core.location import Location


class KeyleafError(Exception):
    """Base of the tree: ``message`` says what is wrong, ``hint`` what to do, ``where`` the place in Git, if any."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", where: Location | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.hint})" if self.hint else ""
        return f"{place}{self.message}{advice}"


class InputError(KeyleafError):
    """A manifest, option, file or argument that cannot be used."""

    exit_code = 2


class StateError(KeyleafError):
    """The state directory or database cannot be used as it stands."""

    exit_code = 3


class LedgerError(StateError):
    """The audit log does not fit its own proofs."""


class RemoteError(KeyleafError):
    """A service that keyleaf talks to refused, or did not answer."""

    exit_code = 4


class ServiceError(KeyleafError):
    """An answer of the embedded Azure other than success.

    Attributes:
        status: HTTP status.
        code: Azure's error code, for example ``SecretNotFound``.
        inner: code of ``innererror``, for example ``SecretDisabled``; empty for none.
        headers: extra response headers, for example ``WWW-Authenticate``.

    Shape: https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
    """

    def __init__(
        self, status: int, code: str, message: str, *, inner: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.inner = inner
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The error as Azure's services write it."""
        error: dict[str, object] = {"code": self.code, "message": self.message}
        if self.inner:
            error["innererror"] = {"code": self.inner}
        return {"error": error}
