"""Envelope encryption: a root key wraps a vault's key, which wraps a data key per version of a secret.

- Every layer is AES-256-GCM with a random 96-bit nonce, stored in front of the ciphertext.
- Associated data binds each ciphertext to its place: tenant, vault, secret's name and version. A row copied to another
  place does not decrypt.
- The associated data is a list of length-prefixed fields, so that no two places have the same encoding.

Source: NIST SP 800-38D for the nonce; the layering is that of any key management service.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyleaf.core.clock import Randomness
from keyleaf.core.errors import StateError

KEY_BYTES = 32
_NONCE_BYTES = 12
_CACHED_VAULT_KEYS = 4096


def bind(*fields: str) -> bytes:
    """Associated data for a place: each field's length as four bytes, then its UTF-8."""
    parts: list[bytes] = []
    for field in fields:
        encoded = field.encode()
        parts += [len(encoded).to_bytes(4, "big"), encoded]
    return b"".join(parts)


class Keyring:
    """Seals and unseals with a root key held in memory.

    Raises (every unsealing method):
        StateError: the ciphertext was made for another place or by another key, or was altered.
    """

    def __init__(self, root_key: bytes, randomness: Randomness) -> None:
        if len(root_key) != KEY_BYTES:
            raise StateError("the root key is not 32 bytes long")
        self._root = AESGCM(root_key)
        self._randomness = randomness
        self._vaults: OrderedDict[tuple[str, str, bytes], AESGCM] = OrderedDict()
        self._lock = Lock()

    def seal(self, purpose: str, plain: bytes) -> bytes:
        """Seal a small blob under the root key, bound to ``purpose``."""
        return self._encrypt(self._root, plain, bind("keyleaf-blob", purpose))

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        """Open what :meth:`seal` made for the same purpose."""
        return _decrypt(self._root, sealed, bind("keyleaf-blob", purpose), f"the sealed {purpose}")

    def new_vault_key(self, tenant: str, vault: str) -> bytes:
        """A fresh key for a vault, wrapped under the root key."""
        return self._encrypt(
            self._root, self._randomness.token(KEY_BYTES), bind("keyleaf-vault", tenant, vault.lower())
        )

    def seal_version(
        self, tenant: str, vault: str, wrapped_vault_key: bytes, name: str, version: str, value: bytes
    ) -> tuple[bytes, bytes]:
        """Seal one version of a secret: the wrapped data key, and the ciphertext."""
        data_key = self._randomness.token(KEY_BYTES)
        place = _place(tenant, vault, name, version)
        wrapped = self._encrypt(self._vault(tenant, vault, wrapped_vault_key), data_key, bind("key") + place)
        return wrapped, self._encrypt(AESGCM(data_key), value, bind("value") + place)

    def unwrap_version(
        self, tenant: str, vault: str, wrapped_vault_key: bytes, name: str, version: str, wrapped_key: bytes
    ) -> SealedValue:
        """The opener of one version's values: keep it to decrypt again without unwrapping."""
        place = _place(tenant, vault, name, version)
        data_key = _decrypt(
            self._vault(tenant, vault, wrapped_vault_key), wrapped_key, bind("key") + place, "a secret's data key"
        )
        return SealedValue(AESGCM(data_key), bind("value") + place)

    def unseal_version(
        self,
        tenant: str,
        vault: str,
        wrapped_vault_key: bytes,
        name: str,
        version: str,
        wrapped_key: bytes,
        sealed: bytes,
    ) -> bytes:
        """The value of one version."""
        return self.unwrap_version(tenant, vault, wrapped_vault_key, name, version, wrapped_key).open(sealed)

    def rewrap_vault_key(self, tenant: str, vault: str, wrapped: bytes, new: Keyring) -> bytes:
        """The same vault key, wrapped under the root key of ``new``."""
        place = bind("keyleaf-vault", tenant, vault.lower())
        return new._encrypt(new._root, _decrypt(self._root, wrapped, place, f"the key of vault {vault}"), place)

    def _vault(self, tenant: str, vault: str, wrapped: bytes) -> AESGCM:
        # The place is part of the cache's key too: a wrapped key that was copied to another vault must not open there.
        held = (tenant, vault, wrapped)
        with self._lock:
            cached = self._vaults.get(held)
            if cached is not None:
                self._vaults.move_to_end(held)
                return cached
        place = bind("keyleaf-vault", tenant, vault.lower())
        cipher = AESGCM(_decrypt(self._root, wrapped, place, f"the key of vault {vault}"))
        with self._lock:
            self._vaults[held] = cipher
            if len(self._vaults) > _CACHED_VAULT_KEYS:
                self._vaults.popitem(last=False)
        return cipher

    def _encrypt(self, cipher: AESGCM, plain: bytes, place: bytes) -> bytes:
        nonce = self._randomness.token(_NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, plain, place)


class SealedValue:
    """Opens the values of one version."""

    __slots__ = ("_cipher", "_place")

    def __init__(self, cipher: AESGCM, place: bytes) -> None:
        self._cipher = cipher
        self._place = place

    def open(self, sealed: bytes) -> bytes:
        """The plain value."""
        return _decrypt(self._cipher, sealed, self._place, "a secret's value")


def _place(tenant: str, vault: str, name: str, version: str) -> bytes:
    return bind("keyleaf-secret", tenant, vault.lower(), name.lower(), version)


def _decrypt(cipher: AESGCM, sealed: bytes, place: bytes, what: str) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place)
    except (InvalidTag, ValueError):
        raise StateError(
            f"{what} does not decrypt", hint="another root key sealed it, or the row was moved or altered"
        ) from None
