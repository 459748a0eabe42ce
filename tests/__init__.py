"""Tests. Real peers where a promise is about other people's tools; fakes implement ports; nothing is patched."""

from contextlib import suppress

# torch before regopy: the other way round, loading torch's native library ends the process ("double free or corruption").
# No process of the platform loads both; one run of all tests does.
with suppress(ImportError):
    import torch  # noqa: F401
