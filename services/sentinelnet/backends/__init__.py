"""Policy engines; the folder listing is the register. Each has PRODUCTION and open_engine(url)."""
