"""Where keys live, one file each: PRODUCTION and open_signer(key: str, timeout_s: float) -> Signer."""
