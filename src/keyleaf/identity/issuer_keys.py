"""Signing keys of the issuers that federated credentials name, from their discovery documents.

Someone's credential is checked against what comes back, so the client is bare: no redirects, no cookies, no proxy from
the environment, https except on loopback, small answers, short times.
Protocol: OpenID Connect Discovery 1.0, section 4.
"""

from __future__ import annotations

import ssl
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import certifi
import httpx2
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from keyleaf.core.clock import Clock
from keyleaf.core.errors import RemoteError
from keyleaf.identity.federated_credentials import issuer_is_reachable

_Document = TypeVar("_Document")
_MAXIMUM_ANSWER = 262_144
_MAXIMUM_KEYS = 100
_MAXIMUM_ISSUERS = 256


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _KeySet(msgspec.Struct):
    keys: list[dict[str, Any]]


@dataclass(slots=True)
class _Held:
    lock: threading.Lock
    keys: Mapping[str, RSAKey]
    fetched: float | None = None
    tried: float | None = None
    failure: str = ""


class IssuerKeys:
    """Keys of external issuers by issuer and ``kid``, cached; thread-safe.

    Args:
        ca_bundle: certificates to trust besides the public roots, PEM; None for none.
        timeout: seconds for one document, from connecting to its last byte.
        lifetime: seconds that a key set is used without asking again.
        patience: at least so many seconds lie between two fetches from one issuer for unknown key ids.
        retry: at least so many seconds lie between a failed fetch and the next.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        ca_bundle: Path | None = None,
        timeout: float = 5.0,
        lifetime: float = 3600.0,
        patience: float = 10.0,
        retry: float = 1.0,
    ) -> None:
        self._clock = clock
        self._ca_bundle = ca_bundle
        self._timeout = timeout
        self._lifetime = lifetime
        self._patience = patience
        self._retry = retry
        self._issuers: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, issuer: str, kid: str) -> RSAKey | None:
        """The issuer's key with that id; None where the issuer publishes none.

        Raises:
            RemoteError: the issuer's documents cannot be had or used.
        """
        held = self._held(issuer)
        with held.lock:
            now = self._clock.monotonic()
            stale = held.fetched is None or now - held.fetched >= self._lifetime
            if not stale and kid in held.keys:
                return held.keys[kid]
            pause = self._retry if held.failure else self._patience
            if held.tried is None or now - held.tried >= pause:
                self._refresh(held, issuer)
            if held.failure and stale:
                raise RemoteError(held.failure)
            return held.keys.get(kid)

    def _held(self, issuer: str) -> _Held:
        with self._lock:
            held = self._issuers.get(issuer)
            if held is None:
                held = self._issuers[issuer] = _Held(threading.Lock(), {})
                while len(self._issuers) > _MAXIMUM_ISSUERS:
                    self._issuers.popitem(last=False)
            self._issuers.move_to_end(issuer)
            return held

    def _refresh(self, held: _Held, issuer: str) -> None:
        held.tried = self._clock.monotonic()
        try:
            held.keys = self._fetch(issuer)
            held.fetched = self._clock.monotonic()
            held.failure = ""
        except RemoteError as error:
            held.failure = error.message

    def _fetch(self, issuer: str) -> Mapping[str, RSAKey]:
        place = issuer.rstrip("/") + "/.well-known/openid-configuration"
        discovery = self._document(place, _Discovery)
        if discovery.issuer != issuer:
            raise RemoteError(f"the discovery document at {place} names another issuer")
        found = self._document(discovery.jwks_uri, _KeySet).keys[:_MAXIMUM_KEYS]
        return dict(pair for pair in map(_usable, found) if pair is not None)

    def _document(self, url: str, shape: type[_Document]) -> _Document:
        raw = self._get(url)
        try:
            return msgspec.json.decode(raw, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise RemoteError(f"{url} does not answer with the expected JSON") from None

    def _get(self, url: str) -> bytes:
        if not issuer_is_reachable(url):
            raise RemoteError(f"{url!r} is no address to fetch keys from: it must be https, or http on loopback")
        deadline = self._clock.monotonic() + self._timeout
        limits = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout)
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "keyleaf"}
        raw = bytearray()
        try:
            with httpx2.HTTPTransport(verify=self._trust(), trust_env=False) as transport:
                request = httpx2.Request("GET", url, headers=headers, extensions={"timeout": limits})
                response = transport.handle_request(request)
                if response.status_code != 200:
                    raise RemoteError(f"{url} answers with status {response.status_code}")
                for chunk in response.iter_raw():
                    raw += chunk
                    if len(raw) > _MAXIMUM_ANSWER:
                        raise RemoteError(f"{url} answers with more than {_MAXIMUM_ANSWER} bytes")
                    if self._clock.monotonic() > deadline:
                        raise RemoteError(f"{url} takes longer than {self._timeout:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, ValueError) as error:
            raise RemoteError(f"{url} cannot be fetched: {type(error).__name__}") from None
        return bytes(raw)

    def _trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=certifi.where())
        if self._ca_bundle is not None:
            context.load_verify_locations(cafile=self._ca_bundle)
        return context


def _usable(jwk: dict[str, Any]) -> tuple[str, RSAKey] | None:
    """The key if it may verify RS256: RSA of 2048 to 8192 bits, for signatures, with an id. Other keys are no error."""
    kid = jwk.get("kid")
    if jwk.get("kty") != "RSA" or jwk.get("use", "sig") != "sig" or jwk.get("alg", "RS256") != "RS256":
        return None
    if not isinstance(kid, str) or not kid:
        return None
    modulus = jwk.get("n")
    # Six bits a character: keys of another size are not even read.
    if not isinstance(modulus, str) or not 2048 <= len(modulus) * 6 <= 8192 + 6:
        return None
    try:
        key = RSAKey.import_key({"kty": "RSA", "n": modulus, "e": jwk["e"]})
    except (JoseError, KeyError, ValueError, TypeError):
        return None
    return (kid, key) if 2048 <= key.public_key.key_size <= 8192 else None
