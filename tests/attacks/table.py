"""The table of attacks on promotion and serving: what somebody does, and which rule refuses it.

`python -m tests.attacks.table` prints it as docs/attacks.md.
"""

import unicodedata
from collections.abc import Callable, Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from sqlalchemy import delete, insert, select, update

from services.api.quarantine import Quarantine
from services.core import dsse, keys
from services.core.bundle import to_tar
from services.core.database import begin
from services.core.digests import FileEntry, sha256, tree_bytes, tree_digest
from services.core.errors import BadInput
from services.core.keys import PrivateKey
from services.core.statements import Evaluation, Manifest, Vsa, expect
from services.core.tls import person_id
from services.registry import tables
from services.registry.errors import AlreadyRegistered, StageChanged
from services.registry.models import Registration
from services.registry.ports import Measured
from services.sentinelnet.errors import PolicyUnavailable
from services.sentinelnet.tables import policies
from services.serving.errors import LoadRefused, Quarantined
from services.serving.predictor.loading import load_verified
from tests import signing as world
from tests.attacks.rig import (
    APPROVED,
    EVALUATED,
    PROMOTED,
    TRIO,
    Attack,
    Attempt,
    approved,
    between,
    carry_out,
    deploy,
    edit,
    forged,
    object_path,
    overwrite,
    rollout,
    serving,
)
from tests.registry import EVA, RITA, TOM, WEIGHTS, Rig, key_of
from tests.sentinelnet import BUNDLE, blocking, signed
from tests.serving import order_of

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
EVALUATION_RULES = ("promotion.evaluation-fresh", "promotion.evaluation-present", "promotion.evaluation-thresholds")
BYTES_RULES = ("promotion.artifact-digest", "promotion.signature")
STRANGER = keys.generate_p256()

# -- signatures


def sent(rig: Rig, *signing: PrivateKey, **changes: Any) -> Attempt:
    """The promoter's call with a new request, signed by these keys."""
    payload = rig.request_for(**changes).to_statement()
    return lambda: rig.promotions.request(world.envelope(payload, *signing).to_bytes(), RITA)


def approval(rig: Rig, key: PrivateKey, **changes: Any) -> Attempt:
    """ada's call with an approval: of the request, or of one that differs."""
    promotion = rig.request()
    payload = rig.request_for(**changes).to_statement()
    return lambda: rig.promotions.approve(promotion, world.envelope(payload, key).to_bytes(), person_id("ada"))


def twin(sig: bytes) -> bytes:
    """The other signature that follows from one without its key: (r, n - s)."""
    r, s = decode_dss_signature(sig)
    return encode_dss_signature(r, ORDER - s)


def raw(sig: bytes) -> bytes:
    r, s = decode_dss_signature(sig)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def long_form(sig: bytes) -> bytes:
    """BER: the length of the sequence in two bytes where DER takes one."""
    return b"\x30\x81" + sig[1:]


def padded(sig: bytes) -> bytes:
    """BER: r with a leading zero that DER leaves out."""
    size = sig[3]
    return bytes([0x30, sig[1] + 1, 0x02, size + 1, 0]) + sig[4:]


def two_and(change: Callable[[bytes], bytes]) -> Callable[[Rig], Attempt]:
    """Approvals of ada and ben, and one of them once more in another form."""

    def prepare(rig: Rig) -> Attempt:
        payload = rig.request_for().to_statement()
        ada, ben = (dsse.sign(payload, key_of(name)).sig for name in ("ada", "ben"))
        return forged(rig, ada, ben, change(ada))

    return prepare


def three(make: Callable[[PrivateKey, bytes], bytes]) -> Callable[[Rig], Attempt]:
    """What three approvers' keys sign, but not as DSSE and ECDSA over SHA-256 say."""

    def prepare(rig: Rig) -> Attempt:
        payload = rig.request_for().to_statement()
        return forged(rig, *(make(key_of(name), payload) for name in TRIO))

    return prepare


def with_sha384(key: PrivateKey, payload: bytes) -> bytes:
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key.sign(dsse.pae(dsse.PAYLOAD_TYPE, payload), ec.ECDSA(hashes.SHA384()))


def unencoded(key: PrivateKey, payload: bytes) -> bytes:
    return keys.sign(key, payload).sig


def by_ed25519(key: PrivateKey, payload: bytes) -> bytes:
    return dsse.sign(payload, keys.generate_ed25519()).sig


def signed_by(rig: Rig, *signing: PrivateKey) -> list[bytes]:
    payload = rig.request_for().to_statement()
    return [dsse.sign(payload, key).sig for key in signing]


def revoked_approver(rig: Rig) -> Attempt:
    rig.trust = world.trust(world.VKEY, people=rig.trust.people, revoked={world.signer_of("ada"): rig.audit.size()})
    rig.now -= 4
    return carry_out(rig)


def revoked_builder(rig: Rig) -> Attempt:
    builder = keys.signer_id(world.SERVICE_KEYS["builder"].public_key())
    rig.trust = world.trust(world.VKEY, people=rig.trust.people, revoked={builder: 0})
    return carry_out(rig)


def second_version(rig: Rig, *, sign: bool = True, parents: tuple[str, ...] = (), **contents: bytes) -> int:
    """digits@2, of other weights."""
    run = rig.train("run-2", [rig.datasets.get("digits@1")["id"]], {**WEIGHTS, "model.safetensors": b"other", **contents})
    registration = Registration(run=run.id, risk_class="high", sign=sign, parents=list(parents))
    return int(rig.models.register("digits", registration, TOM)["number"])


def unsigned_model(rig: Rig) -> Attempt:
    number = second_version(rig, sign=False)
    rig.evaluate(number)
    return approved(rig, rig.request(number))


# -- approvals


def expired(rig: Rig) -> Attempt:
    rig.now += 3700
    return carry_out(rig)


def two_keys(rig: Rig) -> Attempt:
    promotion = rig.request()
    rig.approve(promotion, "ada", "ben")
    rig.approve(promotion, "ada", which=1)
    return carry_out(rig, promotion)


def others_signatures(rig: Rig) -> Attempt:
    promotion = rig.request()
    payload = dsse.parse(rig.promotions.envelope(promotion)).payload
    rig.promotions.approve(promotion, world.envelope(payload, *map(key_of, TRIO)).to_bytes(), person_id("ada"))
    return carry_out(rig, promotion)


def others_signatures_at_once(rig: Rig) -> Attempt:
    """As above, but with the request: nobody calls to approve it."""
    payload = rig.request_for().to_statement()
    envelope = world.envelope(payload, key_of("rita"), *map(key_of, TRIO)).to_bytes()
    return carry_out(rig, str(rig.promotions.request(envelope, RITA)["id"]))


def registered(rig: Rig, model: str) -> Attempt:
    """The same weights from a rerun, for a class that needs fewer approvals."""
    again = rig.train("run-2", [rig.datasets.get("digits@1")["id"]])
    return lambda: rig.models.register(model, Registration(run=again.id, risk_class="low"), TOM)


# -- evaluations


def measured(rig: Rig, samples: int = 360, **metrics: Any) -> Attempt:
    """A signed evaluation with these numbers, named by an approved request."""
    assert isinstance(rig.evaluator.measured, Measured)
    rig.evaluator.measured = Measured(samples, rig.evaluator.measured.metrics | metrics)
    rig.now += 1
    return approved(rig, rig.request(evaluation=rig.evaluate()))


def stated(rig: Rig, key: PrivateKey, **changes: Any) -> Attempt:
    """An evaluation that says what it likes, recorded beside the true one and named by an approved request."""
    known = expect(Evaluation, dsse.parse(rig.store.get(rig.models.get("digits", 1)["evaluations"][-1]["envelope"])).payload)
    result = Evaluation(**(known.model_dump() | {"issued_at": rig.now + 1} | changes))
    rig.models.record_evaluation(world.envelope(result.to_statement(), key).to_bytes(), result, EVA, "digits@1")
    return approved(rig, rig.request(evaluation=sha256(result.to_statement())))


def numbers(accuracy: Any) -> dict[str, Any]:
    return {"accuracy": accuracy, "perClass": {}}


def with_nan(rig: Rig) -> Attempt:
    """An evaluation whose bytes hold NaN, signed with the evaluator's own key."""
    row = rig.models.get("digits", 1)["evaluations"][-1]
    payload = dsse.parse(rig.store.get(row["envelope"])).payload.replace(b'"accuracy":0.9722222222222222', b'"accuracy":NaN')
    envelope = world.envelope(payload, world.SERVICE_KEYS["evaluator"]).to_bytes()
    edit(rig, tables.evaluations, payload=sha256(payload), envelope=rig.store.put(envelope))
    return approved(rig, rig.request(evaluation=sha256(payload)))


def of_the_other_version(rig: Rig) -> Attempt:
    return approved(rig, rig.request(evaluation=rig.evaluate(second_version(rig))))


def on_an_easy_set(rig: Rig) -> Attempt:
    rig.dataset("easy")
    rig.now += 1
    return approved(rig, rig.request(evaluation=rig.evaluate(1, "easy@1")))


def stale(rig: Rig) -> Attempt:
    rig.now += 604_801
    return approved(rig, rig.request())


# -- policy


def decided_by(rig: Rig, change: Callable[[Vsa], Vsa], key: PrivateKey) -> Attempt:
    """A promotion that the database says was decided on, with a decision from elsewhere."""
    promotion = rig.promotions.all()[0]
    request = rig.request_for()
    vsa = world.vsa(
        request, time_verified=rig.now, policy_revision=request.policy_revision,
        attestations=sorted([promotion["request"], request.evaluation, _provenance(rig)]),
    )  # fmt: skip
    summary = world.envelope(change(vsa).to_statement(), key).to_bytes()
    edit(rig, tables.promotions, state="decided", decision_id="dec-1", summary=rig.store.put(summary))
    return carry_out(rig)


def decided(change: Callable[[Vsa], Vsa], key: PrivateKey = world.SERVICE_KEYS["sentinelnet"]) -> Callable[[Rig], Attempt]:
    return lambda rig: decided_by(rig, change, key)


def _provenance(rig: Rig) -> str:
    return dsse.payload_digest(dsse.parse(rig.store.get(rig.models.get("digits", 1)["provenance"])))


def changed(**changes: Any) -> Callable[[Vsa], Vsa]:
    return lambda vsa: Vsa(**(vsa.model_dump() | changes))


def undecided(rig: Rig) -> Attempt:
    edit(rig, tables.promotions, state="decided", decision_id="dec-1")
    return carry_out(rig)


OTHER = blocking("sha256:" + "0" * 64)


def published(rig: Rig, envelope: bytes) -> Attempt:
    return lambda: rig.sentinelnet.publish(to_tar(OTHER), envelope, person_id("eve"))


def broken_signature(rig: Rig) -> Attempt:
    held = dsse.parse(signed(OTHER, 2))
    bad = held.signatures[0]._replace(sig=dsse.sign(b"something else", key_of("eve")).sig)
    return published(rig, dsse.Envelope(held.payload_type, held.payload, (bad,)).to_bytes())


def inserted_policies(rig: Rig) -> Attempt:
    """A row and an object that make other policies the active ones, under a signature of one's own."""
    stored = {"bundle": rig.store.put(to_tar(OTHER)), "envelope": rig.store.put(signed(OTHER, 2, STRANGER))}
    with begin(rig.engine) as connection:
        row = dict(connection.execute(select(policies)).mappings().one())
        new = row | stored | {"version": 2, "revision": OTHER.revision}
        connection.execute(insert(policies).values(**new))
    return carry_out(rig)


# -- artifacts


def weights(rig: Rig) -> str:
    return next(e.sha256 for e in rig.artifacts.files(rig.models.get("digits", 1)["artifact_id"]) if e.path.endswith("safetensors"))


def edited_weights(rig: Rig) -> Attempt:
    """The promoted version's weights, changed in the store; then on to production."""
    overwrite(rig, weights(rig))
    return approved(rig, rig.request(to="prod"))


def linked_weights(rig: Rig) -> Attempt:
    path = object_path(rig, weights(rig))
    other = rig.folder / "other"
    other.write_bytes(b"?" * path.stat().st_size)
    path.unlink()
    path.symlink_to(other)
    return carry_out(rig)


def missing_file(rig: Rig) -> Attempt:
    object_path(rig, weights(rig)).unlink()
    return carry_out(rig)


def other_tree(rig: Rig, contents: dict[str, bytes]) -> Attempt:
    """The version's row points to a tree with one file more or less, and the request names that tree."""
    files = [FileEntry.from_json(item) for item in rig.files(contents)]
    rig.store.put(tree_bytes(files))
    with begin(rig.engine) as connection:
        artifact = rig.artifacts.record(connection, files, TOM, run_id="run-1", meta={})
    edit(rig, tables.model_versions, artifact_id=artifact)
    evaluation = _evaluation(rig)
    return approved(rig, rig.request(artifact_id=artifact, evaluation=evaluation))


def _evaluation(rig: Rig) -> str:
    with rig.engine.connect() as connection:
        return str(connection.execute(select(tables.evaluations.c.payload)).scalar())


def tree_of(rig: Rig, *paths: str) -> Attempt:
    """A run's artifact with these names, as a compromised trainer leaves it."""
    files = [FileEntry(path, 1, rig.store.put(b"x")) for path in paths]
    rig.store.put(tree_bytes(files))
    values = {"id": tree_digest(files), "size": 2, "run_id": "run-2", "meta": {}, "uploaded_by": TOM, "uploaded_at": 0}
    with begin(rig.engine) as connection:
        connection.execute(insert(tables.artifacts).values(**values))
    run = rig.train("run-2", [rig.datasets.get("digits@1")["id"]], {"w": b"2"})
    rig.runs.found["run-2"] = type(run)(**(vars(run) | {"artifact_id": tree_digest(files)}))
    return lambda: rig.models.register("digits", Registration(run="run-2", risk_class="high"), TOM)


def corrupted(column: str) -> Callable[[Rig], Attempt]:
    """One object that the decision is made from, changed in the store."""

    def prepare(rig: Rig) -> Attempt:
        version = rig.models.get("digits", 1)
        named = {"ancestors": version["ancestors"][0], "evaluation": version["evaluations"][-1]["envelope"]}
        overwrite(rig, named.get(column) or version[column])
        return carry_out(rig)

    return prepare


# -- state


def lowered_row(rig: Rig) -> Attempt:
    edit(rig, tables.model_versions, risk_class="low")
    return carry_out(rig, rig.request(risk_class="low"))


def skipped_stage(rig: Rig) -> Attempt:
    edit(rig, tables.model_versions, stage="staging")
    return approved(rig, rig.request(to="prod"))


def deleted_flag(rig: Rig, kind: str = "model", target: str = "digits@1") -> None:
    rig.flag(kind, target)
    with begin(rig.engine) as connection:
        connection.execute(delete(tables.flags))


def without_flag(rig: Rig) -> Attempt:
    deleted_flag(rig)
    return carry_out(rig)


def without_ancestors(rig: Rig) -> Attempt:
    rig.flag("dataset", "raw@1")
    edit(rig, tables.model_versions, ancestors=[])
    return carry_out(rig)


def inserted_version(rig: Rig) -> Attempt:
    with begin(rig.engine) as connection:
        row = dict(connection.execute(select(tables.model_versions)).mappings().one())
        connection.execute(insert(tables.model_versions).values(**(row | {"number": 2, "risk_class": "low"})))
    return carry_out(rig, rig.request(2))


def swapped_envelope(rig: Rig) -> Attempt:
    """The row of an approved request holds the approved envelope of another one."""
    other = rig.request(nonce="1" * 32)
    rig.approve(other, *TRIO)
    edit(rig, tables.promotions, envelope=rig.promotions.get(other)["envelope"])
    return carry_out(rig, str(next(p["id"] for p in rig.promotions.all() if p["id"] != other)))


def two_at_once(rig: Rig) -> Attempt:
    """Another request for the same step completes between decision and effect."""
    other = rig.request(nonce="1" * 32)
    rig.approve(other, *TRIO)
    first = str(next(p["id"] for p in rig.promotions.all() if p["id"] != other))
    plain = rig.promotions
    between(rig, lambda: plain.carry_out(other, RITA))
    return carry_out(rig, first)


def flagged_parent(kind: str) -> Callable[[Rig], Attempt]:
    def prepare(rig: Rig) -> Attempt:
        number = second_version(rig, parents=("digits@1",))
        rig.evaluate(number)
        promotion = rig.request(number)
        rig.flag(kind, "digits@1" if kind == "model" else rig.models.get("digits", 1)["artifact_id"])
        return approved(rig, promotion)

    return prepare


def revoke(rig: Rig, name: str) -> None:
    revoked = {world.signer_of(name): rig.audit.size()}
    rig.trust = world.trust(world.VKEY, people=rig.trust.people, revoked=revoked)


# -- serving


def unsigned_canary(rig: Rig) -> Attempt:
    deploy(rig)()
    return rollout(rig, second_version(rig))


def promoted_second(rig: Rig) -> int:
    """digits@2, promoted to staging beside digits@1."""
    number = second_version(rig)
    rig.evaluate(number)
    rig.promoted(number)
    return number


def rollback_to_quarantined(rig: Rig) -> Attempt:
    """digits@2 serves, digits@1 is flagged; a rollout back to it."""
    deploy(rig, number=promoted_second(rig))()
    rig.flag()
    return rollout(rig, 1)


def forged_manifest(rig: Rig) -> Attempt:
    """A manifest for production with a key of one's own, put into the manifests' table."""
    with begin(rig.engine) as connection:
        row = dict(connection.execute(select(tables.manifests)).mappings().one())
        known = expect(Manifest, dsse.parse(rig.store.get(row["envelope"])).payload)
        payload = Manifest(**(known.model_dump() | {"environment": "prod"})).to_statement()
        envelope = rig.store.put(world.envelope(payload, STRANGER).to_bytes())
        new = {"payload": sha256(payload), "envelope": envelope, "environment": "prod"}
        connection.execute(update(tables.manifests).values(**(row | new)))
    edit(rig, tables.model_versions, stage="prod")
    return deploy(rig, "prod")


def manifest_of_another(rig: Rig) -> Attempt:
    """digits@2, never promoted, with the manifest of digits@1."""
    number = second_version(rig)
    edit(rig, tables.manifests, number=number)
    return deploy(rig, number=number)


def edited_manifest(rig: Rig) -> Attempt:
    overwrite(rig, rig.evidences.manifests("digits", 1)[0]["envelope"])
    return deploy(rig)


def stage_row(rig: Rig) -> Attempt:
    edit(rig, tables.model_versions, stage="prod")
    return deploy(rig, "prod")


def flagged(rig: Rig, attempt: Attempt, kind: str = "model", target: str = "digits@1") -> Attempt:
    rig.flag(kind, target)
    return attempt


def flag_row(rig: Rig) -> Attempt:
    deleted_flag(rig)
    return deploy(rig)


def resumed(rig: Rig) -> Attempt:
    """A live version was quarantined; then the flag's row is deleted, and the loop that enforces flags looks again."""
    quarantine = Quarantine(rig.models, rig.evidences, serving(rig))
    deploy(rig)()
    rig.flag()
    quarantine.enforce()
    with begin(rig.engine) as connection:
        connection.execute(delete(tables.flags))
    return quarantine.enforce


def loaded_while_flagged(rig: Rig) -> Attempt:
    """A predictor starts while the version is flagged, and the flag's row is gone."""
    deployment = deploy(rig)()["id"]  # type: ignore[index]
    order = order_of(serving(rig).versions.servable("digits", 1, "staging"), deployment)
    deleted_flag(rig)
    return lambda: load_verified(order, rig.store, rig.trust, serving(rig).quarantine_reasons)


def loaded(rig: Rig, **changes: Any) -> Attempt:
    """A predictor told to serve the promoted version, with other things in its order."""
    servable = serving(rig).versions.servable("digits", 1, "staging")
    order = order_of(type(servable)(**(vars(servable) | changes)))
    return lambda: load_verified(order, rig.store, rig.trust, lambda _: [])


def loaded_after_edit(rig: Rig) -> Attempt:
    attempt = loaded(rig)
    overwrite(rig, weights(rig))
    return attempt


def loaded_with_more(rig: Rig) -> Attempt:
    extra = FileEntry("extra.bin", 1, rig.store.put(b"x"))
    return loaded(rig, files=(*serving(rig).versions.servable("digits", 1, "staging").files, extra))


def cleared(rig: Rig, name: str, **changes: Any) -> Attempt:
    flag = rig.flag()
    return lambda: rig.flags.lift(flag, rig.clearance(flag, name, **changes), person_id("eve"))


def _rows() -> Iterator[Attack]:
    def row(does: str, start: str, prepare: Callable[[Rig], Attempt], *rules: str, **more: Any) -> Attack:
        return Attack(group, does, start, prepare, tuple(sorted(rules)), **more)

    service: dict[str, Any] = {"layer": "promotion service"}
    quorum, request, flag = "promotion.quorum", "promotion.request", "promotion.safety-flag"

    group = "signatures"
    yield row("a request without any signature", EVALUATED, lambda r: sent(r), request, **service)
    yield row("a request signed by an unknown key", EVALUATED, lambda r: sent(r, STRANGER), request, **service)
    yield row("a request signed by another person", EVALUATED, lambda r: sent(r, key_of("ada")), request, **service)
    yield row("an approval signed by an unknown key", EVALUATED, lambda r: approval(r, STRANGER), quorum, **service)
    yield row("an approval signed by another approver", EVALUATED, lambda r: approval(r, key_of("ben")), quorum, **service)
    yield row(
        "an approval of another artifact", EVALUATED,
        lambda r: approval(r, key_of("ada"), artifact_id=world.digest("other")), quorum, **service,
    )  # fmt: skip
    yield row("an approval for another environment", EVALUATED, lambda r: approval(r, key_of("ada"), to="prod"), quorum, **service)
    yield row("a model that nobody signed", EVALUATED, unsigned_model, "promotion.signature")
    yield row("an approver's key revoked by log order, the clock set back", APPROVED, revoked_approver, quorum)
    yield row(
        "a model and provenance signed by a revoked builder key", APPROVED, revoked_builder,
        "promotion.signature", "training.clean-tree", "training.provenance",
    )  # fmt: skip
    thrice = [key_of("ada")] * 3
    yield row(
        "one key three times, under three key ids", EVALUATED,
        lambda r: forged(r, *signed_by(r, *thrice)), quorum, edited=True,
    )  # fmt: skip
    yield row("an approval again as its high-s or low-s twin", EVALUATED, two_and(twin), quorum, edited=True)
    yield row("an approval again as r || s instead of DER", EVALUATED, two_and(raw), quorum, edited=True)
    yield row("an approval again with a BER length that is not minimal", EVALUATED, two_and(long_form), quorum, edited=True)
    yield row("an approval again with a BER integer that is not minimal", EVALUATED, two_and(padded), quorum, edited=True)
    yield row("an approval again with bytes behind it", EVALUATED, two_and(lambda sig: sig + b"\0"), quorum, edited=True)
    yield row("an approval again, cut short", EVALUATED, two_and(lambda sig: sig[:-1]), quorum, edited=True)
    yield row(
        "a third signature with r = s = 0", EVALUATED,
        two_and(lambda sig: bytes.fromhex("3006020100020100")), quorum, edited=True,
    )  # fmt: skip
    yield row("a third signature with s = n", EVALUATED, two_and(lambda s: encode_dss_signature(1, ORDER)), quorum, edited=True)
    yield row("three approvals over SHA-384", EVALUATED, three(with_sha384), quorum, edited=True)
    yield row("three approvals by Ed25519", EVALUATED, three(by_ed25519), quorum, edited=True)
    yield row("three signatures over the payload without its DSSE encoding", EVALUATED, three(unencoded), quorum, edited=True)
    yield row(
        "three signatures under another payload type", EVALUATED,
        three(lambda k, p: dsse.sign(p, k, "text/plain").sig), quorum, edited=True,
    )  # fmt: skip

    group = "approvals"
    yield row("approvals of a request that has expired", APPROVED, expired, request)
    yield row("a request from the future", EVALUATED, lambda r: approved(r, r.request(issued_at=r.now + 120)), request)
    yield row("a request that never expires", EVALUATED, lambda r: approved(r, r.request(expires_at=253_402_300_799)), request)
    yield row("the requester approves", EVALUATED, lambda r: approved(r, r.request(), "rita", "ada", "ben"), quorum)
    yield row(
        "the requester approves with a second key", EVALUATED,
        lambda r: forged(r, *signed_by(r, key_of("rita", 1), key_of("ada"), key_of("ben"))), quorum, edited=True,
    )  # fmt: skip
    yield row("one person approves with two keys", EVALUATED, two_keys, quorum)
    yield row("an approval of another request", EVALUATED, lambda r: approval(r, key_of("ada"), nonce="1" * 32), quorum, **service)
    yield row("a person without the role approves", EVALUATED, lambda r: approved(r, r.request(), "tom", "ada", "ben"), quorum)
    yield row("one caller hands in the signatures of three", EVALUATED, others_signatures, quorum)
    yield row("the requester hands them in with the request", EVALUATED, others_signatures_at_once, quorum)
    yield row(
        "a request in another promoter's name", EVALUATED,
        lambda r: approved(r, r.request(requester=world.signer_of("ada")), "ben", "cyd", "dan"), quorum, request,
    )  # fmt: skip
    yield row("a request that lowers the risk class", EVALUATED, lambda r: approved(r, r.request(risk_class="low")), request)
    risk: dict[str, Any] = {"layer": "registry", "error": AlreadyRegistered}
    lower = "registration.risk-class"
    yield row("the same weights registered again as low risk", EVALUATED, lambda r: registered(r, "digits"), lower, **risk)
    yield row("the same, under another model's name", EVALUATED, lambda r: registered(r, "other"), lower, **risk)

    group = "evaluations"
    yield row("none", EVALUATED, lambda r: approved(r, r.request(evaluation=None)), *EVALUATION_RULES)
    yield row("one that nobody made", EVALUATED, lambda r: approved(r, r.request(evaluation=world.digest("x"))), *EVALUATION_RULES)
    yield row("of another artifact", EVALUATED, of_the_other_version, "promotion.evaluation-present")
    yield row("on a data set of the trainer's choice", EVALUATED, on_an_easy_set, "promotion.evaluation-present")
    signer = world.SERVICE_KEYS["evaluator"]
    yield row("on the training split", EVALUATED, lambda r: stated(r, signer, split="train"), "promotion.evaluation-present")
    yield row("signed by the trainer", EVALUATED, lambda r: stated(r, key_of("tom")), *EVALUATION_RULES)
    yield row(
        "signed with the key of another service", EVALUATED,
        lambda r: stated(r, world.SERVICE_KEYS["builder"]), *EVALUATION_RULES,
    )  # fmt: skip
    yield row("with NaN for its accuracy", EVALUATED, with_nan, *EVALUATION_RULES, edited=True)
    low = "promotion.evaluation-thresholds"
    yield row("with text for its accuracy", EVALUATED, lambda r: stated(r, signer, metrics=numbers("NaN")), low)
    yield row("with an accuracy over 1", EVALUATED, lambda r: stated(r, signer, metrics=numbers(1.5)), low)
    yield row("below the limit", EVALUATED, lambda r: measured(r, accuracy=0.4), low)
    yield row("of one class that fails", EVALUATED, lambda r: measured(r, perClass={"0": {"recall": 0.1}}), low)
    yield row("on too few samples", EVALUATED, lambda r: measured(r, samples=99), low)
    yield row("stale", EVALUATED, stale, "promotion.evaluation-fresh")
    yield row("from the future", EVALUATED, lambda r: stated(r, signer, issued_at=r.now + 3600), "promotion.evaluation-fresh")

    group = "policy"
    older = world.digest("older policies")
    yield row("a request under an older revision", EVALUATED, lambda r: approved(r, r.request(policy_revision=older)), request)
    proxy: dict[str, Any] = {"layer": "signing proxy", "withdrawn": True}
    other, proxied = world.digest("another"), ("signing.proxy",)
    yield row("a decision on another artifact", APPROVED, decided(changed(artifact_id=other)), *proxied, **proxy)
    yield row("a decision on another version", APPROVED, decided(changed(number=2)), *proxied, **proxy)
    yield row("a decision for another stage", APPROVED, decided(changed(environment="prod")), *proxied, **proxy)
    yield row("a decision on another request", APPROVED, decided(changed(attestations=[])), *proxied, **proxy)
    yield row("a decision that denied", APPROVED, decided(changed(verdict="deny")), *proxied, **proxy)
    yield row(
        "a decision signed with a key of one's own", APPROVED,
        decided(changed(), STRANGER), *proxied, **proxy,
    )  # fmt: skip
    yield row("no decision, but a row that says there is one", APPROVED, undecided, "promotion.evidence", withdrawn=True, **service)
    bundle = "signing.bundle"
    yield row("a bundle with a bad signature", EVALUATED, broken_signature, bundle)
    ada = key_of("ada")
    yield row("a bundle signed by a person without the role", EVALUATED, lambda r: published(r, signed(OTHER, 2, ada)), bundle)
    yield row("a bundle signed by an unknown key", EVALUATED, lambda r: published(r, signed(OTHER, 2, STRANGER)), bundle)
    yield row(
        "policies written into the database", APPROVED, inserted_policies, "PolicyUnavailable",
        error=PolicyUnavailable, recorded=False, retryable=True, edited=True,
    )  # fmt: skip
    yield row("an older version of the policies again", EVALUATED, lambda r: published(r, signed(OTHER, 1)), bundle)
    yield row("a signature over another bundle", EVALUATED, lambda r: published(r, signed(BUNDLE, 2)), bundle)

    group = "artifacts"
    yield row("weights edited in the store after promotion, on to production", PROMOTED, edited_weights, *BYTES_RULES)
    yield row(
        "the same, loaded by a predictor", PROMOTED, loaded_after_edit, "LoadRefused",
        layer="predictor", error=LoadRefused, recorded=False,
    )  # fmt: skip
    tree = ("promotion.artifact-digest", "promotion.request")
    more = {**WEIGHTS, "x": b"x"}
    yield row("a file more, and a row that points there", EVALUATED, lambda r: other_tree(r, more), *tree, edited=True)
    fewer = {"config.json": WEIGHTS["config.json"]}
    yield row("a file less, and a row that points there", EVALUATED, lambda r: other_tree(r, fewer), *tree, edited=True)
    yield row("a file deleted from the store", APPROVED, missing_file, *BYTES_RULES)
    yield row("a file replaced by a symbolic link", APPROVED, linked_weights, *BYTES_RULES)
    yield row(
        "a file more, given to a predictor", PROMOTED, loaded_with_more, "LoadRefused",
        layer="predictor", error=LoadRefused, recorded=False,
    )  # fmt: skip
    names: dict[str, Any] = {"layer": "registry", "error": BadInput, "edited": True}
    bad, two = "registration.artifact", ("é.bin", unicodedata.normalize("NFD", "é.bin"))
    yield row("two names that are equal after Unicode normalisation", EVALUATED, lambda r: tree_of(r, *two), bad, **names)
    yield row("two names that are equal but for case", EVALUATED, lambda r: tree_of(r, "W", "w"), bad, **names)
    yield row("a name that leaves the folder", EVALUATED, lambda r: tree_of(r, "../w"), bad, **names)
    parts = {"signature": "model signature", "ancestors": "data set's manifest"}
    for column in ("provenance", "evaluation", *parts):
        what = parts.get(column, column)
        yield row(f"the {what} edited in the store", APPROVED, corrupted(column), "promotion.evidence", **service)

    group = "state"
    yield row("the version's risk class lowered in the database", EVALUATED, lowered_row, quorum, request, edited=True)
    yield row("the version's stage raised in the database", EVALUATED, skipped_stage, request, edited=True)
    yield row("a flag's row deleted from the database", APPROVED, without_flag, flag, edited=True)
    yield row("the version's ancestors emptied, one of which is flagged", APPROVED, without_ancestors, flag, edited=True)
    yield row("a version's row written by hand", EVALUATED, inserted_version, "promotion.evidence", edited=True, **service)
    yield row(
        "the envelope of another approved request in the row", APPROVED, swapped_envelope, "promotion.evidence", edited=True,
        **service,
    )  # fmt: skip
    yield row("a flag on the model that this one was made from", EVALUATED, flagged_parent("model"), flag)
    yield row("a flag on that model's artifact", EVALUATED, flagged_parent("artifact"), flag)
    late: dict[str, Any] = {"layer": "promotion service", "passed": True}
    yield row(
        "a flag set between decision and effect", APPROVED,
        lambda r: between(r, r.flag), flag, **late, meanwhile=("quarantine.set", "platform.flags"),
    )  # fmt: skip
    yield row(
        "expiry between decision and effect", APPROVED,
        lambda r: between(r, lambda: setattr(r, "now", r.now + 3601)), "signing.proxy", layer="signing proxy", passed=True,
    )  # fmt: skip
    yield row(
        "other policies between decision and effect", APPROVED,
        lambda r: between(r, lambda: r.publish(OTHER, 2)), request, **late, meanwhile=("policy.published", "platform.policies"),
    )  # fmt: skip
    yield row(
        "an approver's key revoked between decision and effect", APPROVED,
        lambda r: between(r, lambda: revoke(r, "ada")), "signing.proxy", layer="signing proxy", passed=True,
    )  # fmt: skip
    yield row(
        "two promotions of one version at once", APPROVED, two_at_once, request, error=StageChanged, **late,
        meanwhile=("promotion.completed", "platform.promotions", "platform.model_versions", "platform.manifests"),
    )  # fmt: skip

    group = "serving"
    both = ("serving.manifest", "serving.stage")
    yield row("a canary that was never promoted", PROMOTED, unsigned_canary, *both)
    yield row("a version of staging, deployed to production", PROMOTED, lambda r: deploy(r, "prod"), *both)
    yield row("a version that was never promoted", EVALUATED, deploy, *both)
    yield row("a manifest for production with a key of one's own, in the database", PROMOTED, forged_manifest, *both, edited=True)
    yield row("the manifest of another version, in the database", PROMOTED, manifest_of_another, *both, edited=True)
    yield row("a manifest edited in the store", PROMOTED, edited_manifest, "serving.manifest")
    yield row("the stage raised in the database", PROMOTED, stage_row, *both, edited=True)
    yield row("a rollback to a quarantined version", PROMOTED, rollback_to_quarantined, "serving.quarantine")
    yield row("a version with a flag", PROMOTED, lambda r: flagged(r, deploy(r)), "serving.quarantine")
    yield row(
        "a version made from flagged data", PROMOTED,
        lambda r: flagged(r, deploy(r), "dataset", "raw@1"), "serving.quarantine",
    )  # fmt: skip
    yield row("a flagged version whose flag was deleted from the database", PROMOTED, flag_row, "serving.quarantine", edited=True)
    clear = "serving.clearance"
    yield row("a clearance by a person without the role", PROMOTED, lambda r: cleared(r, "ada"), clear)
    yield row("a clearance of another flag", PROMOTED, lambda r: cleared(r, "eve", flag="flag-other"), clear)
    yield row("a clearance older than the flag", PROMOTED, lambda r: cleared(r, "eve", issued_at=r.now - 10), clear)
    loader: dict[str, Any] = {"layer": "predictor", "error": LoadRefused, "recorded": False}
    gone: dict[str, Any] = {"error": Quarantined, "recorded": False, "edited": True}
    does = "the flag's row of a stopped version deleted, for traffic to resume"
    yield row(does, PROMOTED, resumed, "Quarantined", layer="serving", **gone)
    yield row("the same, for a predictor to load it", PROMOTED, loaded_while_flagged, "Quarantined", layer="predictor", **gone)
    yield row("a predictor of another environment", PROMOTED, lambda r: loaded(r, environment="prod"), "LoadRefused", **loader)
    yield row("a predictor of another version", PROMOTED, lambda r: loaded(r, number=2), "LoadRefused", **loader)


ATTACKS = tuple(_rows())


def markdown() -> str:
    """docs/attacks.md."""
    lines = [
        "# Attacks that are refused",
        "",
        "Generated by `python -m tests.attacks.table > docs/attacks.md`; `tests/attacks/test_promotion_table.py` carries them out.",
        "Each is refused by these rules and no others, and the refusal is a `policyCheck` event in the log. Errors stand where",
        "nothing is decided on any more: `LoadRefused` and `Quarantined` keep traffic away from what was decided on before, and",
        "`PolicyUnavailable` says that there are no policies which security signed. Every row of every table, and every stored",
        "object, is the same after the attempt as before it. What † marks had been decided on before it was refused: that",
        "decision and the proxy's record of its signatures stay. ‡ marks edits of the database that `ai-infra audit reconcile`",
        "names too.",
        "",
    ]
    for group in dict.fromkeys(attack.group for attack in ATTACKS):
        lines += [f"## {group.capitalize()}", "", "| what somebody does | refused by | layer |", "|---|---|---|"]
        for attack in (a for a in ATTACKS if a.group == group):
            rules = " ".join(f"`{rule}`" for rule in attack.rules)
            marks = "†" * attack.passed + "‡" * attack.edited
            lines.append(f"| {attack.does}{' ' + marks if marks else ''} | {rules} | {attack.layer} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(), end="")
