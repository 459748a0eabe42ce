"""Checks a whole audit log, offline: every entry, tile and signature, each problem by its name. It repairs nothing.

What it can *not* see without a checkpoint from elsewhere: that the log was cut back to an earlier checkpoint, or that its key
signed two histories. It says so in `not_checkable`.
"""

from collections.abc import Sequence
from contextlib import closing

from services.core import cosignature, logfile, tlog
from services.core.errors import AiInfraError, NotFound
from services.core.keys import BadSignature
from services.core.logevents import Each, EventChecker
from services.core.logfile import LogReader
from services.core.logfindings import Findings, Kind, Report
from services.core.logtree import LogTree
from services.core.tlog import BadLogFormat, Checkpoint, VerifierKey


def check_log(
    reader: LogReader,
    vkey: VerifierKey,
    against: bytes | None = None,
    each: Each = lambda index, event, leaf: None,
    witnesses: Sequence[VerifierKey] = (),
    threshold: int = 0,
) -> Report:
    """Checks everything under the log's checkpoint.

    Args:
        reader: the log's files; trusted in nothing.
        vkey: the log's key, from a source other than the log.
        against: a signed checkpoint of this log kept elsewhere (an auditor's, a witness's). Only with it can truncation and
            forks be told.
        each: called for every well-formed entry, in order; to be believed only once the report is ok.
        witnesses: whose cosignatures count; threshold: how many of them the log's checkpoint must bear.
    """
    found = Findings()
    cosigned = _witnessed(reader, witnesses, threshold, found)
    kept, not_checkable = _kept(against, vkey, found)
    checkpoint = _checkpoint(reader, vkey, found)
    if checkpoint is None:
        not_checkable += ("entries: there is no checkpoint that says which",)
        return Report(0, None, found.sorted(), not_checkable, found.more, cosigned)
    with closing(EventChecker(found, each)) as events:
        tree = LogTree(reader, checkpoint, found, kept)
        tree.walk(events)
        events.finish()
        tree.finish(events.breaks)
    if kept is not None:
        not_checkable += tree.compare(kept)
    return Report(checkpoint.size, tree.root, found.sorted(), not_checkable, found.more, cosigned)


def _witnessed(reader: LogReader, witnesses: Sequence[VerifierKey], threshold: int, found: Findings) -> dict[str, int | None]:
    by: dict[str, int] = {}
    try:
        by = cosignature.cosigners(logfile.read_checkpoint(reader), witnesses)
    except BadSignature as error:
        found.add(Kind.BAD_SIGNATURE, str(error))
    except (NotFound, BadLogFormat):
        pass  # the check of the checkpoint says so
    if len(by) < threshold:
        absent = ", ".join(witness.name for witness in witnesses if witness.name not in by)
        found.add(Kind.NOT_WITNESSED, f"{len(by)} cosignatures, trust asks for {threshold}: none of {absent}")
    return {witness.name: by.get(witness.name) for witness in witnesses}


def _checkpoint(reader: LogReader, vkey: VerifierKey, found: Findings) -> Checkpoint | None:
    try:
        note = logfile.read_checkpoint(reader)
    except (NotFound, BadLogFormat) as error:
        found.add(Kind.BAD_CHECKPOINT, str(error))
        return None
    try:
        return tlog.open_checkpoint(note, vkey)
    except BadSignature as error:
        found.add(Kind.BAD_SIGNATURE, str(error))
    except BadLogFormat as error:
        found.add(Kind.BAD_CHECKPOINT, str(error))
    try:
        # The rest is still worth telling: which entries differ from what this checkpoint claims.
        return tlog.unverified_checkpoint(note)
    except BadLogFormat:
        return None


def _kept(note: bytes | None, vkey: VerifierKey, found: Findings) -> tuple[Checkpoint | None, tuple[str, ...]]:
    why = "no checkpoint from elsewhere was given"
    if note is not None:
        try:
            kept = tlog.open_checkpoint(note, vkey)
            if kept.size > 0:
                return kept, ()
            why = "the checkpoint from elsewhere is of an empty log"
        except AiInfraError as error:
            kind = Kind.BAD_SIGNATURE if isinstance(error, BadSignature) else Kind.BAD_CHECKPOINT
            found.add(kind, f"the checkpoint from elsewhere: {error}")
            why = "the checkpoint from elsewhere is not this log's"
    return None, (f"truncation: {why}", f"forks: {why}")
