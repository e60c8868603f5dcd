"""Signed notes: what was signed opens, and nothing else does."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_logs import ORIGIN, SIGNER, VKEY

from keyleaf.core.errors import InputError
from keyleaf.ledger import Checkpoint, Ed25519Signer, open_note, verifier_key
from keyleaf.ledger.checkpoint import epoch_of, key_id, parse_verifier_key, sign_note

CHECKPOINT = Checkpoint(ORIGIN, 42, bytes(range(32)))
NOTE = sign_note(CHECKPOINT, SIGNER)


def signed(body: str) -> str:
    """Any text as this key would sign it."""
    raw = key_id(SIGNER.name, SIGNER.public_key) + SIGNER.sign(body.encode())
    return f"{body}\n— {SIGNER.name} {base64.b64encode(raw).decode()}\n"


@given(st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_what_was_signed_opens(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert open_note(sign_note(checkpoint, SIGNER), VKEY) == checkpoint


def test_the_form_of_c2sp() -> None:
    origin, size, root, empty, signature, end = NOTE.split("\n")
    assert (origin, size, empty, end) == (ORIGIN, "42", "", "")
    assert base64.b64decode(root) == CHECKPOINT.root
    dash, name, encoded = signature.split(" ")
    assert (dash, name) == ("—", ORIGIN)
    assert len(base64.b64decode(encoded)) == 4 + 64


def test_the_verifier_key_of_the_standard_example() -> None:
    """The key of the example in Go's golang.org/x/mod/sumdb/note."""
    vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    name, public_key = parse_verifier_key(vkey)
    assert name == "PeterNeumann"
    assert verifier_key(name, public_key) == vkey


@given(st.data())
def test_no_altered_note_opens(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(NOTE) - 1))
    letter = data.draw(st.characters().filter(lambda c: c != NOTE[place]))
    changed = data.draw(
        st.sampled_from([NOTE[:place] + letter + NOTE[place + 1 :], NOTE[:place] + letter + NOTE[place:], NOTE[:place]])
    )
    with contextlib.suppress(InputError):
        # A second signature line, or white space that belongs to none, may be added: the checkpoint stays the same.
        assert open_note(changed, VKEY) == CHECKPOINT
        assert changed.startswith(CHECKPOINT.body())


@given(st.text() | st.text(alphabet="\n—+ 0aA=\ud800", max_size=40))
def test_junk_is_refused(junk: str) -> None:
    for text in (junk, junk + "\n\n" + junk, f"{junk}\n1\n{junk}\n\n— {ORIGIN} {junk}\n"):
        with pytest.raises(InputError):
            open_note(text, VKEY)
    with pytest.raises(InputError):
        parse_verifier_key(junk)
    with pytest.raises(InputError):
        parse_verifier_key(f"{junk}+{junk}+{junk}")


@pytest.mark.parametrize(
    "body",
    [
        f"{ORIGIN}\n042\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n-1\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n٤٢\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n9999999999999999999999\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n42\n{base64.b64encode(bytes(31)).decode()}\n",
        f"{ORIGIN}\n42\n",
        f"\n42\n{base64.b64encode(bytes(32)).decode()}\n",
        f"a\tb\n42\n{base64.b64encode(bytes(32)).decode()}\n",
        f"{ORIGIN}\n42\n{base64.b64encode(bytes(32)).decode()}\nextension\n",
    ],
)
def test_a_signature_does_not_make_a_checkpoint(body: str) -> None:
    with pytest.raises(InputError):
        open_note(signed(body), VKEY)


def test_lone_surrogates_in_the_origin_are_refused() -> None:
    raw = key_id(SIGNER.name, SIGNER.public_key) + bytes(64)
    note = f"\ud800\n1\n{base64.b64encode(bytes(32)).decode()}\n\n— {ORIGIN} {base64.b64encode(raw).decode()}\n"
    with pytest.raises(InputError):
        open_note(note, VKEY)


def test_another_key_and_another_name_are_refused() -> None:
    for other in (Ed25519Signer(ORIGIN, bytes(32)), Ed25519Signer("somebody", bytes(range(32)))):
        with pytest.raises(InputError):
            open_note(NOTE, verifier_key(other.name, other.public_key))
        with pytest.raises(InputError):
            open_note(sign_note(CHECKPOINT, other), VKEY)


def test_a_note_may_carry_other_signatures_too() -> None:
    witness = Ed25519Signer("witness.example", bytes(32))
    line = sign_note(CHECKPOINT, witness).split("\n")[-2]
    assert open_note(f"{NOTE}{line}\n", VKEY) == CHECKPOINT
    body, _, own = NOTE.partition("\n\n")
    assert open_note(f"{body}\n\n{line}\n{own}", VKEY) == CHECKPOINT


def test_the_epoch_of_an_origin() -> None:
    assert epoch_of(ORIGIN) == (ORIGIN, 1)
    assert epoch_of(f"{ORIGIN}/epoch-12") == (ORIGIN, 12)
    assert epoch_of(f"{ORIGIN}/epoch-x") == (f"{ORIGIN}/epoch-x", 1)
