"""Who may call a route: every route that needs a role says which operation it is, and SentinelNet's authz rule decides."""

from collections.abc import Callable
from typing import Any

from fastapi import Depends

from services.core.http import Actor

Authorise = Callable[[str, str], None]
"""actor (SPIFFE URI), operation → nothing. Raises Refused naming the rule, Unavailable when the engine is away."""


def allowed(authorise: Authorise, operation: str) -> Any:
    """A dependency that answers the actor, once the operation is allowed."""

    def check(actor: Actor) -> str:
        authorise(actor, operation)
        return actor

    return Depends(check)
