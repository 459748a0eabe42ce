"""One class per decision that a caller can make. Services subclass these; `core.http` maps the bases to status codes."""

from typing import Any


class AiInfraError(Exception):
    """retryable: the same call may succeed later, unchanged."""

    retryable = False


class BadInput(AiInfraError):
    """The request is malformed; repeating it cannot help."""


class BadJson(BadInput):
    """Not the strict JSON that canonical bytes can be made of."""


class TooLarge(BadInput):
    """The body or a field is over its stated limit."""


class BadSetting(AiInfraError):
    """A setting is missing, wrong or dangerous; the process does not start."""


class MissingTool(BadSetting):
    """A program that this needs is not on this machine; the message says how it is had."""


class Unauthenticated(AiInfraError):
    """No client certificate with a SPIFFE identity."""


class NotFound(AiInfraError):
    """No such thing."""


class Conflict(AiInfraError):
    """The thing exists already with other content, or changed in between."""


class Refused(AiInfraError):
    """A rule or a check says no. Nothing was changed.

    Args:
        message: what was refused, and why.
        rules: the reports that refused it, each {rule, verdict, reasons}.
    """

    def __init__(self, message: str, rules: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.rules = rules or []


class Unavailable(AiInfraError):
    """Something that we depend on did not answer; nothing was changed; retry later."""

    retryable = True
