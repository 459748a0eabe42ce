"""What the proxy signs, and what it refuses: it parses everything, and asks no one whether the quorum was reached."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.core import dsse, keys, oms, tlog
from services.core.canonical import canonical, parse
from services.core.digests import FileEntry, sha256
from services.core.errors import AiInfraError
from services.core.merkle import EMPTY_ROOT, consistency_proof, leaf_hash, nodes_of, root
from services.core.outbox import Outbox, Relay
from services.core.quorum import QuorumNotReached
from services.core.statements import Predicate, PromotionRequest, Vsa
from services.core.tls import service_id
from services.signing import bootstrap, domain, tables
from services.signing.errors import BadPayload, CheckpointRefused, KeyRefused
from services.signing.ports import CheckpointState
from tests import databases
from tests import signing as world
from tests.names import told
from tests.signing import NOW, ORIGIN, Rig

API = service_id("api")
STATEMENTS: Mapping[str, Predicate] = {
    "builder": world.provenance(),
    "evaluator": world.evaluation(),
    "sentinelnet": world.vsa(world.request()),
}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(databases.url(tmp_path, "signing"))


def evidence(of: PromotionRequest, decision: Vsa, *approvers: str) -> dict[str, bytes]:
    signed = world.envelope(decision.to_statement(), world.SERVICE_KEYS["sentinelnet"])
    return {"request": world.approved(of, *approvers).to_bytes(), "decision": signed.to_bytes()}


def check(of: PromotionRequest, vsa: Vsa, *approvers: str, now: int = NOW, trust: Any = None, **manifest: object) -> None:
    predicate = world.manifest(of, vsa).model_copy(update=manifest)
    domain.check_evidence(predicate, evidence(of, vsa, *approvers), trust or world.trust(), now)


THREE = ("ada", "ben", "cyd")


@pytest.mark.parametrize("key", sorted(STATEMENTS))
def test_each_key_signs_its_own_kind_of_statement(key: str, rig: Rig) -> None:
    payload = STATEMENTS[key].to_statement()
    signed = rig.sign(key, payload)
    public = world.SERVICE_KEYS[key].public_key()
    keys.verify(public, dsse.pae(dsse.PAYLOAD_TYPE, payload), signed.signature)
    assert (signed.keyid, signed.public_key) == (keys.signer_id(public), keys.public_pem(public))


@pytest.mark.parametrize("kind", sorted(STATEMENTS))
@pytest.mark.parametrize("key", ["builder", "evaluator", "sentinelnet", "manifest", "audit", "absent"])
def test_a_key_refuses_every_other_kind_of_statement(key: str, kind: str, rig: Rig) -> None:
    if key == kind:
        return
    with pytest.raises(KeyRefused, match=kind):
        rig.sign(key, STATEMENTS[kind].to_statement())
    assert rig.bus.events == []


@pytest.mark.parametrize("key", ["builder", "manifest", "audit"])
def test_what_people_sign_the_proxy_does_not(key: str, rig: Rig) -> None:
    with pytest.raises(KeyRefused, match="signed by people"):
        rig.sign(key, world.request().to_statement())


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"{}",
        sha256(b"x").encode(),
        bytes(32),
        world.evaluation().to_statement() + b" ",
        canonical(parse(world.evaluation().to_statement()) | {"predicateType": "https://example.com/other"}),
        canonical(parse(world.evaluation().to_statement()) | {"subject": []}),
        canonical(parse(world.evaluation().to_statement()) | {"extra": 1}),
    ],
    ids=range(9),
)
def test_bytes_that_are_no_statement_are_not_signed(payload: bytes, rig: Rig) -> None:
    with pytest.raises(BadPayload):
        rig.sign("evaluator", payload)
    assert (rig.bus.events, rig.signers["evaluator"].calls) == ([], 0)


def test_what_a_process_had_not_noted_when_it_ended_is_noted_by_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "FLUSH_S", 0.01)
    rig.sign("evaluator", STATEMENTS["evaluator"].to_statement())
    relay = Relay(rig.engine, Outbox(tables.outbox, service_id("signing-proxy"), lambda: 0), rig.bus)
    assert relay.pending() == 2

    async def until_noted() -> None:
        flushing = asyncio.ensure_future(bootstrap._flushed(relay))
        while relay.pending():
            await asyncio.sleep(0.01)
        flushing.cancel()

    rig.bus.faults = {2: "fails"}
    asyncio.run(until_noted())
    assert len(rig.bus.events) == 2


def test_a_manifest_with_quorum_and_a_passed_decision_is_allowed() -> None:
    of = world.request()
    check(of, world.vsa(of), *THREE)


def test_a_low_risk_model_goes_to_staging_without_approvals() -> None:
    of = world.request(risk_class="low", from_stage="dev", to_stage="staging")
    check(of, world.vsa(of))


REQUEST = world.request()


def other_artifact() -> str:
    return world.digest("other artifact")


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"approvers": ("ada", "ben")}, QuorumNotReached, "2 of 3"),
        ({"approvers": ("ada", "ben", "ben")}, QuorumNotReached, "2 of 3"),
        ({"approvers": ("ada", "ben", "tom")}, QuorumNotReached, "2 of 3"),
        ({"approvers": ("ada", "ben", world.REQUESTER)}, QuorumNotReached, "2 of 3"),
        ({"now": REQUEST.expires_at}, KeyRefused, "valid from"),
        ({"now": REQUEST.issued_at - 61}, KeyRefused, "valid from"),
        ({"vsa": {"verdict": "deny"}}, KeyRefused, "says deny"),
        ({"vsa": {"verdict": "remediate"}}, KeyRefused, "says remediate"),
        ({"vsa": {"artifact_id": other_artifact()}}, KeyRefused, "artifact"),
        ({"vsa": {"environment": "staging"}}, KeyRefused, "environment"),
        ({"vsa": {"model": "other"}}, KeyRefused, "model"),
        ({"vsa": {"number": 2}}, KeyRefused, "number"),
        ({"vsa": {"policy_revision": world.digest("old policy")}}, KeyRefused, "policy revision"),
        ({"vsa": {"attestations": [world.digest("evaluation")]}}, KeyRefused, "did not look at"),
        ({"vsa": {"time_verified": REQUEST.issued_at - 61}}, KeyRefused, "outside the request's time"),
        ({"vsa": {"time_verified": NOW + 61}}, KeyRefused, "outside the request's time"),
        ({"manifest": {"artifact_id": other_artifact()}}, KeyRefused, "artifact"),
        ({"manifest": {"environment": "staging"}}, KeyRefused, "environment"),
        ({"manifest": {"model": "other"}}, KeyRefused, "model"),
        ({"manifest": {"number": 2}}, KeyRefused, "number"),
        ({"manifest": {"evaluation": world.digest("other")}}, KeyRefused, "evaluation"),
        ({"manifest": {"provenance": world.digest("other")}}, KeyRefused, "did not look at"),
        ({"manifest": {"request": world.digest("other")}}, KeyRefused, "names request"),
        ({"manifest": {"decision": world.digest("other")}}, KeyRefused, "names decision"),
        ({"request": {"evaluation": None}}, KeyRefused, "evaluation"),
        ({"request": {"requester": world.signer_of("tom")}}, KeyRefused, "not signed by its requester"),
    ],
    ids=told,
)
def test_a_manifest_whose_evidence_does_not_hold_is_refused(
    arguments: dict[str, Any], error: type[AiInfraError], said: str
) -> None:
    of = world.request(**arguments.get("request", {}))
    decision = world.vsa(of, **arguments.get("vsa", {}))
    approvers = arguments.get("approvers", THREE)
    with pytest.raises(error, match=said):
        check(of, decision, *approvers, now=arguments.get("now", NOW), **arguments.get("manifest", {}))


def test_a_revoked_approver_or_requester_is_refused() -> None:
    of = world.request()
    for name, said in (("ada", "2 of 3"), (world.REQUESTER, "not signed by its requester")):
        trust = world.trust(revoked={world.signer_of(name): 5})
        with pytest.raises((QuorumNotReached, KeyRefused), match=said):
            check(of, world.vsa(of), *THREE, trust=trust)


def test_a_decision_that_sentinelnet_did_not_sign_is_refused() -> None:
    of = world.request()
    decision = world.vsa(of)
    forged = world.envelope(decision.to_statement(), world.SERVICE_KEYS["builder"])
    given = evidence(of, decision, *THREE) | {"decision": forged.to_bytes()}
    with pytest.raises(KeyRefused, match="sentinelnet"):
        domain.check_evidence(world.manifest(of, decision), given, world.trust(), NOW)


def test_approvals_of_another_request_do_not_travel() -> None:
    of = world.request()
    other = world.request(nonce="1" * 32)
    stolen = dsse.Envelope(
        dsse.PAYLOAD_TYPE,
        of.to_statement(),
        world.approved(of).signatures + world.approved(other, *THREE).signatures,
    )
    given = evidence(of, world.vsa(of)) | {"request": stolen.to_bytes()}
    with pytest.raises(QuorumNotReached, match="0 of 3"):
        domain.check_evidence(world.manifest(of, world.vsa(of)), given, world.trust(), NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given.pop("request"),
        lambda given: given.pop("decision"),
        lambda given: given.update(more=b"{}"),
        lambda given: given.update(request=b"junk"),
        lambda given: given.update(request=given["decision"]),
        lambda given: given.update(decision=given["request"]),
        lambda given: given.update(request=given["request"].replace(b"vnd.in-toto+json", b"vnd.in-toto+JSON")),
    ],
    ids=range(7),
)
def test_evidence_of_another_shape_is_refused(change: Callable[[dict[str, bytes]], None]) -> None:
    of = world.request()
    given = evidence(of, world.vsa(of), *THREE)
    change(given)
    with pytest.raises(BadPayload):
        domain.check_evidence(world.manifest(of, world.vsa(of)), given, world.trust(), NOW)


def test_evidence_for_a_statement_that_needs_none_is_refused(rig: Rig) -> None:
    with pytest.raises(BadPayload, match="want exactly"):
        rig.sign("evaluator", world.evaluation().to_statement(), {"request": b"x"})


def test_the_proxy_itself_refuses_a_manifest_without_quorum(rig: Rig) -> None:
    of = world.request()
    manifest = world.manifest(of, world.vsa(of))
    with pytest.raises(QuorumNotReached):
        rig.sign("manifest", manifest.to_statement(), evidence(of, world.vsa(of), "ada", "ben"))
    assert (rig.bus.events, rig.signers["manifest"].calls) == ([], 0)
    assert rig.sign("manifest", manifest.to_statement(), evidence(of, world.vsa(of), *THREE))


def test_both_events_name_key_digest_person_and_manifest(rig: Rig) -> None:
    of = world.request()
    payload = world.manifest(of, world.vsa(of)).to_statement()
    signed = rig.sign("manifest", payload, evidence(of, world.vsa(of), *THREE))
    told = {
        "key": "manifest",
        "predicateType": "https://ai-infra.dev/manifest/v1",
        "onBehalfOf": "spiffe://ai-infra.local/person/rita",
    }
    made = told | {"keyId": signed.keyid, "signatureDigest": sha256(signed.signature)}
    fields = ("type", "actor", "subject", "manifestRef", "signatureRef", "payload", "seq", "ts")
    subject = {"kind": "attestation", "id": sha256(payload), "digest": sha256(payload)}
    manifest_ref, signature_ref = sha256(payload), sha256(signed.signature)
    assert [{name: event[name] for name in fields} for event in rig.bus.events] == [
        dict(zip(fields, ("signature.requested", API, subject, manifest_ref, None, told, 1, NOW * 1000), strict=True)),
        dict(zip(fields, ("signature.made", API, subject, manifest_ref, signature_ref, made, 2, NOW * 1000), strict=True)),
    ]


def test_a_retry_gets_the_same_signature_and_no_more_events(rig: Rig) -> None:
    payload = world.evaluation().to_statement()
    first = rig.sign("evaluator", payload)
    rig.service = rig.restarted()
    assert rig.sign("evaluator", payload) == first
    assert (len(rig.bus.events), rig.signers["evaluator"].calls) == (2, 1)


def test_a_retry_after_the_request_expired_gets_the_signature_that_was_made(rig: Rig) -> None:
    of = world.request()
    arguments = ("manifest", world.manifest(of, world.vsa(of)).to_statement(), evidence(of, world.vsa(of), *THREE))
    first = rig.sign(*arguments)
    rig.now = of.expires_at + 1
    assert rig.sign(*arguments) == first


def test_a_service_key_that_is_revoked_or_untrusted_signs_no_more(rig: Rig) -> None:
    evaluator = keys.signer_id(world.SERVICE_KEYS["evaluator"].public_key())
    rig.trust = world.trust(world.VKEY, revoked={evaluator: 3})
    with pytest.raises(KeyRefused, match="revoked"):
        rig.sign("evaluator", world.evaluation().to_statement())


FILES = [FileEntry("config.json", 2, world.digest("a")), FileEntry("m.safetensors", 9, world.digest("b"))]


def test_models_are_signed_with_the_builders_key(rig: Rig) -> None:
    payload = oms.statement(FILES)
    signed = rig.service.sign_model(key="builder", payload=payload, on_behalf_of=API, actor=API)
    builder = world.SERVICE_KEYS["builder"].public_key()
    assert oms.verify(oms.bundle(payload, signed.signature, builder), FILES, builder) == oms.subject_digest(FILES)
    assert [event["type"] for event in rig.bus.events] == ["signature.requested", "signature.made"]


@pytest.mark.parametrize("key", ["evaluator", "sentinelnet", "audit", "absent"])
def test_other_keys_sign_no_models(key: str, rig: Rig) -> None:
    with pytest.raises(KeyRefused, match="models are signed with"):
        rig.service.sign_model(key=key, payload=oms.statement(FILES), on_behalf_of=API, actor=API)


def test_the_manifest_key_signs_a_tree_only_after_its_manifest(rig: Rig) -> None:
    of = world.request()
    payload = oms.statement(FILES)
    with pytest.raises(KeyRefused, match="Manifest"):
        rig.service.sign_model(key="manifest", payload=payload, on_behalf_of=API, actor=API)
    manifest = world.manifest(of, world.vsa(of), oms_subject=oms.subject_digest(FILES))
    rig.sign("manifest", manifest.to_statement(), evidence(of, world.vsa(of), *THREE))
    signed = rig.service.sign_model(key="manifest", payload=payload, on_behalf_of=API, actor=API)
    keys.verify(world.SERVICE_KEYS["manifest"].public_key(), dsse.pae(dsse.PAYLOAD_TYPE, payload), signed.signature)


@pytest.mark.parametrize("payload", [b"", b"{}", world.evaluation().to_statement(), bytes(32)], ids=range(4))
def test_bytes_that_are_no_model_statement_are_not_signed(payload: bytes, rig: Rig) -> None:
    with pytest.raises(BadPayload):
        rig.service.sign_model(key="builder", payload=payload, on_behalf_of=API, actor=API)


LEAVES = [leaf_hash(str(n).encode()) for n in range(40)]


def checkpoint(rig: Rig, size: int, old: int, leaves: list[bytes] = LEAVES) -> tlog.Checkpoint:
    proof = consistency_proof(nodes_of(leaves), old, size) if old <= size else []
    note = rig.service.sign_checkpoint(origin=ORIGIN, size=size, root=root(leaves[:size]), proof=proof)
    return tlog.open_checkpoint(note.encode(), tlog.parse_vkey(world.VKEY))


def test_checkpoints_are_signed_while_the_log_grows(rig: Rig) -> None:
    assert rig.service.last_checkpoint(ORIGIN) is None
    for old, size in ((0, 5), (5, 5), (5, 8), (8, 40)):
        assert checkpoint(rig, size, old) == tlog.Checkpoint(ORIGIN, size, root(LEAVES[:size]))
    assert rig.service.last_checkpoint(ORIGIN) == CheckpointState(40, root(LEAVES))
    assert rig.bus.events == []


def test_the_empty_log_has_a_checkpoint(rig: Rig) -> None:
    note = rig.service.sign_checkpoint(origin=ORIGIN, size=0, root=EMPTY_ROOT, proof=[])
    assert tlog.open_checkpoint(note.encode(), tlog.parse_vkey(world.VKEY)).size == 0
    assert checkpoint(rig, 3, 0).size == 3


def test_a_log_that_shrinks_or_forks_gets_no_checkpoint(rig: Rig) -> None:
    checkpoint(rig, 20, 0)
    other = [*LEAVES[:3], leaf_hash(b"other"), *LEAVES[4:]]
    attempts = [(10, 20, LEAVES), (20, 20, other), (30, 20, other), (30, 10, LEAVES), (30, 0, LEAVES), (0, 0, LEAVES)]
    for size, old, leaves in attempts:
        with pytest.raises(CheckpointRefused):
            checkpoint(rig, size, old, leaves)
    assert rig.service.last_checkpoint(ORIGIN) == CheckpointState(20, root(LEAVES[:20]))
    assert checkpoint(rig, 30, 20).size == 30


def test_a_repeated_checkpoint_is_answered_again_whatever_proof_it_carries(rig: Rig) -> None:
    checkpoint(rig, 10, 0)
    first = checkpoint(rig, 20, 10)
    rig.service = rig.restarted()
    assert checkpoint(rig, 20, 10) == first == checkpoint(rig, 20, 20)


@pytest.mark.parametrize(
    ("origin", "size", "length", "error"),
    [
        ("other", 1, 32, CheckpointRefused),
        (ORIGIN, -1, 32, BadPayload),
        (ORIGIN, 1, 31, BadPayload),
        (ORIGIN, 2**53, 32, BadPayload),
    ],
)
def test_checkpoints_of_another_shape_are_refused(origin: str, size: int, length: int, error: type[AiInfraError], rig: Rig) -> None:
    with pytest.raises(error):
        rig.service.sign_checkpoint(origin=origin, size=size, root=bytes(length), proof=[])
    assert rig.service.last_checkpoint(ORIGIN) is None
