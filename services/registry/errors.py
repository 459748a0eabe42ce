"""What a caller of the registry can meet beyond the core errors."""

from services.core.errors import Conflict, NotFound, Refused


class UnknownDataset(NotFound):
    """No data set with this id or name@version."""


class UnknownArtifact(NotFound):
    """No artifact with this id, or one of its files is not in the store."""


class UnknownModel(NotFound):
    """No such model version."""


class UnknownPromotion(NotFound):
    """No such promotion."""


class UnknownFlag(NotFound):
    """No such flag, or it is lifted."""


class AlreadyRegistered(Conflict):
    """The name stands for other content; names and versions are never reused."""


class StageChanged(Conflict):
    """The version's stage, flags or request changed while the promotion ran; look again before asking again."""


class AlreadyPromoted(Conflict):
    """The version is in the stage that is asked for, or in a higher one: no promotion leads there."""


class PromotionRefused(Refused):
    """SentinelNet or the quorum said no; `rules` names which."""
