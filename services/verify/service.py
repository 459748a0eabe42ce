"""Verifies an evidence archive against trust.json: the walk over all links, stopping at the first broken one."""

from pathlib import Path

from services.core.errors import AiInfraError
from services.core.trust import Trust
from services.verify import zipreader
from services.verify.links import LINKS, Walk
from services.verify.report import BROKEN, NOT_CHECKABLE, NOT_CLAIMED, NOT_REACHED, OK, Link, Report

WATERMARK = Link("watermark", NOT_CLAIMED, "the manifest claims none")
FORKS = Link("log is not forked or cut", NOT_CHECKABLE, "needs a checkpoint that a witness or you kept: --against")
CONSISTENT = Link("log is not forked or cut", OK, "consistent with the checkpoint given")


def verify(path: Path, trust: Trust, model: Path | None = None, against: bytes | None = None) -> Report:
    """The report. It opens no file but the archive and the model folder, and raises nothing for what is in them.

    model: folder of the weights, if the archive holds none; against: an older signed checkpoint, from a witness or kept.
    """
    subject, links = path.name, []
    try:
        members = zipreader.read(path)
        walk = Walk(members, trust, model, against)
        subject = f"{walk.reference} in {walk.index['environment']}"
        links.append(Link("archive", OK, f"{len(members)} members"))
    except (AiInfraError, KeyError, TypeError, ValueError) as error:
        return Report(subject, (Link("archive", BROKEN, _say(error)), *_rest(0)))
    for position, (name, check) in enumerate(LINKS):
        try:
            links.append(Link(name, OK, check(walk)))
        except (AiInfraError, OSError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            # Evidence of the wrong shape is broken evidence: the walk ends with its name, never with a stack trace.
            return Report(subject, (*links, Link(name, BROKEN, _say(error)), *_rest(position + 1)))
    return Report(subject, (*links, WATERMARK, FORKS if against is None else CONSISTENT))


def _rest(start: int) -> list[Link]:
    return [Link(name, NOT_REACHED, "") for name, _ in LINKS[start:]]


def _say(error: Exception) -> str:
    return str(error) if isinstance(error, AiInfraError) else f"malformed: {type(error).__name__} {error}"
