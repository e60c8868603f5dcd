"""What a process is given so that Microsoft's SDKs sign it in as itself, and nothing of anybody else."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keyleaf.core.errors import StateError
from keyleaf.runtime.issuer import AUDIENCE, LIFETIME, ServiceAccountIssuer
from keyleaf.runtime.timing import Timer

TOKEN_FILE = "azure-identity-token"  # noqa: S105 (a file's name)
_LIVED = 0.6
_LOOK_EVERY = 20.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The Azure that the processes talk to.

    Attributes:
        client_ids: by (namespace, service account).
        vaults: URL by vault's name in lower case.
    """

    authority: str
    tenant_id: str
    ca_bundle: str = ""
    client_ids: Mapping[tuple[str, str], str] = field(default_factory=dict)
    vaults: Mapping[str, str] = field(default_factory=dict)

    def variables(self, client_id: str, token_file: Path) -> dict[str, str]:
        """What Azure's workload identity webhook sets, and the trust in the server's certificate.

        Source: https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
        """
        return {
            "AZURE_AUTHORITY_HOST": self.authority,
            "AZURE_TENANT_ID": self.tenant_id,
            "AZURE_CLIENT_ID": client_id,
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
            "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",
        }

    def trust(self) -> dict[str, str]:
        """Which certificates to trust, and that loopback needs no proxy."""
        trusted = {"REQUESTS_CA_BUNDLE": self.ca_bundle, "SSL_CERT_FILE": self.ca_bundle} if self.ca_bundle else {}
        return {**trusted, "NO_PROXY": "127.0.0.1,localhost"}


@dataclass(slots=True)
class _Token:
    file: Path
    namespace: str
    service_account: str
    audience: str
    lifetime: float
    pod: str
    due: float = 0.0


class TokenKeeper:
    """Writes projected tokens and renews them well before they expire."""

    def __init__(self, issuer: ServiceAccountIssuer, timer: Timer) -> None:
        self._issuer = issuer
        self._timer = timer
        self._tokens: dict[Path, _Token] = {}

    def project(
        self,
        file: Path,
        namespace: str,
        service_account: str,
        *,
        audience: str = AUDIENCE,
        lifetime: float = LIFETIME,
        pod: str = "",
    ) -> None:
        """Keep a fresh token in ``file`` (0400) until it is forgotten."""
        token = _Token(file, namespace, service_account, audience or self._issuer.issuer_url, lifetime, pod)
        self._tokens[file] = token
        self._write(token)

    def assertion(self, namespace: str, service_account: str) -> str:
        """A token for one sign-in, never written to a file."""
        return self._issuer.token(namespace, service_account, now=self._timer.now(), ttl=600)

    def forget(self, directory: Path) -> None:
        """Renew nothing below ``directory`` any more."""
        for file in [file for file in self._tokens if file.is_relative_to(directory)]:
            del self._tokens[file]

    def renew_due(self) -> int:
        """Write again whatever is past most of its life; how many that were."""
        due = [token for token in self._tokens.values() if token.due <= self._timer.now()]
        for token in due:
            self._write(token)
        return len(due)

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            await self._timer.sleep(_LOOK_EVERY)
            self.renew_due()

    def _write(self, token: _Token) -> None:
        now = self._timer.now()
        text = self._issuer.token(
            token.namespace,
            token.service_account,
            now=now,
            audience=token.audience,
            ttl=token.lifetime,
            pod=token.pod,
        )
        write_atomically(token.file, text.encode(), 0o400)
        token.due = now + token.lifetime * _LIVED


def write_atomically(file: Path, content: bytes, mode: int) -> None:
    """Replace ``file``: whoever reads it sees the old content or the new."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)
    fresh.replace(file)


def private_directory(state: Path) -> Path:
    """A 0700 directory for tokens and secret files: in memory where there is a tmpfs, else in the state directory.

    Raises:
        StateError: not even the state directory can be used.
    """
    name = f"keyleaf-{os.getuid()}-{hashlib.sha256(str(state.resolve()).encode()).hexdigest()[:12]}"
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):  # noqa: S108 (checked to be ours below)
        if parent and os.path.isabs(parent) and os.access(parent, os.W_OK | os.X_OK):  # noqa: PTH117
            place = Path(parent) / name
            if _make_private(place):
                return place
    place = state / "run" / "private"
    if not _make_private(place):
        raise StateError(f"{place} cannot be made private", hint="give another --state")
    return place


def _make_private(place: Path) -> bool:
    """Make it, or make sure that it is a directory of ours alone: others can write to its parent."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
