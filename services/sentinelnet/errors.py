"""What a caller of SentinelNet can decide on."""

from services.core.errors import NotFound, Refused, Unavailable


class PolicyUnavailable(Unavailable):
    """The policy engine did not answer, or no bundle is published: nothing was decided or recorded; retry."""


class PolicyChanged(Unavailable):
    """Another bundle became active meanwhile: nothing was recorded; build the input again and retry."""


class Denied(Refused):
    """The decision is recorded and is not pass; `rules` holds the reports that did not pass."""


class NoSuchDecision(NotFound):
    """No decision with this id."""
