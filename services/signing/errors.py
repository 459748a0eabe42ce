"""What can go wrong with a signature, one class per decision of the caller."""

from services.core.errors import BadInput, Refused, Unavailable


class SignerUnavailable(Unavailable):
    """The key service, or the proxy itself, did not answer; nothing was signed; retry."""


class KeyRefused(Refused):
    """The key is disabled, unknown, or not for this; do not retry."""


class BadPayload(BadInput):
    """The bytes are not what this key signs; do not retry."""


class CheckpointRefused(Refused):
    """The checkpoint would shrink, rewrite or fork the log."""
