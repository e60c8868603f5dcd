"""The two static documents of an issuer that publishes its keys here, as others publish them in blob storage."""

from __future__ import annotations

import re
from pathlib import Path

_ISSUER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62})\Z")
_DOCUMENTS = frozenset({".well-known/openid-configuration", "openid/v1/jwks"})
_LARGEST = 262_144


def read_document(directory: Path, path: str) -> bytes | None:
    """The document at ``/oidc/<issuer>/<document>``; None for everything else.

    Only two names are ever looked up below ``<directory>/<issuer>/public``, and a link that leads out of it is not
    followed.
    """
    prefix, _, rest = path.removeprefix("/").partition("/")
    issuer, _, document = rest.partition("/")
    if prefix != "oidc" or not _ISSUER.match(issuer) or document not in _DOCUMENTS:
        return None
    public = directory / issuer / "public"
    file = public / document
    try:
        if not file.resolve().is_relative_to(public.resolve()) or file.stat().st_size > _LARGEST:
            return None
        return file.read_bytes()
    except OSError:
        return None
