"""Serving: deployments, the verified model server, the router with its prediction records, canary and rollback."""
