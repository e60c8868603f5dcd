"""Signed checkpoints, in the C2SP tlog-checkpoint form.

A checkpoint is a *signed note*: three lines (origin, size, base64 of the root), an empty line, and signature lines
``— <key name> <base64 of key id ‖ signature>``. The key id is the first four bytes of
SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key); 0x01 stands for Ed25519.

Source: https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keyleaf.core.errors import InputError

_ED25519 = b"\x01"
_LONGEST_NOTE = 16_384


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log at one size. ``origin`` names the log and its epoch."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


class Signer(Protocol):
    """Signs notes under one key name."""

    @property
    def name(self) -> str:
        """The key's name: no white space, no plus sign."""
        ...

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature, 64 bytes."""
        ...


class Ed25519Signer:
    """Signs with a private key in memory."""

    def __init__(self, name: str, private_key: bytes) -> None:
        self.name = name
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        self.public_key = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message)


def key_id(name: str, public_key: bytes) -> bytes:
    """The four bytes that tell keys of one name apart."""
    return sha256(name.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def verifier_key(name: str, public_key: bytes) -> str:
    """The public key as people pass it on: ``name+id+base64``."""
    return f"{name}+{key_id(name, public_key).hex()}+{base64.b64encode(_ED25519 + public_key).decode()}"


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """Name and public key.

    Raises:
        InputError: not a verifier key, or its id does not fit.
    """
    name, _, rest = text.strip().partition("+")
    identifier, _, encoded = rest.partition("+")
    try:
        raw = base64.b64decode(encoded, validate=True)
        name.encode()
    except (binascii.Error, ValueError):
        raw = b""
    if not name or len(raw) != 33 or raw[:1] != _ED25519 or identifier != key_id(name, raw[1:]).hex():
        raise InputError("not a verifier key", hint="name+id+base64, as in ledger.vkey")
    return name, raw[1:]


def sign_note(checkpoint: Checkpoint, signer: Signer) -> str:
    """The checkpoint as a signed note."""
    body = checkpoint.body()
    signature = key_id(signer.name, signer.public_key) + signer.sign(body.encode())
    return f"{body}\n— {signer.name} {base64.b64encode(signature).decode()}\n"


def open_note(note: str, vkey: str) -> Checkpoint:
    """The checkpoint in a note that carries a valid signature by this key.

    Raises:
        InputError: not a checkpoint, or not signed by this key.
    """
    name, public_key = parse_verifier_key(vkey)
    body, separator, signatures = note.partition("\n\n")
    if not separator or len(note) > _LONGEST_NOTE or not signatures.endswith("\n"):
        raise InputError("not a signed checkpoint", hint="three lines, an empty line, a signature line")
    checkpoint = _parse_body(body)
    expected = key_id(name, public_key)
    for line in signatures.split("\n"):
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "—" or parts[1] != name:
            continue
        try:
            raw = base64.b64decode(parts[2], validate=True)
        except (binascii.Error, ValueError):
            continue
        if raw[:4] == expected:
            try:
                Ed25519PublicKey.from_public_bytes(public_key).verify(raw[4:], checkpoint.body().encode())
            except InvalidSignature:
                break
            return checkpoint
    raise InputError(f"the checkpoint carries no valid signature by {name}")


def _parse_body(body: str) -> Checkpoint:
    lines = body.split("\n")
    try:
        root = base64.b64decode(lines[2], validate=True) if len(lines) == 3 else b""
    except (binascii.Error, ValueError):
        root = b""
    decimal = len(lines) == 3 and lines[1].isascii() and lines[1].isdigit() and len(lines[1]) < 19
    canonical = decimal and str(int(lines[1])) == lines[1] and base64.b64encode(root).decode() == lines[2]
    if not lines[0].isprintable() or not lines[0] or not canonical or len(root) != 32:
        raise InputError("not a checkpoint", hint="origin, size and base64 of the root, one a line")
    return Checkpoint(lines[0], int(lines[1]), root)


def epoch_of(origin: str) -> tuple[str, int]:
    """The log's name and the number of the epoch that an origin stands for."""
    name, separator, number = origin.rpartition("/epoch-")
    return (name, int(number)) if separator and number.isascii() and number.isdigit() else (origin, 1)
