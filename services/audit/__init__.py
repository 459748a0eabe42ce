"""The audit bus: append, hash chain, Merkle log, proofs, export."""
