"""What can go wrong with the log, one class per decision that a caller can make."""

from services.core.errors import Conflict, Refused, Unavailable


class Gap(Conflict):
    """An event's seq does not follow the last one of its source: send the events in between first."""


class KnownEvent(Conflict):
    """The log has this event id, or this seq of its source, with another body; it never changes."""


class NotPublished(Unavailable):
    """The entry is in the log, but under no signed checkpoint yet; retry after the next one."""


class NotCosigned(Unavailable):
    """Trust asks for more witnesses than have cosigned what happened so far; retry when they are back."""


class LogDiffers(Refused):
    """Table, tiles and signed checkpoints tell different histories. Nothing is published: restore the newest backup and verify."""
