"""What serving refuses, and what it cannot find."""

from services.core.errors import BadInput, Conflict, NotFound, Refused, Unavailable


class UnknownDeployment(NotFound):
    """No deployment with this id, or none of this model in this environment."""


class UnknownRollout(NotFound):
    """No rollout with this id."""


class UnknownPrediction(NotFound):
    """No prediction record with this id: never made, not yet written, or lost with a killed router."""


class AlreadyServed(Conflict):
    """A version serves in this environment: another, from which a rollout moves traffic, or the very one that is asked for."""


class RolloutRunning(Conflict):
    """One rollout of a model in an environment at a time; wait for it or abort it."""


class NotUndecided(Conflict):
    """The test decides about this rollout, or has decided: a person only decides what it leaves open."""


class Quarantined(Refused):
    """An active safety flag forbids to serve this version. Lifting it needs a signed clearance."""


class LoadRefused(Refused):
    """A predictor does not load what it was told to load: the message names the check that failed. Do not retry."""


class BadModel(BadInput):
    """The artifact verifies but is no model that a predictor can build."""


class Overloaded(Unavailable):
    """More requests than the predictors can answer in time: the router takes no more for now. Retry after a pause."""
