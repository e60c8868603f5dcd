"""Inputs, outputs and events as text that an engine keeps: typed JSON, encrypted.

Rules:
    - A payload is JSON made by msgspec from typed values; a value that JSON cannot carry is refused where it is given.
    - It is sealed with AES-256-GCM under a key derived (HKDF-SHA256) from a secret of the vault. The text names the
      key's version, so that the secret can be rotated while instances run.
    - The instance and the purpose are associated data: a payload moved to another row does not open.
    - A payload larger than ``limit`` bytes is refused before the engine sees it.
"""

from __future__ import annotations

import base64
import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keyleaf.client.guard import SecretGuard
from keyleaf.core.errors import InputError, StateError
from keyleaf.core.secret import Secret, SecretEscape
from keyleaf.orchestrate.errors import CallError, PayloadTooLarge

LIMIT = 1024 * 1024
"""Bytes of JSON that a payload may have, unless told otherwise."""

_SHORTEST_KEY = 32


def refuse_secret(value: object) -> Any:
    """msgspec's hook for types that it does not know: a Secret tells why, anything else is left to msgspec."""
    if isinstance(value, Secret):
        str(value)  # raises, naming the secret and what to do instead
    raise NotImplementedError(f"{type(value).__module__}.{type(value).__qualname__} cannot be written as JSON")


_ENCODER = msgspec.json.Encoder(enc_hook=refuse_secret, decimal_format="string")


def to_json(value: object, what: str) -> bytes:
    """``value`` as JSON; ``what`` names it in the error.

    Raises:
        CallError: JSON cannot carry it.
        keyleaf.core.secret.SecretEscape: it holds a Secret.
    """
    try:
        return _ENCODER.encode(value)
    except (NotImplementedError, msgspec.MsgspecError, RecursionError, ValueError, OverflowError) as error:
        raise CallError(
            f"{what} cannot be kept: {error}", hint="use msgspec.Struct, dataclasses, and the plain types of JSON"
        ) from None


def from_json(data: bytes, wanted: Any, what: str) -> Any:
    """JSON as a value of type ``wanted``.

    Raises:
        CallError: it is not of that type; the message has msgspec's path to the field, never the value.
    """
    try:
        return _decoder(wanted).decode(data)
    except msgspec.MsgspecError as error:
        raise CallError(f"{what} is not what is declared: {error}") from None


def _decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    """The decoder of a type; making one takes longer than a small payload takes to decode."""
    try:
        return _hashable_decoder(wanted)
    except TypeError:  # metadata of an Annotated type need not be hashable
        return msgspec.json.Decoder(wanted)


@functools.lru_cache(1024)
def _hashable_decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(wanted)


class PayloadCodec:
    """Seals JSON into text and opens it again.

    Args:
        keys: secret values by version, newest last; empty for payloads in the clear.
        missing: asked for the value of a version that ``keys`` lacks.
        guard: knows the secrets that must not get into a payload.
        limit: bytes of JSON that a payload may have.
    """

    def __init__(
        self,
        keys: Mapping[str, str],
        *,
        guard: SecretGuard | None = None,
        missing: Callable[[str], str] | None = None,
        limit: int = LIMIT,
    ) -> None:
        self._guard = guard
        self._ciphers = {version: AESGCM(_derive(value)) for version, value in keys.items()}
        self._current = next(reversed(self._ciphers), "")
        self._missing = missing
        self.limit = limit

    @property
    def encrypts(self) -> bool:
        """Whether payloads are sealed at all."""
        return bool(self._current)

    def add(self, version: str, value: str) -> None:
        """From now on seal with this version of the key."""
        self._ciphers[version] = AESGCM(_derive(value))
        self._current = version

    def asks(self, missing: Callable[[str], str]) -> None:
        """Ask ``missing`` for versions of the key that are not at hand."""
        self._missing = missing

    def check(self, data: bytes | str, what: str) -> None:
        """Raises SecretEscape if JSON, or a text, holds a secret that this process has held."""
        if self._guard is None or not self._guard.holds_any:
            return
        escape = self._guard.find(msgspec.json.decode(data) if isinstance(data, bytes) else data)
        if escape is not None:
            raise SecretEscape(
                f"{what} holds secret {escape.label}, {escape.form}; it was not kept. Use the value where it is"
                " fetched, and return something that is not the value"
            )

    def require_fits(self, data: bytes, what: str) -> None:
        """Raises PayloadTooLarge for more bytes than may be kept."""
        if len(data) > self.limit:
            raise PayloadTooLarge(
                f"{what} has {len(data):,} bytes, more than the {self.limit:,} that a payload may have",
                hint="keep the data in a store of its own and pass its address",
            )

    def seal(self, data: bytes, purpose: str, what: str = "") -> str:
        """Text for the engine. ``purpose`` names instance and place, and must be given again to open it.

        ``what`` is what errors call it, the purpose if left out.

        Raises:
            PayloadTooLarge: more bytes than ``limit``.
            SecretEscape: a secret is in it, in some form.
        """
        self.check(data, what or purpose)
        self.require_fits(data, what or purpose)
        if not self._current:
            return "p:" + data.decode()
        nonce = os.urandom(12)
        sealed = self._ciphers[self._current].encrypt(nonce, data, purpose.encode())
        return f"k:{self._current}:{base64.b64encode(nonce + sealed).decode()}"

    def open(self, text: str, purpose: str) -> bytes:
        """What :meth:`seal` was given.

        Raises:
            StateError: the text was changed, moved, or sealed with a key that is not there.
        """
        if text.startswith("p:"):
            return text[2:].encode()
        try:
            _, version, body = text.split(":", 2)
            raw = base64.b64decode(body, validate=True)
        except ValueError:
            raise StateError(f"{purpose}: not a payload of keyleaf") from None
        cipher = self._ciphers.get(version)
        if cipher is None:
            if self._missing is None:
                raise StateError(f"{purpose}: sealed with version {version} of the payload key, which is not at hand")
            cipher = self._ciphers[version] = AESGCM(_derive(self._missing(version)))
        try:
            return cipher.decrypt(raw[:12], raw[12:], purpose.encode())
        except InvalidTag:
            raise StateError(
                f"{purpose}: the payload does not open: it was changed, moved, or sealed with another key"
            ) from None


def _derive(value: str) -> bytes:
    if len(value) < _SHORTEST_KEY:
        raise InputError(
            f"the payload key has {len(value)} characters; it needs at least {_SHORTEST_KEY}",
            hint="put 32 random bytes as base64 into the vault",
        )
    return HKDF(SHA256(), 32, None, b"keyleaf payload v1").derive(value.encode())
