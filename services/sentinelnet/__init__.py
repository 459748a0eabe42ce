"""SentinelNet: asks the policies, records the answer before it takes effect, publishes policy bundles."""
