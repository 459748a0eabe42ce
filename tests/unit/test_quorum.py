"""k of n: by key and person, never the requester, never a stranger."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core import dsse, keys, quorum
from services.core.dsse import PAYLOAD_TYPE, Envelope
from services.core.keys import Signature
from services.core.quorum import Approver, QuorumNotReached
from services.core.tls import person_id
from tests import signing as world

PAYLOAD = world.request().to_statement()
STRANGER = keys.generate_p256()
TRUST = world.trust()

# Signatures are made once: every name and key, over the request and over another payload.
MADE: dict[tuple[str, int, bool], bytes] = {
    (name, which, right): dsse.sign(PAYLOAD if right else PAYLOAD + b" ", key).sig
    for name, pair in {**world.PEOPLE_KEYS, "stranger": (STRANGER, STRANGER)}.items()
    for which, key in enumerate(pair)
    for right in (True, False)
}
ENTRIES = st.tuples(
    st.sampled_from(sorted({name for name, _, _ in MADE})),
    st.sampled_from([0, 1]),
    st.booleans(),
    st.sampled_from(["", "a", world.signer_of("ada"), world.signer_of("ben")]),
)


@settings(max_examples=150)
@given(st.lists(ENTRIES, max_size=20), st.randoms(use_true_random=False))
def test_a_quorum_is_the_set_of_distinct_approvers_whatever_the_envelope_repeats(
    entries: list[tuple[str, int, bool, str]], random: object
) -> None:
    signatures = tuple(Signature(keyid, MADE[name, which, right]) for name, which, right, keyid in entries)
    approvers = quorum.count(Envelope(PAYLOAD_TYPE, PAYLOAD, signatures), TRUST, world.signer_of(world.REQUESTER))
    wanted = {person_id(name) for name, _, right, _ in entries if right and name in world.APPROVERS}
    assert [approver.person for approver in approvers] == sorted(wanted)
    assert all(TRUST.person_of(approver.signer).person == approver.person for approver in approvers)  # type: ignore[union-attr]
    random.shuffle(entries)  # type: ignore[attr-defined]
    shuffled = tuple(Signature(keyid, MADE[name, which, right]) for name, which, right, keyid in entries)
    assert quorum.count(Envelope(PAYLOAD_TYPE, PAYLOAD, shuffled), TRUST, world.signer_of(world.REQUESTER)) == approvers


@pytest.mark.parametrize("which", [0, 1])
def test_neither_key_of_the_requester_counts(which: int) -> None:
    held = world.envelope(PAYLOAD, *world.PEOPLE_KEYS[world.REQUESTER])
    assert quorum.count(held, TRUST, world.signer_of(world.REQUESTER, which)) == []


def test_one_person_with_two_keys_counts_once() -> None:
    held = world.envelope(PAYLOAD, *world.PEOPLE_KEYS["ada"])
    assert [a.person for a in quorum.count(held, TRUST, world.signer_of(world.REQUESTER))] == [person_id("ada")]


def test_people_without_the_role_do_not_count() -> None:
    held = world.envelope(PAYLOAD, world.PEOPLE_KEYS["tom"][0])
    assert quorum.count(held, TRUST, world.signer_of(world.REQUESTER)) == []


def test_nobody_counts_for_an_unknown_requester() -> None:
    held = world.approved(world.request(), *world.APPROVERS)
    assert quorum.count(held, TRUST, keys.signer_id(STRANGER.public_key())) == []


def test_an_approval_of_another_request_does_not_count() -> None:
    replayed = dsse.sign(world.request(nonce="1" * 32).to_statement(), world.PEOPLE_KEYS["ada"][0])
    held = Envelope(PAYLOAD_TYPE, PAYLOAD, (replayed,))
    assert quorum.count(held, TRUST, world.signer_of(world.REQUESTER)) == []


def test_a_revoked_approver_counts_only_where_the_log_says_so() -> None:
    trust = world.trust(revoked={world.signer_of("ada"): 10})
    held = world.envelope(PAYLOAD, world.PEOPLE_KEYS["ada"][0])
    counted = [len(quorum.count(held, trust, world.signer_of(world.REQUESTER), at)) for at in (9, 10, None)]
    assert counted == [1, 0, 0]


def test_an_approver_is_a_person_with_the_key_used_and_all_their_roles() -> None:
    held = world.envelope(PAYLOAD, world.PEOPLE_KEYS["eve"][1], world.PEOPLE_KEYS["ada"][0])
    assert quorum.count(held, TRUST, world.signer_of(world.REQUESTER)) == [
        Approver(person_id("ada"), world.signer_of("ada"), ("approver",)),
        Approver(person_id("eve"), world.signer_of("eve", 1), ("approver", "security")),
    ]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "0 of 3 approvals (the requester left out): nobody"),
        (("ada", "ben"), f"2 of 3 approvals (the requester left out): {person_id('ada')}, {person_id('ben')}"),
    ],
)
def test_too_few_approvals_are_refused_with_the_names_that_counted(names: tuple[str, ...], told: str) -> None:
    with pytest.raises(QuorumNotReached) as refused:
        quorum.require(world.approved(world.request(), *names), TRUST, world.signer_of(world.REQUESTER), 3)
    assert str(refused.value) == told
    held = world.approved(world.request(), "ada", "ben", "cyd")
    assert len(quorum.require(held, TRUST, world.signer_of(world.REQUESTER), 3)) == 3


def test_a_quorum_is_required_of_those_whose_keys_were_good_then() -> None:
    trust = world.trust(revoked={world.signer_of("ada"): 10})
    held = world.approved(world.request(), "ada", "ben")
    assert len(quorum.require(held, trust, world.signer_of(world.REQUESTER), 2, at=9)) == 2
    for at in (10, None):
        with pytest.raises(QuorumNotReached, match="1 of 2"):
            quorum.require(held, trust, world.signer_of(world.REQUESTER), 2, at)
