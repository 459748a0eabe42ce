"""Campaigns against the real processes. Each is a module that runs by itself; the suite runs a few rounds of it."""
