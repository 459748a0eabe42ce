"""The offline verifier. It imports nothing of the platform but core, takes trust from trust.json alone, and opens no connection."""
