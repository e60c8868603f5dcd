"""The tamper-evident audit log: Merkle proofs, signed checkpoints, writer, readers, exports."""

from keyleaf.ledger.checkpoint import Checkpoint, Ed25519Signer, Signer, open_note, verifier_key
from keyleaf.ledger.connecting import connect
from keyleaf.ledger.reader import Filter, query, reads_of
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
    "connect",
    "open_note",
    "query",
    "reads_of",
    "verifier_key",
    "verify",
]
