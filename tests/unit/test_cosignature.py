"""Cosignatures of witnesses, and the one way to open a checkpoint that is to be believed."""

import base64
import dataclasses

import pytest

from services.core import cosignature, keys, merkle, tlog
from services.core.cosignature import NotWitnessed, cosign, cosigners, open_cosigned
from services.core.keys import BadSignature
from services.core.tlog import BadLogFormat, Checkpoint
from services.core.trust import BadTrust, Trust
from tests import signing as world

AT = 1_800_000_000
LOG = keys.generate_ed25519()
WITNESSES = {name: keys.generate_ed25519() for name in ("witness.example/w1", "witness.example/w2", "witness.example/w3")}
W1, W2, W3 = WITNESSES
CHECKPOINT = Checkpoint(world.ORIGIN, 7, merkle.leaf_hash(b"root"))


def trusting(threshold: int, *names: str) -> Trust:
    vkeys = tuple(tlog.witness_vkey_text(name, WITNESSES[name].public_key()) for name in names)
    return world.trust(tlog.vkey_text(world.ORIGIN, LOG.public_key()), log_witnesses=vkeys, witness_threshold=threshold)


def note(*names: str, checkpoint: Checkpoint = CHECKPOINT) -> bytes:
    signed = tlog.sign_note(checkpoint.text(), world.ORIGIN, LOG.public_key(), LOG.sign)
    return (signed + "".join(cosign(checkpoint.text(), name, WITNESSES[name], AT) for name in names)).encode()


def test_a_checkpoint_names_the_witnesses_that_cosigned_it_and_when() -> None:
    found = open_cosigned(note(W1, W2, W3), trusting(2, W1, W2))
    assert found == cosignature.Cosigned(CHECKPOINT, {W1: AT, W2: AT}, (W3,))


@pytest.mark.parametrize(("threshold", "by"), [(0, ()), (1, (W1,)), (1, (W2,)), (2, (W2, W1))])
def test_enough_cosignatures_are_taken(threshold: int, by: tuple[str, ...]) -> None:
    assert set(open_cosigned(note(*by), trusting(threshold, W1, W2)).witnesses) == set(by)


@pytest.mark.parametrize(("threshold", "by"), [(1, ()), (1, (W3,)), (2, (W1,)), (2, (W1, W1)), (2, (W1, W3))])
def test_too_few_cosignatures_are_refused_by_name(threshold: int, by: tuple[str, ...]) -> None:
    with pytest.raises(NotWitnessed, match=f"trust asks for {threshold}: none of .*{W2}"):
        open_cosigned(note(*by), trusting(threshold, W1, W2))


def test_a_cosignature_of_another_checkpoint_is_refused_and_names_the_witness() -> None:
    other = dataclasses.replace(CHECKPOINT, size=8)
    moved = note() + cosign(other.text(), W1, WITNESSES[W1], AT).encode()
    with pytest.raises(BadSignature, match=W1):
        open_cosigned(moved, trusting(0, W1))


@pytest.mark.parametrize("at", range(72))
def test_no_byte_of_a_cosignature_can_change(at: int) -> None:
    line = tlog.parse_signature_line(cosign(CHECKPOINT.text(), W1, WITNESSES[W1], AT).rstrip("\n"))
    changed = bytearray(line.signature)
    changed[at] ^= 1
    with pytest.raises(BadSignature, match=W1):
        cosigners(note() + tlog.signature_line(W1, line.key_id, bytes(changed)).encode(), trusting(0, W1).witnesses)


@pytest.mark.parametrize("signature", [b"\x00", bytes(71), bytes(73), b"\xff" * 72])
def test_a_cosignature_of_another_form_is_refused(signature: bytes) -> None:
    (witness,) = trusting(0, W1).witnesses
    with pytest.raises(BadSignature, match="below 2"):
        cosigners(note() + tlog.signature_line(W1, witness.key_id, signature).encode(), [witness])


def test_a_witness_does_not_replace_the_logs_signature() -> None:
    bare = CHECKPOINT.text() + "\n" + cosign(CHECKPOINT.text(), W1, WITNESSES[W1], AT)
    with pytest.raises(BadSignature, match=world.ORIGIN):
        open_cosigned(bare.encode(), trusting(1, W1))


def test_another_origin_is_refused() -> None:
    with pytest.raises(BadLogFormat, match="origin"):
        open_cosigned(note(checkpoint=dataclasses.replace(CHECKPOINT, origin="other.example/log")), trusting(0))


def test_the_signed_message_is_the_one_of_the_specification() -> None:
    line = tlog.parse_signature_line(cosign(CHECKPOINT.text(), W1, WITNESSES[W1], 1_679_315_147).rstrip("\n"))
    assert line.signature[:8] == bytes.fromhex("00000000641850cb")
    message = f"cosignature/v1\ntime 1679315147\n{world.ORIGIN}\n7\n{base64.b64encode(CHECKPOINT.root).decode()}\n"
    WITNESSES[W1].public_key().verify(line.signature[8:], message.encode())


def test_the_keys_of_logs_and_of_witnesses_are_kept_apart() -> None:
    log, witness = tlog.vkey_text(W1, LOG.public_key()), tlog.witness_vkey_text(W1, LOG.public_key())
    assert tlog.parse_vkey(log).key_id != tlog.parse_witness_vkey(witness).key_id
    for parse, text in ((tlog.parse_vkey, witness), (tlog.parse_witness_vkey, log)):
        with pytest.raises(BadLogFormat, match="type"):
            parse(text)


@pytest.mark.parametrize(
    ("vkeys", "threshold", "field"),
    [
        (("junk",), 0, "log.witnesses"),
        ((tlog.vkey_text(W1, LOG.public_key()),), 0, "log.witnesses"),
        ((tlog.witness_vkey_text(W1, WITNESSES[W1].public_key()),) * 2, 0, "listed twice"),
        (tuple(tlog.witness_vkey_text(name, WITNESSES[W1].public_key()) for name in (W1, W2)), 0, "listed twice"),
        ((tlog.witness_vkey_text(W1, LOG.public_key()),), 0, "vouches for itself"),
        ((), 1, "witnessThreshold"),
        ((tlog.witness_vkey_text(W1, WITNESSES[W1].public_key()),), 2, "witnessThreshold"),
        ((), -1, "witnessThreshold"),
        ((), True, "witnessThreshold"),
    ],
)
def test_trust_in_witnesses_that_cannot_hold_is_refused(vkeys: tuple[str, ...], threshold: int, field: str) -> None:
    with pytest.raises(BadTrust, match=field):
        world.trust(tlog.vkey_text(world.ORIGIN, LOG.public_key()), log_witnesses=vkeys, witness_threshold=threshold)


def test_trust_in_witnesses_round_trips() -> None:
    trust = trusting(1, W1, W2)
    assert Trust.parse(trust.to_bytes()) == trust
    assert [witness.name for witness in trust.witnesses] == [W1, W2]
