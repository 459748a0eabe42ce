"""What every service needs: canonical JSON, digests, ids, clock, errors, database, object store, HTTP, cryptographic formats."""
