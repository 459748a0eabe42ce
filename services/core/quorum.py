"""Who approved: k of n over the same bytes, counted by key and by person, the requester left out. Pure; it asks no clock."""

from dataclasses import dataclass

from services.core import dsse
from services.core.errors import Refused
from services.core.trust import Trust

ROLE = "approver"


class QuorumNotReached(Refused):
    """Too few distinct approvers."""


@dataclass(frozen=True, order=True)
class Approver:
    """One person who approved. signer: the key used (of several, the one whose id sorts first); roles: sorted."""

    person: str
    signer: str
    roles: tuple[str, ...]


def count(envelope: dsse.Envelope, trust: Trust, requester: str, at: int | None = None) -> list[Approver]:
    """The distinct approvers of an envelope, sorted by person.

    Args:
        requester: signer id of who asked: neither this key nor any other key of the same person counts.
        at: log index at which the approvals were used; None: now.
    Returns:
        Nobody when the requester is unknown: whom to leave out cannot be told then.
    """
    asking = trust.person_of(requester)
    if asking is None:
        return []
    approvers: dict[str, Approver] = {}
    for signer in sorted(dsse.verified_signers(envelope, trust.people_keys(at))):
        person = trust.person_of(signer)
        if person is None or person.person == asking.person or ROLE not in person.roles:
            continue
        approvers.setdefault(person.person, Approver(person.person, signer, tuple(sorted(person.roles))))
    return sorted(approvers.values())


def require(envelope: dsse.Envelope, trust: Trust, requester: str, needed: int, at: int | None = None) -> list[Approver]:
    """The approvers, if there are enough.

    Raises:
        QuorumNotReached: says who counted, so the caller sees whose signature did not.
    """
    approvers = count(envelope, trust, requester, at)
    if len(approvers) < needed:
        names = ", ".join(approver.person for approver in approvers) or "nobody"
        raise QuorumNotReached(f"{len(approvers)} of {needed} approvals (the requester left out): {names}")
    return approvers
