"""The tamper-evident audit log: Merkle proofs, signed checkpoints, writer, readers, exports."""

from keyleaf.ledger.checkpoint import Checkpoint, Ed25519Signer, Signer, open_note, verifier_key
from keyleaf.ledger.connecting import connect
from keyleaf.ledger.copies import copy_of, copy_of_export, snapshot
from keyleaf.ledger.export import audit_event, to_audit_events, to_csv, to_lines
from keyleaf.ledger.reader import Filter, Stored, StoredNote, last, notes, query, reads_of, stored_entries
from keyleaf.ledger.record import Record
from keyleaf.ledger.verify import Copy, Report, verify
from keyleaf.ledger.writer import Appended, Ledger, StaleGeneration

__all__ = [
    "Appended",
    "Checkpoint",
    "Copy",
    "Ed25519Signer",
    "Filter",
    "Ledger",
    "Record",
    "Report",
    "Signer",
    "StaleGeneration",
    "Stored",
    "StoredNote",
    "audit_event",
    "connect",
    "copy_of",
    "copy_of_export",
    "last",
    "notes",
    "open_note",
    "query",
    "reads_of",
    "snapshot",
    "stored_entries",
    "to_audit_events",
    "to_csv",
    "to_lines",
    "verifier_key",
    "verify",
]
