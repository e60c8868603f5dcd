"""The keys that sign tokens: made, sealed at rest, rotated on schedule, published until their tokens have died.

Several processes share them through the database: each signs with the newest key that is due, and finds a key that
another process made by asking again for an unknown ``kid``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from joserfc.jwk import RSAKey
from sqlalchemy import delete, insert, select

from keyleaf.core.errors import StateError
from keyleaf.store.schema import signing_key

if TYPE_CHECKING:
    from sqlalchemy import Connection

PURPOSE = "signing-key"
TOKEN_LIFETIME = 3600
ROTATE_EVERY = 30 * 86_400
# A server whose upkeep is late goes on signing with the last key for this long.
GRACE = 7 * 86_400


class Sealer(Protocol):
    """What seals small blobs under the root key (``store.Keyring``)."""

    def seal(self, purpose: str, plaintext: bytes, /) -> bytes: ...

    def unseal(self, purpose: str, sealed: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key ready to sign; its representation shows the key id alone."""

    kid: str
    key: RSAKey

    def __repr__(self) -> str:
        return f"SigningKey({self.kid})"


class SigningKeys:
    """Signing keys of one process, cached; thread-safe.

    Args:
        sealer: seals the private keys.
        size: RSA bits, 2048 or 3072.
        rotate_every: seconds that a key signs.
    """

    def __init__(self, sealer: Sealer, *, size: int = 2048, rotate_every: int = ROTATE_EVERY) -> None:
        if size not in (2048, 3072):
            raise ValueError("RSA signing keys have 2048 or 3072 bits")
        self._sealer = sealer
        self._size = size
        self._rotate_every = rotate_every
        self._private: dict[str, SigningKey] = {}
        self._lock = threading.Lock()

    def needs_upkeep(self, conn: Connection, now: float) -> bool:
        """Whether :meth:`maintain` has something to do: no key is due to sign, or one is past its publication."""
        due = [r for r in self._rows(conn) if r["signs_until"] > now]
        dead = conn.execute(select(signing_key.c.kid).where(signing_key.c.published_until <= int(now)).limit(1)).first()
        return not due or dead is not None

    def maintain(self, conn: Connection, now: float) -> bool:
        """Make a key where none is due to sign, and drop those whose tokens have died; says whether it did anything.

        Call it in a writing transaction at start and, say, hourly. Where two processes make a key at the same moment
        both keys are published, and all processes sign with the same one of them.
        """
        changed = conn.execute(delete(signing_key).where(signing_key.c.published_until <= int(now))).rowcount > 0
        if any(r["signs_until"] > now for r in self._rows(conn)):
            return changed
        key = RSAKey.generate_key(self._size)
        kid = key.thumbprint()
        public: dict[str, Any] = {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": "RS256"}
        signs_until = int(now) + self._rotate_every
        conn.execute(
            insert(signing_key).values(
                kid=kid,
                sealed=self._sealer.seal(PURPOSE, key.as_der(private=True)),
                public=msgspec.json.encode(public).decode(),
                created=int(now),
                signs_until=signs_until,
                published_until=signs_until + GRACE + TOKEN_LIFETIME,
            )
        )
        return True

    def current(self, conn: Connection, now: float) -> SigningKey:
        """The key to sign with: the newest one that is due, or, in the days of grace, the newest at all.

        Raises:
            StateError: there is none whose publication outlasts a token made now.
        """
        rows = sorted(self._rows(conn), key=lambda r: (r["signs_until"] > now, r["created"], r["kid"]), reverse=True)
        for row in rows:
            if row["published_until"] >= now + TOKEN_LIFETIME:
                return self._unseal(row["kid"], row["sealed"])
        raise StateError("there is no key to sign tokens with", hint="the server's upkeep has not run for a week")

    def published(self, conn: Connection, now: float) -> list[dict[str, Any]]:
        """The JWKs to publish, newest first."""
        rows = [r for r in self._rows(conn) if r["published_until"] > now]
        rows.sort(key=lambda r: (r["created"], r["kid"]), reverse=True)
        return [msgspec.json.decode(r["public"]) for r in rows]

    def _unseal(self, kid: str, sealed: bytes) -> SigningKey:
        with self._lock:
            held = self._private.get(kid)
            if held is None:
                key = RSAKey.import_key(self._sealer.unseal(PURPOSE, sealed))
                held = self._private[kid] = SigningKey(kid, key)
            return held

    @staticmethod
    def _rows(conn: Connection) -> list[Mapping[str, Any]]:
        return [dict(r) for r in conn.execute(select(signing_key)).mappings()]


class PublicKeys:
    """The published keys by ``kid``, read again when an unknown one is asked for; thread-safe.

    Args:
        read: the JWKs as they stand now, usually from ``SigningKeys.published`` on a connection of its own.
    """

    def __init__(self, read: Callable[[], list[dict[str, Any]]]) -> None:
        self._read = read
        self._keys: Mapping[str, RSAKey] = {}

    def find(self, kid: str) -> RSAKey | None:
        """The key, or None where no published key has that id."""
        found = self._keys.get(kid)
        if found is None and 20 <= len(kid) <= 64:
            self._keys = {jwk["kid"]: RSAKey.import_key(jwk) for jwk in self._read()}
            found = self._keys.get(kid)
        return found

    def clear(self) -> None:
        """Forget all: the next token reads them again."""
        self._keys = {}
