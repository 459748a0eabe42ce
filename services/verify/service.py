"""Verifies an evidence archive against trust.json: the walk over all links, stopping at the first broken one."""

from collections.abc import Sequence
from pathlib import Path

from services.core import archive
from services.core.errors import AiInfraError
from services.core.storedzip import Reader
from services.core.trust import Trust
from services.verify.chain import OWN, Check, chain
from services.verify.prediction import warnings
from services.verify.report import BROKEN, NOT_CHECKABLE, NOT_CLAIMED, NOT_REACHED, OK, Link, Report
from services.verify.walk import BrokenLink, Own, Walk, require

WATERMARK = Link("watermark", NOT_CLAIMED, "the manifest claims none")
FORKS = Link("log is not forked or cut", NOT_CHECKABLE, "needs a checkpoint that a witness or you kept: --against")
CONSISTENT = Link("log is not forked or cut", OK, "consistent with the checkpoint given")
NOT_GIVEN = Link(OWN[0], NOT_CHECKABLE, "needs what you sent and got: --input with --salt, --output")

MALFORMED = (AiInfraError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RecursionError)
"""Evidence of the wrong shape is broken evidence: the walk ends with a link's name, never with a stack trace."""


def verify(path: Path, trust: Trust, model: Path | None = None, against: bytes | None = None, own: Own | None = None) -> Report:
    """The report. It opens no file but the archive and the model folder, and raises nothing for what is in them.

    Args:
        model: folder of the weights, if the archive holds none.
        against: an older signed checkpoint, from a witness or kept.
        own: request and answer as the caller has them, to be compared with the record.
    """
    own = own or Own()
    try:
        with Reader.open(path) as members:
            walk = Walk(members, trust, model, against, own)
            predicted = _check_members(walk)
            report = _walk(walk, chain(predicted=predicted, own=own.given))
    except MALFORMED as error:
        rest = chain(predicted=False, own=False)
        return Report(path.name, (Link("archive", BROKEN, _say(error)), *_not_reached(rest)))
    if report.broken is not None:
        return report
    last = (WATERMARK, FORKS if against is None else CONSISTENT, *((NOT_GIVEN,) if predicted and not own.given else ()))
    return Report(report.subject, (*report.links, *last), report.warnings)


def _check_members(walk: Walk) -> bool:
    """Whether the archive is about a prediction; it has the members for that, and no other."""
    names = set(walk.members)
    if missing := sorted(set(archive.FIXED) - names):
        raise BrokenLink(f"member {missing[0]!r} is missing")
    predicted = walk.index["prediction"] is not None
    require(predicted or not walk.own.given, "it is about no prediction: there is no record to compare input and output with")
    known = {*archive.FIXED, *(archive.OF_PREDICTION if predicted else ())}
    if missing := sorted(known - names):
        raise BrokenLink(f"member {missing[0]!r} is missing: the archive is about a prediction")
    if unknown := sorted(name for name in names - known if not name.startswith(archive.FOLDERS)):
        raise BrokenLink(f"member {unknown[0]!r} is none that this archive has: nothing in it is taken on its own word")
    require(list(walk.members) == archive.ordered(names), "its members stand in another order than they are written in")
    return predicted


def _walk(walk: Walk, checks: Sequence[tuple[str, Check]]) -> Report:
    links = [Link("archive", OK, f"{len(walk.members)} members, nothing beside them")]
    for position, (name, check) in enumerate(checks):
        try:
            links.append(Link(name, OK, check(walk)))
        except MALFORMED as error:
            return Report(walk.subject, (*links, Link(name, BROKEN, _say(error)), *_not_reached(checks[position + 1 :])))
    return Report(walk.subject, tuple(links), warnings(walk))


def _not_reached(checks: Sequence[tuple[str, Check]]) -> list[Link]:
    return [Link(name, NOT_REACHED, "") for name, _ in checks]


def _say(error: Exception) -> str:
    return str(error) if isinstance(error, AiInfraError) else f"malformed: {type(error).__name__} {error}"
