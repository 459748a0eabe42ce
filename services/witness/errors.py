"""Why a witness does not cosign, one class per answer of C2SP tlog-witness."""

from services.core.errors import BadInput, Conflict, NotFound, Refused


class BadRequest(BadInput):
    """Not a request of the protocol, or an old size above the checkpoint's. 400."""


class UnknownLog(NotFound):
    """The witness does not follow a log of this origin. 404."""


class NotSigned(Refused):
    """No key that the witness trusts for the log signed the checkpoint. 403."""


class WrongSize(Conflict):
    """The old size is not that of the last cosigned checkpoint, or the root of this size is another. 409.

    size: of the last cosigned checkpoint, from which the next proof must start.
    """

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class NotConsistent(Refused):
    """The proof does not show that the checkpoint extends the last cosigned one. 422."""
