"""Reading a compact JWT strictly, before any key is looked at.

Stricter than RFC 7519 asks for: duplicate members, unknown critical headers, non-finite numbers and deep nesting are
refused, because two readers that disagree on what a token says are a way in.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from joserfc import jws
from joserfc.jwk import RSAKey

MAXIMUM_TOKEN = 16_384
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")
_PADDED_SEGMENT = re.compile(r"[A-Za-z0-9_-]+={0,2}\Z")
_DIGITS = 32


class MalformedToken(ValueError):
    """The text is not a JWT that may be looked at further; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class CompactJwt:
    """A JWT taken apart, nothing of it trusted yet."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes

    def text(self, claim: str) -> str:
        """The claim if it is a string; otherwise empty."""
        value = self.claims.get(claim)
        return value if isinstance(value, str) else ""

    def header_text(self, member: str) -> str:
        """The header's member if it is a string; otherwise empty."""
        value = self.header.get(member)
        return value if isinstance(value, str) else ""

    def time(self, claim: str) -> float | None:
        """The claim as seconds since 1970; None where it is absent.

        Raises:
            MalformedToken: it is there and is no plain number.
        """
        if claim not in self.claims:
            return None
        value = self.claims[claim]
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
            raise MalformedToken(f"the claim {claim!r} is not a time")
        return float(value)


def read_compact_jwt(token: str, *, allow_padding: bool = False) -> CompactJwt:
    """Take a compact JWT apart.

    Args:
        allow_padding: take base64url with ``=``, as Microsoft's clients write it in client assertions.

    Raises:
        MalformedToken: too long, not three segments, not base64url, not JSON objects, duplicate members.
    """
    if len(token) > MAXIMUM_TOKEN:
        raise MalformedToken(f"the token is longer than {MAXIMUM_TOKEN} characters")
    parts = token.split(".")
    if len(parts) != 3:
        raise MalformedToken("the token does not have three segments")
    header_bytes, claims_bytes, signature = (_decode(part, allow_padding) for part in parts)
    header = _object(header_bytes, "header")
    if "crit" in header or "b64" in header:
        raise MalformedToken("the header asks for extensions that are not supported")
    return CompactJwt(header, _object(claims_bytes, "payload"), f"{parts[0]}.{parts[1]}".encode("ascii"), signature)


def signature_holds(token: CompactJwt, key: RSAKey, algorithms: frozenset[str]) -> bool:
    """Whether the token is signed by ``key`` with the algorithm that its header names, one of ``algorithms``."""
    name = token.header_text("alg")
    if name not in algorithms:
        return False
    algorithm = jws.JWSRegistry(algorithms=sorted(algorithms)).get_alg(name)
    return algorithm.verify(token.signing_input, token.signature, key)


def _decode(segment: str, allow_padding: bool) -> bytes:
    if not (_PADDED_SEGMENT if allow_padding else _SEGMENT).match(segment):
        raise MalformedToken("a segment is not base64url")
    bare = segment.rstrip("=")
    try:
        raw = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        raise MalformedToken("a segment is not base64url") from None
    if base64.urlsafe_b64encode(raw).decode().rstrip("=") != bare:
        raise MalformedToken("a segment has stray bits")
    return raw


def _object(raw: bytes, which: str) -> Mapping[str, Any]:
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_not_finite, parse_int=_integer
        )
    except MalformedToken:
        raise
    except (ValueError, RecursionError):
        raise MalformedToken(f"the {which} is not JSON") from None
    if not isinstance(value, dict):
        raise MalformedToken(f"the {which} is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MalformedToken("a member occurs twice")
    return found


def _not_finite(_: str) -> NoReturn:
    raise MalformedToken("a number is not finite")


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise MalformedToken("a number is too long")
    return int(digits)
