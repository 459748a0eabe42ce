"""The API process: it joins registry, training, SentinelNet, serving and the audit log, and owns their databases."""
