"""The local issuer: its key, its documents, and tokens that a standard library accepts."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from keyleaf.core.errors import StateError
from keyleaf.runtime import ServiceAccountIssuer

URL = "https://127.0.0.1:8443/oidc/local"
NOW = 1_700_000_000.0


def keys(directory: Path) -> KeySet:
    return KeySet.import_key_set(json.loads((directory / "public/openid/v1/jwks").read_bytes()))


def test_tokens_verify_against_the_published_keys(tmp_path: Path) -> None:
    issuer = ServiceAccountIssuer.open(tmp_path / "local", URL)
    token = jwt.decode(issuer.token("shop-web", "web", now=NOW, ttl=600), keys(tmp_path / "local"))
    claims = token.claims
    assert claims["iss"] == URL
    assert claims["sub"] == "system:serviceaccount:shop-web:web"
    assert claims["aud"] == ["api://AzureADTokenExchange"]
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (NOW, NOW, NOW + 600)
    assert claims["kubernetes.io"]["namespace"] == "shop-web"
    assert claims["kubernetes.io"]["serviceaccount"]["name"] == "web"
    assert token.header == {"alg": "RS256", "kid": issuer.key_id, "typ": "JWT"}


def test_every_token_has_its_own_id(tmp_path: Path) -> None:
    issuer = ServiceAccountIssuer.open(tmp_path, URL)
    published = keys(tmp_path)
    ids = {jwt.decode(issuer.token("a", "b", now=NOW), published).claims["jti"] for _ in range(3)}
    assert len(ids) == 3


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = ServiceAccountIssuer.open(tmp_path, URL)
    key = (tmp_path / "issuer.key").read_bytes()
    second = ServiceAccountIssuer.open(tmp_path, URL)
    assert second.key_id == first.key_id
    assert (tmp_path / "issuer.key").read_bytes() == key
    assert stat.S_IMODE((tmp_path / "issuer.key").stat().st_mode) == 0o600


def test_the_documents_follow_the_url(tmp_path: Path) -> None:
    ServiceAccountIssuer.open(tmp_path, URL)
    ServiceAccountIssuer.open(tmp_path, "https://127.0.0.1:9443/oidc/local/")
    discovery = json.loads((tmp_path / "public/.well-known/openid-configuration").read_bytes())
    assert discovery["issuer"] == "https://127.0.0.1:9443/oidc/local"
    assert discovery["jwks_uri"] == "https://127.0.0.1:9443/oidc/local/openid/v1/jwks"


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    ServiceAccountIssuer.open(tmp_path, URL)
    (tmp_path / "issuer.key").chmod(0o644)
    with pytest.raises(StateError, match="others may read"):
        ServiceAccountIssuer.open(tmp_path, URL)


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "issuer.key").write_text("not a key")
    (tmp_path / "issuer.key").chmod(0o600)
    with pytest.raises(StateError, match="not an RSA key"):
        ServiceAccountIssuer.open(tmp_path, URL)
