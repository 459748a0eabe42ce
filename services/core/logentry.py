"""One entry of the audit log: an event and its link to the entry before it. Pure; shared by the log and by the offline verifier."""

from typing import Any

from services.core.canonical import canonical, parse_canonical
from services.core.digests import require_digest, sha256
from services.core.errors import BadInput, TooLarge
from services.core.events import FIELDS, TYPES, VERSION
from services.core.tlog import MAX_ENTRY_BYTES

NO_PREVIOUS = "sha256:" + "0" * 64
"""prevHash of the first entry."""

MAX_TEXT = 512
"""Characters in an event's id, source, actor, type, trace id, and in its subject's kind and id."""

_SUBJECT_FIELDS = frozenset({"kind", "id", "digest"})
_TEXTS = ("id", "source", "actor", "subject kind", "subject id", "traceId")


def require_event(event: Any) -> dict[str, Any]:
    """The event itself if it is one as its source makes it, without prevHash.

    Raises:
        BadInput: a missing, unknown or badly typed field, or a type that no event has.
    """
    if not isinstance(event, dict) or event.keys() != FIELDS:
        got = sorted(set(event) ^ FIELDS) if isinstance(event, dict) else type(event).__name__
        raise BadInput(f"an event has exactly the fields {sorted(FIELDS)}; missing or unknown: {got}")
    version, kind = event["version"], event["type"]
    if type(version) is not int or version != VERSION or not isinstance(kind, str) or kind not in TYPES:
        raise BadInput(f"event version {str(version)[:80]!r}, type {str(kind)[:80]!r}: no such event")
    seq, ts = event["seq"], event["ts"]
    if type(seq) is not int or seq < 1 or type(ts) is not int or ts < 0:
        raise BadInput("an event's seq is an integer of 1 or more, its ts of 0 or more")
    subject = event["subject"]
    if not isinstance(subject, dict) or subject.keys() != _SUBJECT_FIELDS:
        raise BadInput("an event's subject has exactly the fields kind, id and digest")
    texts = (event["id"], event["source"], event["actor"], subject["kind"], subject["id"], event["traceId"])
    for text in texts:
        if not isinstance(text, str) or len(text) > MAX_TEXT:
            raise BadInput(f"an event's {_TEXTS[texts.index(text)]} is a text of at most {MAX_TEXT} characters")
    if not all(texts[:-1]):
        raise BadInput(f"an event's {_TEXTS[texts.index('')]} is empty")
    if subject["digest"] is not None:
        require_digest(subject["digest"])
    for name in ("manifestRef", "signatureRef"):
        if (digest := event[name]) is not None:
            require_digest(digest)
    if not isinstance(event["payload"], dict):
        raise BadInput("an event's payload is an object")
    return event


def leaf_bytes(event: dict[str, Any], prev_hash: str) -> bytes:
    """The entry: canonical JSON of the event with prevHash.

    Raises:
        TooLarge: over 65,535 bytes, what an entry bundle can hold.
        BadJson: no canonical JSON.
    """
    leaf = canonical({**event, "prevHash": prev_hash})
    if len(leaf) > MAX_ENTRY_BYTES:
        raise TooLarge(f"event {event['id']!r} takes {len(leaf)} bytes of {MAX_ENTRY_BYTES}: log digests, not the things")
    return leaf


def parse_leaf(leaf: bytes) -> tuple[dict[str, Any], str]:
    """The event without prevHash, and prevHash.

    Raises:
        BadInput: not an event, or not its canonical bytes (the same event would have two hashes).
    """
    event = parse_canonical(leaf)
    prev_hash = require_digest(event.pop("prevHash", None)) if isinstance(event, dict) else ""
    return require_event(event), prev_hash


def chain_hash(leaf: bytes) -> str:
    """What the next entry's prevHash says: SHA-256 of the bytes themselves, which is not the Merkle leaf hash."""
    return sha256(leaf)
