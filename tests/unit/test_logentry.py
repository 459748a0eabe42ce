"""One entry of the log: what is an event and what is not, said exactly; its bytes, and the link to the entry before."""

import hashlib
from typing import Any

import pytest

from services.core.canonical import canonical
from services.core.errors import BadInput, TooLarge
from services.core.events import FIELDS
from services.core.logentry import MAX_TEXT, NO_PREVIOUS, chain_hash, leaf_bytes, parse_leaf, require_event

DIGEST = "sha256:" + "a" * 64
EVENT: dict[str, Any] = {
    "version": 1,
    "id": "evt-1",
    "source": "spiffe://ai-infra.local/service/api",
    "seq": 1,
    "type": "train.started",
    "ts": 0,
    "actor": "spiffe://ai-infra.local/person/tara",
    "subject": {"kind": "run", "id": "run-1", "digest": None},
    "manifestRef": None,
    "signatureRef": None,
    "traceId": "",
    "payload": {},
}
SUBJECT = EVENT["subject"]
NEITHER = "an event's seq is an integer of 1 or more, its ts of 0 or more"
EXACTLY = f"an event has exactly the fields {sorted(FIELDS)}; missing or unknown: "
PARTS = "an event's subject has exactly the fields kind, id and digest"
LONG = "x" * (MAX_TEXT + 1)


def bad_text(what: str) -> str:
    return f"an event's {what} is a text of at most 512 characters"


def test_an_event_is_given_back_as_it_is() -> None:
    whole = EVENT | {
        "subject": SUBJECT | {"digest": DIGEST}, "manifestRef": DIGEST, "signatureRef": DIGEST, "traceId": "t" * MAX_TEXT,
        "id": "i" * MAX_TEXT, "payload": {"any": [1]}, "ts": 1, "seq": 2,
    }  # fmt: skip
    for event in (EVENT, whole):
        assert require_event(event) is event


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"extra": 1}, EXACTLY + "['extra']"),
        ({"version": 2}, "event version '2', type 'train.started': no such event"),
        ({"version": True}, "event version 'True', type 'train.started': no such event"),
        ({"version": "v" * 90}, f"event version {'v' * 80!r}, type 'train.started': no such event"),
        ({"version": 1.0}, "event version '1.0', type 'train.started': no such event"),
        ({"type": "moon.landed"}, "event version '1', type 'moon.landed': no such event"),
        ({"type": ["train.started"]}, "event version '1', type \"['train.started']\": no such event"),
        ({"type": "t" * 90}, f"event version '1', type {'t' * 80!r}: no such event"),
        ({"seq": 0}, NEITHER), ({"seq": -1}, NEITHER), ({"seq": True}, NEITHER), ({"seq": "1"}, NEITHER),
        ({"ts": -1}, NEITHER), ({"ts": False}, NEITHER), ({"ts": 1.5}, NEITHER), ({"seq": 0, "ts": -1}, NEITHER),
        ({"subject": "run-1"}, PARTS), ({"subject": {"kind": "run", "id": "run-1"}}, PARTS),
        ({"subject": SUBJECT | {"more": 1}}, PARTS), ({"subject": ["kind", "id", "digest"]}, PARTS),
        ({"id": LONG}, bad_text("id")), ({"id": 1}, bad_text("id")), ({"source": LONG}, bad_text("source")),
        ({"actor": None}, bad_text("actor")), ({"subject": SUBJECT | {"kind": LONG}}, bad_text("subject kind")),
        ({"subject": SUBJECT | {"id": 7}}, bad_text("subject id")), ({"traceId": LONG}, bad_text("traceId")),
        ({"id": ""}, "an event's id is empty"), ({"source": ""}, "an event's source is empty"),
        ({"actor": ""}, "an event's actor is empty"), ({"subject": SUBJECT | {"id": ""}}, "an event's subject id is empty"),
        ({"subject": SUBJECT | {"kind": ""}}, "an event's subject kind is empty"),
        ({"payload": []}, "an event's payload is an object"), ({"payload": None}, "an event's payload is an object"),
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
def test_what_is_no_event_is_refused_by_its_field(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(BadInput) as refused:
        require_event(EVENT | changes)
    assert str(refused.value) == told


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_each_field_must_be_there(field: str) -> None:
    with pytest.raises(BadInput) as refused:
        require_event({name: value for name, value in EVENT.items() if name != field})
    assert str(refused.value) == EXACTLY + f"['{field}']"


@pytest.mark.parametrize(("value", "kind"), [(None, "NoneType"), ([], "list"), ("event", "str"), (sorted(FIELDS), "list")])
def test_what_is_no_object_is_named_by_its_kind(value: Any, kind: str) -> None:
    with pytest.raises(BadInput) as refused:
        require_event(value)
    assert str(refused.value) == EXACTLY + kind


@pytest.mark.parametrize("bad", ["", "sha256:", DIGEST.upper(), 7])
@pytest.mark.parametrize("where", ["manifestRef", "signatureRef", "subject"])
def test_a_digest_is_one_or_null(where: str, bad: Any) -> None:
    changed = {"subject": SUBJECT | {"digest": bad}} if where == "subject" else {where: bad}
    with pytest.raises(BadInput):
        require_event(EVENT | changed)


def test_a_leaf_is_the_canonical_event_with_its_link() -> None:
    leaf = leaf_bytes(EVENT, DIGEST)
    assert leaf == canonical(EVENT | {"prevHash": DIGEST})
    assert parse_leaf(leaf) == (EVENT, DIGEST)
    assert chain_hash(leaf) == f"sha256:{hashlib.sha256(leaf).hexdigest()}"
    assert f"sha256:{'0' * 64}" == NO_PREVIOUS


@pytest.mark.parametrize(
    "leaf",
    [
        b"[]", b"null", b'"x"', b"{}", b"", canonical(EVENT),
        canonical(EVENT | {"prevHash": "zeros"}), canonical(EVENT | {"prevHash": DIGEST}) + b"\n",
        canonical(EVENT | {"prevHash": DIGEST, "extra": 1}), b" " + canonical(EVENT | {"prevHash": DIGEST}),
    ],
    ids=lambda leaf: ascii(leaf)[:30],
)  # fmt: skip
def test_other_bytes_are_no_leaf(leaf: bytes) -> None:
    with pytest.raises(BadInput):
        parse_leaf(leaf)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False)])
def test_a_leaf_has_at_most_what_a_bundle_can_hold(more: int, fits: bool) -> None:
    empty = len(leaf_bytes(EVENT | {"payload": {"text": ""}}, DIGEST))
    event = EVENT | {"payload": {"text": "x" * (65_535 - empty + more)}}
    if fits:
        assert len(leaf_bytes(event, DIGEST)) == 65_535
        return
    with pytest.raises(TooLarge) as refused:
        leaf_bytes(event, DIGEST)
    assert str(refused.value) == "event 'evt-1' takes 65536 bytes of 65535: log digests, not the things"
