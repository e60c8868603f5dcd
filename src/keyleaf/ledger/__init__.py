"""The tamper-evident audit log: Merkle proofs, signed checkpoints, writer, readers, exports."""
