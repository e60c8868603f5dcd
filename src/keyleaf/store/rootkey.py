"""Where the root key comes from: a private file, the environment, or a passphrase.

Whatever the source, table ``meta`` holds a check value: a wrong key is refused before anything is read or written.
The passphrase becomes a key by Argon2id with the second recommended parameters of RFC 9106, section 4.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from sqlalchemy import Connection, insert, select, update

from keyleaf.core.clock import Randomness, SystemRandomness
from keyleaf.core.errors import InputError, StateError
from keyleaf.store.envelope import KEY_BYTES, Keyring
from keyleaf.store.schema import meta
from keyleaf.store.state import StateDirectory, replace_durably, write_private

Provider = Literal["file", "env", "passphrase"]

KEY_VARIABLE = "KEYLEAF_ROOT_KEY"
NEW_KEY_VARIABLE = "KEYLEAF_NEW_ROOT_KEY"
PASSPHRASE_VARIABLE = "KEYLEAF_PASSPHRASE"  # noqa: S105 (the name of a variable)
NEW_PASSPHRASE_VARIABLE = "KEYLEAF_NEW_PASSPHRASE"  # noqa: S105 (the name of a variable)

_CHECK = b"keyleaf root key check"
_SALT_BYTES = 16


class RootKeyRecord(msgspec.Struct):
    """What ``meta`` says of the root key: its provider, the sealed check value, and the passphrase's parameters."""

    provider: Provider
    check: str
    salt: str = ""
    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 * 1024


def open_keyring(
    connection: Connection,
    state: StateDirectory,
    randomness: Randomness,
    *,
    provider: Provider | None = None,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> Keyring:
    """The keyring of an installation; makes the root key at the very first start.

    Args:
        connection: in a writing transaction.
        provider: None takes the one that the installation was made with (a file for a new one).
        ask: prompts for a passphrase without echo, when the environment holds none.

    Raises:
        StateError: the key is missing, readable by others, or not this installation's.
        InputError: the key is not 32 bytes of base64, or the passphrase is empty.
    """
    record = load_record(connection)
    if record is None:
        record = new_record(provider or "file", randomness)
        key = obtain(record, state, randomness, create=True, environment=environment, ask=ask)
        keyring = Keyring(key, randomness)
        store_record(connection, record, keyring)
        return keyring
    if provider is not None and provider != record.provider:
        raise StateError(
            f"this installation's root key comes from {record.provider}, not from {provider}",
            hint="keyleaf rekey changes it",
        )
    if record.provider == "file":
        settle_file(record, state)
    keyring = Keyring(obtain(record, state, randomness, create=False, environment=environment, ask=ask), randomness)
    if not opens(record, keyring):
        raise StateError(
            "this is not the root key of this installation", hint=f"it was made with provider {record.provider}"
        )
    return keyring


def opens(record: RootKeyRecord, keyring: Keyring) -> bool:
    """Whether ``keyring`` has the root key that the record's check value was made with."""
    try:
        return keyring.unseal("root-key-check", base64.b64decode(record.check)) == _CHECK
    except StateError:
        return False


def settle_file(record: RootKeyRecord, state: StateDirectory) -> None:
    """End a change of the key file that was cut short: the file that the database belongs to is the one that stays."""
    if not state.next_root_key.exists():
        return
    new = Keyring(_read_private(state.next_root_key), SystemRandomness())
    if opens(record, new):
        replace_durably(state.next_root_key, state.root_key)
    else:
        state.next_root_key.unlink()


def new_record(provider: Provider, randomness: Randomness) -> RootKeyRecord:
    """The description of a root key that is about to be used."""
    salt = base64.b64encode(randomness.token(_SALT_BYTES)).decode() if provider == "passphrase" else ""
    return RootKeyRecord(provider=provider, check="", salt=salt)


def store_record(connection: Connection, record: RootKeyRecord, keyring: Keyring) -> None:
    """Write the description together with the check value of ``keyring``."""
    record.check = base64.b64encode(keyring.seal("root-key-check", _CHECK)).decode()
    value = msgspec.json.encode(record).decode()
    if load_record(connection) is None:
        connection.execute(insert(meta).values(key="root-key", value=value))
    else:
        connection.execute(update(meta).where(meta.c.key == "root-key").values(value=value))


def obtain(
    record: RootKeyRecord,
    state: StateDirectory,
    randomness: Randomness,
    *,
    create: bool,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> bytes:
    """The 32 bytes of the root key that ``record`` describes."""
    if record.provider == "file":
        if create and not state.root_key.exists():
            write_key_file(state.root_key, randomness.token(KEY_BYTES))
        return _read_private(state.root_key)
    if record.provider == "env":
        return _from_environment(environment, KEY_VARIABLE)
    return _from_passphrase(record, environment.get(PASSPHRASE_VARIABLE) or (ask("Passphrase: ") if ask else ""))


def obtain_new(
    record: RootKeyRecord,
    state: StateDirectory,
    randomness: Randomness,
    *,
    environment: Mapping[str, str] = os.environ,
    ask: Callable[[str], str] | None = None,
) -> bytes:
    """The root key to change over to; a new file waits beside the old one.

    Raises:
        StateError: the variable for the new key is not set.
        InputError: it holds no key, or the passphrase is empty or was not typed alike twice.
    """
    if record.provider == "file":
        key = randomness.token(KEY_BYTES)
        write_key_file(state.next_root_key, key)
        return key
    if record.provider == "env":
        return _from_environment(environment, NEW_KEY_VARIABLE)
    passphrase = environment.get(NEW_PASSPHRASE_VARIABLE, "")
    if not passphrase and ask is not None:
        passphrase = ask("New passphrase: ")
        if passphrase != ask("New passphrase again: "):
            raise InputError("the two new passphrases are not the same", hint="nothing has been changed")
    return _from_passphrase(record, passphrase, NEW_PASSPHRASE_VARIABLE)


def write_key_file(path: Path, key: bytes) -> None:
    """Write a root key to a private file."""
    write_private(path, base64.b64encode(key) + b"\n")


def _read_private(path: Path) -> bytes:
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise StateError(f"others may read the root key {path}", hint=f"chmod 600 {path}")
        return _decode(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise StateError(f"the root key {path} is missing", hint="restore it from your backup") from None


def _from_environment(environment: Mapping[str, str], variable: str) -> bytes:
    text = environment.get(variable)
    if not text:
        raise StateError(f"{variable} is not set", hint="base64 of 32 random bytes: openssl rand -base64 32")
    return _decode(text.encode(), variable)


def _from_passphrase(record: RootKeyRecord, passphrase: str, variable: str = PASSPHRASE_VARIABLE) -> bytes:
    if not passphrase:
        raise InputError("the passphrase is empty", hint=f"set {variable} or type it when asked")
    derive = Argon2id(
        salt=base64.b64decode(record.salt),
        length=KEY_BYTES,
        iterations=record.iterations,
        lanes=record.lanes,
        memory_cost=record.memory_kib,
    )
    return derive.derive(passphrase.encode())


def _decode(text: bytes, place: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise InputError(f"{place} does not hold a root key", hint="base64 of exactly 32 bytes")
    return key


def load_record(connection: Connection) -> RootKeyRecord | None:
    """What the database says of its root key; None before the first start."""
    value = connection.execute(select(meta.c.value).where(meta.c.key == "root-key")).scalar_one_or_none()
    return None if value is None else msgspec.json.decode(value, type=RootKeyRecord)
