"""``keyleaf secret``: set, get, list and the rest, through Microsoft's own client. No value is ever an argument."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from keyleaf.cli import azure_options as o
from keyleaf.cli.present import console, print_json, print_table
from keyleaf.cli.secret_name import find_secret
from keyleaf.cli.session import Options, Session, connect
from keyleaf.core.errors import InputError

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretClient, SecretProperties

secret = typer.Typer(help="Set, read and look after the secrets of a vault.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="VAULT/NAME", help="The secret; the vault may be left out if only one fits.")
]
Version = Annotated[str, typer.Option("--version", help="32 hex digits. Default: the latest.")]
_AGE = re.compile(r"([0-9]{1,5})([hdw])\Z")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@secret.command("set")
def set_secret(
    name: Name,
    content_type: Annotated[str, typer.Option(help="What the value is, for people.")] = "",
    expires: Annotated[str, typer.Option(help="A time such as 2030-01-31 or 2030-01-31T12:00Z, or an age: 90d.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be given more than once.")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="The new version cannot be read until enabled.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Keep the newline at the end of standard input.")] = False,
    as_json: o.Json = False,
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """Make a new version. The value comes from standard input, or from a hidden prompt on a terminal."""
    tags = dict(_tag(text) for text in tag or ())
    moment = expiry(expires, datetime.now(UTC)) if expires else None
    session = _session(state, azure, subscription)
    vault, plain = find_secret(session, name)
    value = _value(f"{vault.name}/{plain}", raw)
    with _told(f"set {vault.name}/{plain}"):
        made = session.azure.secret_client(vault).set_secret(
            plain,
            value,
            content_type=content_type or None,
            expires_on=moment,
            tags=tags or None,
            enabled=not disabled,
        )
    if as_json:
        print_json(properties_as_data(vault.name, made.properties))
    else:
        console().print(f"{escape(vault.name)}/{escape(plain)}  [dim]version[/] {made.properties.version}")


@secret.command("get")
def get_secret(
    name: Name,
    version: Version = "",
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the value, on a terminal and in JSON too.")] = False,
    as_json: o.Json = False,
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """Write the value to standard output, byte for byte; a terminal and --json get it only with --reveal."""
    session = _session(state, azure, subscription)
    vault, plain = find_secret(session, name)
    client = session.azure.secret_client(vault)
    terminal = sys.stdout.isatty()
    if not reveal and (as_json or terminal):
        with _told(f"look up {vault.name}/{plain}"):
            properties = _properties(client, plain, version)
        if as_json:
            print_json(properties_as_data(vault.name, properties))
        else:
            described = properties_as_data(vault.name, properties)
            print_table(("", ""), [(key, _cell(value)) for key, value in described.items()])
            console(stderr=True).print("[dim]The value is not shown on a terminal; --reveal shows it.[/]")
        return
    with _told(f"read {vault.name}/{plain}"):
        found = client.get_secret(plain, version or None)
    if as_json:
        print_json({**properties_as_data(vault.name, found.properties), "value": found.value})
        return
    sys.stdout.buffer.write((found.value or "").encode())
    if terminal:
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


@secret.command("list")
def list_secrets(
    vault: Annotated[str, typer.Argument(metavar="VAULT", help="All vaults of the subscription if left out.")] = "",
    as_json: o.Json = False,
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """List secrets with their attributes, never their values."""
    session = _session(state, azure, subscription)
    rows: list[dict[str, Any]] = []
    for one in [session.vault(vault)] if vault else session.azure.vaults():
        with _told(f"list the secrets of {one.name}"):
            found = list(session.azure.secret_client(one).list_properties_of_secrets())
        rows += [properties_as_data(one.name, properties) for properties in found]
    _show(rows, as_json, ("vault", "name", "enabled", "expires", "updated", "content_type"))


@secret.command("versions")
def list_versions(
    name: Name,
    as_json: o.Json = False,
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """List the versions of a secret, the newest first."""
    session = _session(state, azure, subscription)
    vault, plain = find_secret(session, name)
    with _told(f"list the versions of {vault.name}/{plain}"):
        found = _versions(session.azure.secret_client(vault), plain)
    rows = [properties_as_data(vault.name, properties) for properties in found]
    _show(rows, as_json, ("version", "enabled", "created", "expires", "content_type"))


@secret.command("disable")
def disable(
    name: Name,
    version: Version = "",
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """Refuse reads of a version from now on."""
    _enable(name, version, False, _session(state, azure, subscription))


@secret.command("enable")
def enable(
    name: Name,
    version: Version = "",
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """Allow reads of a disabled version again."""
    _enable(name, version, True, _session(state, azure, subscription))


@secret.command("delete")
def delete(name: Name, state: o.State = None, azure: o.Real = False, subscription: o.Subscription = "") -> None:
    """Delete a secret with all its versions; it can be recovered until the vault purges it."""
    session = _session(state, azure, subscription)
    vault, plain = find_secret(session, name)
    with _told(f"delete {vault.name}/{plain}"):
        session.azure.secret_client(vault).begin_delete_secret(plain).wait()
    console().print(f"deleted {escape(vault.name)}/{escape(plain)}; undo: keyleaf secret recover {vault.name}/{plain}")


@secret.command("recover")
def recover(name: Name, state: o.State = None, azure: o.Real = False, subscription: o.Subscription = "") -> None:
    """Bring a deleted secret back with all its versions."""
    session = _session(state, azure, subscription)
    vault, plain = find_secret(session, name)
    with _told(f"recover {vault.name}/{plain}"):
        session.azure.secret_client(vault).begin_recover_deleted_secret(plain).wait()
    console().print(f"recovered {escape(vault.name)}/{escape(plain)}")


def properties_as_data(vault: str, properties: SecretProperties) -> dict[str, Any]:
    """A version's attributes as plain data; times in ISO 8601, UTC."""
    return {
        "vault": vault,
        "name": properties.name,
        "version": properties.version or "",
        "enabled": properties.enabled is not False,
        "created": _time(properties.created_on),
        "updated": _time(properties.updated_on),
        "not_before": _time(properties.not_before),
        "expires": _time(properties.expires_on),
        "content_type": properties.content_type or "",
        "tags": dict(properties.tags or {}),
    }


def expiry(text: str, now: datetime) -> datetime:
    """When a new version expires: an ISO 8601 time, UTC unless it says otherwise, or an age such as ``90d``."""
    age = _AGE.match(text)
    if age:
        return now + int(age[1]) * _UNITS[age[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{text!r} is not a time", hint="2030-01-31, 2030-01-31T12:00Z, or an age: 12h, 90d, 8w"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _session(state: Any, azure: bool, subscription: str) -> Session:
    return connect(options=Options(state=state, real=azure, subscription=subscription))


def _told(what: str) -> Any:
    from keyleaf.cloud import told

    return told(what)


def _value(name: str, raw: bool) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"Value of {name}", hide_input=True, confirmation_prompt="Once more"))
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise InputError("the value is not UTF-8", hint="encode it first, with base64 for example") from None
    return text if raw else text.removesuffix("\n").removesuffix("\r")


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InputError(f"{text!r} is not a tag", hint="KEY=VALUE")
    return key, value


def _versions(client: SecretClient, name: str) -> list[SecretProperties]:
    found = list(client.list_properties_of_secret_versions(name))
    if not found:
        raise InputError(f"there is no secret {name!r}", hint="keyleaf secret list")
    # Azure promises no order. Versions of one second stand as they were listed.
    return sorted(found, key=lambda p: p.created_on or datetime.min.replace(tzinfo=UTC), reverse=True)


def _properties(client: SecretClient, name: str, version: str) -> SecretProperties:
    """A version's attributes, without asking for its value: that would be a read on record."""
    for properties in _versions(client, name):
        if not version or properties.version == version:
            return properties
    raise InputError(f"{name!r} has no version {version!r}", hint=f"keyleaf secret versions {name}")


def _enable(name: str, version: str, enabled: bool, session: Session) -> None:
    vault, plain = find_secret(session, name)
    client = session.azure.secret_client(vault)
    with _told(f"{'enable' if enabled else 'disable'} {vault.name}/{plain}"):
        found = _properties(client, plain, version)
        client.update_secret_properties(plain, found.version, enabled=enabled)
    word = "enabled" if enabled else "disabled"
    console().print(f"{word} {escape(vault.name)}/{escape(plain)}  [dim]version[/] {found.version}")


def _show(rows: list[dict[str, Any]], as_json: bool, columns: Iterable[str]) -> None:
    if as_json:
        print_json(rows)
        return
    names = tuple(columns)
    print_table(names, [[_cell(row[name]) for name in names] for row in rows])


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""
