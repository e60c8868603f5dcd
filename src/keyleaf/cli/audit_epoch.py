"""An honest restore: the log goes on in a new epoch. Opens the installation as the server does, without serving."""

from __future__ import annotations

import getpass
import sys

from keyleaf.cli.audit_log import LogPlace
from keyleaf.core.clock import SystemClock, SystemRandomness
from keyleaf.core.errors import InputError, LedgerError
from keyleaf.ledger import Checkpoint, Ed25519Signer, Ledger, open_note
from keyleaf.server.app import LOG_ORIGIN
from keyleaf.server.bootstrap import log_signing_key
from keyleaf.store import Database, StateDirectory, StateLock, write_private
from keyleaf.store.rootkey import open_keyring


def begin_epoch(place: LogPlace, reason: str) -> tuple[str, Checkpoint]:
    """Begin a new epoch; returns its first checkpoint, as a note and read.

    Raises:
        StateError: a server is running, or the root key is not this installation's.
        LedgerError: the restored log does not even fit itself, or nothing was signed yet.
    """
    state, randomness = StateDirectory.open(place.root), SystemRandomness()
    with StateLock.hold(state.lock):
        database = Database.open(place.url)
        try:
            ask = getpass.getpass if sys.stdin.isatty() else None
            with database.write() as connection:
                keyring = open_keyring(connection, state, randomness, ask=ask)
                signer = Ed25519Signer(LOG_ORIGIN, log_signing_key(connection, keyring, randomness))
            kept = state.root / "ledger.checkpoint"
            ledger = Ledger.open(
                place.url,
                signer=signer,
                origin=LOG_ORIGIN,
                writer_lock=database.writer_lock if database.dialect == "sqlite" else None,
                on_checkpoint=lambda note: write_private(kept, note.encode()),
            )
            try:
                before = None
                if place.kept:
                    try:
                        before = (open_note(place.kept, ledger.vkey), place.kept)
                    except InputError:
                        raise LedgerError(
                            f"{kept} is not a checkpoint of this log", hint="remove it if it is lost"
                        ) from None
                note = ledger.begin_epoch(int(SystemClock().now() * 1_000_000), reason, before)
                return note, open_note(note, ledger.vkey)
            finally:
                ledger.close()
        finally:
            database.close()
