"""Which Azure the command talks to: the embedded one of a state directory, or the one that the environment names.

Both are reached through ``DefaultAzureCredential()`` and the same code; the embedded server only fills in, for this
process, the variables that somebody would set for real Azure.
"""

from __future__ import annotations

import json
import os
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from keyleaf.core.clock import Clock, SystemClock
from keyleaf.core.errors import InputError, StateError
from keyleaf.core.location import Location
from keyleaf.plan import Bind, Settings, Vault
from keyleaf.runtime.issuer import LIFETIME, ServiceAccountIssuer
from keyleaf.tree.model import AppTree

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretClient

    from keyleaf.cloud import MicrosoftAzure

OPERATOR_NAMESPACE = "keyleaf-system"
OPERATOR = "operator"
SETTINGS_FILE = "keyleaf.toml"
_TREE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_BINDS: Mapping[str, Bind] = {"secret": "secret", "vault": "vault", "resource-group": "resource-group"}
_KEYS = {"tree", "subscription", "resource-group", "location", "issuer", "bind", "create-vaults", "arm"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; empty means: ask the environment, then ``keyleaf.toml``.

    Attributes:
        state: the embedded server's directory; None takes ``$KEYLEAF_STATE`` or ``./.keyleaf``.
        real: use the Azure of the environment even where a state directory exists.
    """

    state: Path | None = None
    real: bool = False
    tree: str = ""
    subscription: str = ""
    resource_group: str = ""
    location: str = ""
    issuer: str = ""
    bind: str = ""
    create_vaults: bool = False


@dataclass(slots=True)
class Session:
    """A signed-in operator on one subscription.

    Attributes:
        local: the state directory of the embedded server; None for any other Azure.
        named: where the resources land: ``subscription``, ``resource-group``, ``location`` and ``issuer``.
    """

    azure: MicrosoftAzure
    options: Options
    local: Path | None
    named: Mapping[str, str]
    written: Mapping[str, Any] = field(default_factory=dict)
    _renew: OperatorToken | None = None
    _vaults: dict[str, Vault] = field(default_factory=dict)

    def settings(self, tree: AppTree) -> Settings:
        """The settings of a plan for ``tree``.

        Raises:
            InputError: something that a plan needs is said nowhere.
        """
        return Settings(
            tree=tree_id(self.options.tree or str(self.written.get("tree", "")), tree),
            subscription=self.named["subscription"],
            resource_group=self._needed("resource-group"),
            location=self._needed("location"),
            issuer=self._needed("issuer"),
            bind=_bind(self.options.bind or str(self.written.get("bind", "secret"))),
            create_vaults=self.options.create_vaults or self.written.get("create-vaults") is True,
        )

    def vault(self, name: str) -> Vault:
        """The vault called ``name``; InputError if the subscription has none."""
        if name.lower() not in self._vaults:
            self._vaults = {vault.name.lower(): vault for vault in self.azure.vaults()}
        vault = self._vaults.get(name.lower())
        if vault is None:
            known = ", ".join(sorted(v.name for v in self._vaults.values())[:10])
            raise InputError(
                f"the subscription has no vault {name!r}",
                hint=f"it has: {known}" if known else "keyleaf apply --create-vaults makes those that Git names",
            )
        return vault

    def secret_client(self, vault: str) -> SecretClient:
        """Microsoft's client of the vault called ``vault``."""
        return self.azure.secret_client(self.vault(vault))

    def renew(self) -> None:
        """Keep a long session signed in: call it before each round of work."""
        if self._renew is not None:
            self._renew.write_when_due()

    def _needed(self, key: str) -> str:
        value = self.named.get(key, "")
        if not value:
            raise InputError(
                f"the {key.replace('-', ' ')} is said nowhere",
                hint=f'--{key}, ${_variable(key)}, or {key} = "…" in {SETTINGS_FILE} beside the tree',
            )
        return value


def connect(
    state: Path | None = None, options: Options | None = None, *, path: str = "", clock: Clock | None = None
) -> Session:
    """Sign in to the embedded Azure of ``state`` if a server has written its ``connection.json`` there, else to Azure.

    Args:
        path: the tree, where it is a directory: ``keyleaf.toml`` is read there, otherwise in the working directory.

    Raises:
        InputError: no subscription is named, or keyleaf.toml cannot be used.
        StateError: the state directory cannot be used.
    """
    options = options or Options(state=state)
    directory = state or options.state or Path(os.environ.get("KEYLEAF_STATE") or ".keyleaf")
    written = read_settings_file(path)
    connection = None if options.real else read_connection(directory)
    if connection is not None:
        _check_alive(str(connection["arm"]), directory)
        token = _enter(connection, directory, clock or SystemClock())
        named = {
            "subscription": connection["subscription_id"],
            "resource-group": connection["resource_group"],
            "location": connection["location"],
            "issuer": connection["issuer"],
        }
        return Session(_azure(named["subscription"], connection["arm"]), options, directory, named, written, token)
    given = {
        "subscription": options.subscription,
        "resource-group": options.resource_group,
        "location": options.location,
        "issuer": options.issuer,
        "arm": "",
    }
    named = {
        key: value or os.environ.get(_variable(key), "") or str(written.get(key, "")) for key, value in given.items()
    }
    if not named["subscription"]:
        raise InputError(
            f"no embedded Azure runs in {directory}, and no subscription is named",
            hint="start one with keyleaf up, or set AZURE_SUBSCRIPTION_ID",
        )
    return Session(_azure(named["subscription"], named["arm"]), options, None, named, written)


def _azure(subscription: str, arm: str) -> MicrosoftAzure:
    # Microsoft's SDKs take half a second to import: only commands that talk to Azure pay for it.
    from azure.identity import DefaultAzureCredential

    from keyleaf.cloud import PUBLIC_ARM, MicrosoftAzure

    return MicrosoftAzure(
        DefaultAzureCredential(),
        subscription,
        arm=arm or PUBLIC_ARM,
        tenant=os.environ.get("AZURE_TENANT_ID", ""),
    )


class OperatorToken:
    """The file that the operator signs in with: a service account's token, renewed at half its life."""

    def __init__(self, file: Path, mint: Callable[[], str], lifetime: float, clock: Clock) -> None:
        self._file = file
        self._mint = mint
        self._lifetime = lifetime
        self._clock = clock
        self._due = 0.0

    def write_when_due(self) -> None:
        """Write a fresh token if the present one is past half its life."""
        now = self._clock.now()
        if now < self._due:
            return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(self._mint())
        fresh.replace(self._file)
        self._due = now + self._lifetime / 2


def _enter(connection: Mapping[str, Any], directory: Path, clock: Clock) -> OperatorToken:
    """Set the variables that Microsoft's SDKs read, for this process only."""
    token_file = directory.resolve() / "run" / "operator.token"
    token = OperatorToken(token_file, _minter(connection, directory.resolve(), clock), LIFETIME, clock)
    token.write_when_due()
    bundle = str(connection["ca_bundle"])
    os.environ.update(
        {
            "AZURE_AUTHORITY_HOST": str(connection["authority"]),
            "AZURE_TENANT_ID": str(connection["tenant_id"]),
            "AZURE_CLIENT_ID": str(connection["operator_client_id"]),
            "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
            "AZURE_TOKEN_CREDENTIALS": "WorkloadIdentityCredential",
            "REQUESTS_CA_BUNDLE": bundle,
            "SSL_CERT_FILE": bundle,
            "NO_PROXY": ",".join(filter(None, (os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost"))),
        }
    )
    return token


def _check_alive(arm: str, directory: Path) -> None:
    """Tell at once that the server is not running: the SDKs would go on trying for a quarter of a minute."""
    address = urlsplit(arm)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        raise StateError(
            f"the embedded Azure of {directory} is not running",
            hint="keyleaf up starts it; --azure talks to the Azure of the environment",
        ) from None


def _minter(connection: Mapping[str, Any], directory: Path, clock: Clock) -> Callable[[], str]:
    issuer = ServiceAccountIssuer.open(directory / "oidc" / "local", str(connection["issuer"]))
    return lambda: issuer.token(OPERATOR_NAMESPACE, OPERATOR, now=clock.now())


def read_connection(directory: Path) -> dict[str, Any] | None:
    """What the embedded server of ``directory`` says about itself; None if none was ever ready there."""
    file = directory / "connection.json"
    try:
        connection = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateError(f"{file} cannot be read: {error}", hint="start the server again: keyleaf up") from None
    needed = ("authority", "arm", "tenant_id", "subscription_id", "resource_group", "location", "ca_bundle", "issuer")
    if not isinstance(connection, dict) or any(key not in connection for key in (*needed, "operator_client_id")):
        raise StateError(f"{file} is not complete", hint="start the server again: keyleaf up")
    return connection


def remember_tree(directory: Path | None, path: str, revision: str) -> None:
    """Note in the state directory which tree was applied last, so that ``keyleaf who`` need not be told."""
    if directory is not None:
        place = str(Path(path).resolve()) if Path(path).exists() else path
        noted = {"version": 1, "path": place, "revision": revision}
        fresh = directory / f"tree.json.{os.getpid()}"
        fresh.write_text(json.dumps(noted), "utf-8")
        fresh.replace(directory / "tree.json")


def remembered_tree(directory: Path | None) -> tuple[str, str] | None:
    """Path and revision of the tree that was applied last; None if there is none to remember."""
    try:
        noted = json.loads(((directory or Path()) / "tree.json").read_bytes()) if directory else {}
        return str(noted["path"]), str(noted["revision"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_settings_file(path: str) -> dict[str, Any]:
    """``keyleaf.toml`` beside the tree, or in the working directory; empty if there is none."""
    folder = Path(path) if path and Path(path).is_dir() else Path()
    file = folder / SETTINGS_FILE
    try:
        written = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {error}", where=Location(str(file))) from None
    unknown = sorted(set(written) - _KEYS)
    if unknown:
        raise InputError(
            f"unknown setting {unknown[0]!r}", hint=f"known: {', '.join(sorted(_KEYS))}", where=Location(str(file))
        )
    return written


def tree_id(said: str, tree: AppTree) -> str:
    """The id of ``tree``: as said, else the name of its one root Application, else that of its folder.

    It marks in Azure what keyleaf made; the same repository must get the same id on every machine.
    """
    if not said:
        roots = tree.children("")
        said = roots[0].name if len(roots) == 1 else re.sub(r"(\.git)?/*$", "", tree.root).rsplit("/", 1)[-1]
        said = re.sub(r"[^A-Za-z0-9._-]+", "-", said).strip("-._")[:64] or "tree"
    if not _TREE_ID.match(said):
        raise InputError(f"{said!r} is not a tree id", hint="1 to 64 letters, digits, dots, hyphens and underscores")
    return said


def _bind(text: str) -> Bind:
    if text not in _BINDS:
        raise InputError(f"cannot bind roles to {text!r}", hint=f"one of: {', '.join(_BINDS)}")
    return _BINDS[text]


def _variable(key: str) -> str:
    return {"subscription": "AZURE_SUBSCRIPTION_ID", "arm": "AZURE_RESOURCE_MANAGER_URL"}.get(
        key, f"KEYLEAF_{key.replace('-', '_').upper()}"
    )
