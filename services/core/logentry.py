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


def require_event(event: Any) -> dict[str, Any]:
    """The event itself if it is one as its source makes it, without prevHash.

    Raises:
        BadInput: a missing, unknown or badly typed field, or a type that no event has.
    """
    if not isinstance(event, dict) or set(event) != FIELDS:
        got = sorted(set(event) ^ FIELDS) if isinstance(event, dict) else type(event).__name__
        raise BadInput(f"an event has exactly the fields {sorted(FIELDS)}; missing or unknown: {got}")
    if event["version"] != VERSION or event["type"] not in TYPES:
        raise BadInput(f"event version {event['version']!r}, type {str(event['type'])[:80]!r}: no such event")
    for name, least in (("seq", 1), ("ts", 0)):
        if type(event[name]) is not int or event[name] < least:
            raise BadInput(f"an event's {name} is an integer of {least} or more")
    for name in ("id", "source", "actor"):
        _require_text(name, event[name], least=1)
    _require_text("traceId", event["traceId"], least=0)
    _require_subject(event["subject"])
    for name in ("manifestRef", "signatureRef"):
        if event[name] is not None:
            require_digest(event[name])
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


def _require_subject(subject: Any) -> None:
    if not isinstance(subject, dict) or set(subject) != {"kind", "id", "digest"}:
        raise BadInput("an event's subject has exactly the fields kind, id and digest")
    _require_text("subject kind", subject["kind"], least=1)
    _require_text("subject id", subject["id"], least=1)
    if subject["digest"] is not None:
        require_digest(subject["digest"])


def _require_text(name: str, text: Any, *, least: int) -> None:
    if not isinstance(text, str) or not least <= len(text) <= MAX_TEXT:
        raise BadInput(f"an event's {name} is a text of {least} to {MAX_TEXT} characters")
