"""``keyleaf run --as APP -- COMMAND``: a command with the identity of one application."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from keyleaf.cli import azure_options as o
from keyleaf.cli.session import Options, Session, connect, read_connection
from keyleaf.core.errors import InputError
from keyleaf.core.parent_death import die_with_parent
from keyleaf.plan.naming import APPLICATION
from keyleaf.runtime import (
    Endpoints,
    ServiceAccountIssuer,
    SystemTimer,
    TokenKeeper,
    private_directory,
)

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126
_RENEW_EVERY = 30.0
_OF_OTHERS = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "MSI_SECRET")


@dataclass(frozen=True, slots=True)
class _Leaf:
    """The identity of one Application: ``vaults`` URLs of those that its roles name."""

    client_id: str
    namespace: str
    service_account: str
    vaults: tuple[str, ...]


def run(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="What to run, with its arguments.")],
    application: Annotated[str, typer.Option("--as", help="The Application whose identity the command gets.")],
    state: o.State = None,
) -> None:
    """Run a command as an application of the running tree. Its exit code is the command's."""
    directory = (state or Path(os.environ.get("KEYLEAF_STATE") or ".keyleaf")).absolute()
    connection = read_connection(directory)
    if connection is None:
        raise InputError(f"no embedded Azure runs in {directory}", hint="start one with keyleaf up, or name --state")
    # Taken before connecting, which adds the operator's variables to this process.
    environment = own_environment(os.environ)
    leaf = _leaf(connect(options=Options(state=directory)), application, str(connection["issuer"]))
    endpoints = Endpoints(str(connection["authority"]), str(connection["tenant_id"]), str(connection["ca_bundle"]))
    issuer = ServiceAccountIssuer.open(directory / "oidc" / "local", str(connection["issuer"]))
    tokens = TokenKeeper(issuer, SystemTimer())
    runs = private_directory(directory).with_suffix(".run")
    runs.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=runs) as private:
        file = Path(private) / "azure-identity-token"
        tokens.project(file, leaf.namespace, leaf.service_account, pod=f"run-{os.getpid()}")
        environment.update(endpoints.trust())
        environment.update(endpoints.variables(leaf.client_id, file))
        if len(leaf.vaults) == 1:
            environment["AZURE_KEYVAULT_URL"] = leaf.vaults[0]
        code = _execute(command, environment, tokens)
    raise typer.Exit(code)


def own_environment(caller: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The caller's variables without any that signs somebody in to Azure, and with our Python's programs first."""
    kept = {
        name: text
        for name, text in caller.items()
        if not name.startswith(("AZURE_", "KEYLEAF_")) and name not in _OF_OTHERS
    }
    kept["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), caller.get("PATH", os.defpath)))
    return kept


def _leaf(session: Session, application: str, issuer: str) -> _Leaf:
    """Look the Application's identity up in Azure.

    Raises:
        InputError: no Application of that name has an identity.
    """
    identities = session.azure.identities()
    found = [i for i in identities if i.tags.get(APPLICATION, "").lower() == application.lower()]
    if not found:
        known = ", ".join(sorted(i.tags[APPLICATION] for i in identities if APPLICATION in i.tags)[:12])
        raise InputError(
            f"no Application {application!r} has an identity", hint=f"these have: {known}" if known else "keyleaf up"
        )
    identity = found[0]
    subjects = [c.subject for c in session.azure.credentials(identity.scope) if c.issuer.rstrip("/") == issuer]
    if not subjects:
        raise InputError(
            f"{identity.name} trusts no service account of this machine", hint="keyleaf up, or keyleaf apply"
        )
    _, _, namespace, account = subjects[0].split(":", 3)
    scopes = [
        a.scope.key for a in session.azure.assignments() if a.principal_id.lower() == identity.principal_id.lower()
    ]
    vaults = {v.uri.rstrip("/") for v in session.azure.vaults() if any(s.startswith(v.scope.key) for s in scopes)}
    return _Leaf(identity.client_id, namespace, account, tuple(sorted(vaults)))


def _execute(command: list[str], environment: dict[str, str], tokens: TokenKeeper) -> int:
    """Run it on our terminal, and keep its token fresh meanwhile; its exit code, 128 + n for signal n."""
    parent = os.getpid()
    try:
        child = subprocess.Popen(command, env=environment, preexec_fn=lambda: die_with_parent(parent))
    except FileNotFoundError:
        sys.stderr.write(f"keyleaf: {command[0]}: no such program\n")
        return _NOT_FOUND
    except OSError as error:
        sys.stderr.write(f"keyleaf: {command[0]}: {error.strerror}\n")
        return _NOT_EXECUTABLE
    done = threading.Event()

    def renew() -> None:
        while not done.wait(_RENEW_EVERY):
            tokens.renew_due()

    threading.Thread(target=renew, daemon=True).start()
    # The terminal sends Ctrl-C to both of us: the command decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    code = child.wait()
    done.set()
    return code if code >= 0 else 128 - code
