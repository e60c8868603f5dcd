"""The OIDC issuer of locally run workloads: service account tokens as a self-managed Kubernetes cluster issues them.

It serves nothing: it writes two public documents that any static file server can hand out, as clusters publish theirs
in blob storage. Source: https://azure.github.io/azure-workload-identity/docs/installation/self-managed-clusters/oidc-issuer.html
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
import uuid
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from keyleaf.core.errors import StateError

AUDIENCE = "api://AzureADTokenExchange"
LIFETIME = 3600
_KEY_BITS = 2048


class ServiceAccountIssuer:
    """Signs service account tokens with an RSA key that never leaves its directory."""

    def __init__(self, key: rsa.RSAPrivateKey, issuer_url: str) -> None:
        self._key = key
        self.issuer_url = issuer_url
        self.key_id = _key_id(key.public_key())

    @staticmethod
    def open(directory: Path, issuer_url: str) -> ServiceAccountIssuer:
        """Load the key of ``directory``, or make it once, and write the public documents where they differ.

        Args:
            directory: holds ``issuer.key`` (0600) and ``public/``, the folder to serve under ``issuer_url``.
            issuer_url: ``https`` URL without a trailing slash, the tokens' ``iss``.

        Raises:
            StateError: the key cannot be read or written.
        """
        issuer_url = issuer_url.rstrip("/")
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            issuer = ServiceAccountIssuer(_load_or_make(directory / "issuer.key"), issuer_url)
            for name, document in issuer.documents().items():
                file = directory / "public" / name
                content = json.dumps(document, indent=2).encode()
                if not file.is_file() or file.read_bytes() != content:
                    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                    _replace(file, content, 0o644)
        except OSError as error:
            raise StateError(f"the issuer's directory {directory} cannot be used", hint=error.strerror or "") from None
        return issuer

    def documents(self) -> dict[str, dict[str, object]]:
        """The public documents by relative path: OIDC discovery and the key set, as a Kubernetes API server's."""
        numbers = self._key.public_key().public_numbers()
        key = {
            "use": "sig",
            "kty": "RSA",
            "kid": self.key_id,
            "alg": "RS256",
            "n": _base64url(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big")),
            "e": _base64url(numbers.e.to_bytes((numbers.e.bit_length() + 7) // 8, "big")),
        }
        return {
            ".well-known/openid-configuration": {
                "issuer": self.issuer_url,
                "jwks_uri": f"{self.issuer_url}/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "openid/v1/jwks": {"keys": [key]},
        }

    def token(
        self,
        namespace: str,
        service_account: str,
        *,
        now: float,
        audience: str = AUDIENCE,
        ttl: float = LIFETIME,
        pod: str = "",
    ) -> str:
        """A signed token for one service account, with the claims of a projected Kubernetes token.

        Args:
            now: seconds since 1970 UTC; ``ttl`` seconds from then it expires.
            pod: name of the process that it is bound to, where there is one.

        Claims: https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
        """
        account: dict[str, object] = {
            "namespace": namespace,
            "serviceaccount": {"name": service_account, "uid": _uid("serviceaccount", namespace, service_account)},
        }
        if pod:
            account["pod"] = {"name": pod, "uid": _uid("pod", namespace, pod)}
        claims = {
            "aud": [audience],
            "exp": int(now + ttl),
            "iat": int(now),
            "iss": self.issuer_url,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": account,
            "nbf": int(now),
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
        }
        header = {"alg": "RS256", "kid": self.key_id, "typ": "JWT"}
        signed = ".".join(_base64url(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_base64url(signature)}"


def _load_or_make(file: Path) -> rsa.RSAPrivateKey:
    if not file.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor, fresh = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(pem)
                out.flush()
                os.fsync(out.fileno())
            # Two processes may start at once: a hard link lets the first win, and both then read the same key.
            os.link(fresh, file)
        except FileExistsError:
            pass
        finally:
            Path(fresh).unlink(missing_ok=True)
    if file.stat().st_mode & 0o077:
        raise StateError(f"others may read {file}", hint=f"chmod 600 {file}")
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise StateError(f"{file} is not an RSA key", hint="remove it: the next start makes a new one")
    return key


def _key_id(key: rsa.RSAPublicKey) -> str:
    """Kubernetes' key id: SHA-256 of the public key's DER form."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _base64url(hashlib.sha256(der).digest())


def _replace(file: Path, content: bytes, mode: int) -> None:
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_bytes(content)
    fresh.chmod(mode)
    fresh.replace(file)


def _uid(*parts: str) -> str:
    """Stable for the same name, so that records of one workload can be joined over restarts."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
