"""What can go wrong in training; one class per decision of the caller."""

from services.core.errors import BadInput, Conflict, NotFound, Refused, Unavailable


class BadJob(BadInput):
    """The job specification, the source archive or what a run wrote is not what it must be."""


class UnknownRun(NotFound):
    """No run with this id."""


class WrongState(Conflict):
    """The run is in a state in which this cannot be done."""


class InputsDiffer(Conflict):
    """A rerun would not have the recorded inputs; nothing was started."""


class TrainingRefused(Refused):
    """A policy forbids the run; only the decision was recorded."""


class ComputeUnavailable(Unavailable):
    """The machine that trains did not answer; retry."""
