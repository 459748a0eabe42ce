"""Each link of the chain breaks by its own name, also where every digest and signature around it was made to fit again."""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, update

from services.core import archive as layout
from services.core import dsse, merkle
from services.core.bundle import Bundle, load_bundle, to_tar
from services.core.canonical import canonical, parse
from services.core.events import EventDraft
from services.core.trust import Signer, Trust
from services.registry import tables
from services.registry.ports import Events, Measured
from services.verify.service import verify
from tests import signing as world
from tests.archives import Members, edited, flipped, read
from tests.predictions import Served, served
from tests.registry import GOOD, RITA, Ports, Rig, copied, key_of, opened, trust
from tests.sentinelnet import BUNDLE


@pytest.fixture(scope="module")
def platform() -> Iterator[Served]:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as found:
        yield found


@pytest.fixture(scope="module")
def rig(platform: Served) -> Rig:
    return platform.rig


@pytest.fixture(scope="module")
def archives(platform: Served, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of two predictions of one batch, and one of a later batch."""
    folder = tmp_path_factory.mktemp("archive")
    first = [platform.predict(seal=False), platform.predict(seal=False)]
    platform.seal()
    return [platform.archive(item, folder / f"{item}.zip") for item in (*first, platform.predict())]


@pytest.fixture(scope="module")
def whole(archives: list[Path]) -> Path:
    return archives[0]


def resigned(envelope: bytes, name: str | None = None, **changes: object) -> bytes:
    """The statement with changed fields of its predicate, signed by a key that trust knows (or by one that it does not)."""
    held = dsse.parse(envelope)
    value = parse(held.payload)
    value["predicate"] |= changes
    key = world.SERVICE_KEYS[name] if name in world.SERVICE_KEYS else key_of(name or "tom")
    return world.envelope(canonical(value), key).to_bytes()


def checkpoint_of_another_key(members: Members) -> None:
    note = members[layout.CHECKPOINT].decode()
    members[layout.CHECKPOINT] = note.replace("— ", "— x", 1).encode()


def checkpoint_signed_twice(members: Members) -> None:
    """The log's own signature line again: nothing in it is wrong."""
    members[layout.CHECKPOINT] += members[layout.CHECKPOINT].splitlines(keepends=True)[-1]


def grown_checkpoint(members: Members) -> None:
    lines = members[layout.CHECKPOINT].split(b"\n")
    lines[1] = str(int(lines[1]) + 1).encode()
    members[layout.CHECKPOINT] = b"\n".join(lines)


def edited_entry(members: Members) -> None:
    name = next(name for name in members if name.startswith("log/tile/entries/"))
    members[name] = members[name].replace(b"digits@1", b"digits@2", 1)


def manifest_for_another_stage(members: Members) -> None:
    members[layout.MANIFEST] = resigned(members[layout.MANIFEST], "manifest", environment="prod")


def manifest_by_another_key(members: Members) -> None:
    members[layout.MANIFEST] = resigned(members[layout.MANIFEST], "builder")


def manifest_never_logged(members: Members) -> None:
    members[layout.MANIFEST] = resigned(members[layout.MANIFEST], "manifest", omsSubject=world.digest("another"))


def edited_weights(members: Members) -> None:
    members["model/model.safetensors"] = flipped(members["model/model.safetensors"])


def listed_otherwise(members: Members) -> None:
    members[layout.FILES] = canonical(parse(members[layout.FILES])[:-1])


def model_signed_by_the_builder(members: Members) -> None:
    members[layout.MODEL_SIGNATURE] = members[layout.ARTIFACT_SIGNATURE]


def approvals_dropped(members: Members) -> None:
    held = dsse.parse(members[layout.REQUEST])
    members[layout.REQUEST] = dataclasses.replace(held, signatures=held.signatures[:3]).to_bytes()


def requester_dropped(members: Members) -> None:
    held = dsse.parse(members[layout.REQUEST])
    members[layout.REQUEST] = dataclasses.replace(held, signatures=held.signatures[1:]).to_bytes()


def another_request(members: Members) -> None:
    members[layout.REQUEST] = resigned(members[layout.REQUEST], "rita", nonce="f" * 32)


def decision_by_another_key(members: Members) -> None:
    members[layout.DECISION] = resigned(members[layout.DECISION], "manifest")


def another_decision(members: Members) -> None:
    members[layout.DECISION] = resigned(members[layout.DECISION], "sentinelnet", timeVerified="2020-01-01T00:00:00Z")


def another_input(members: Members) -> None:
    members[layout.DECISION_INPUT] = canonical(parse(members[layout.DECISION_INPUT]) | {"flags": []} | {"now": 1})


def other_policies(members: Members) -> None:
    bundle = load_bundle(members[layout.POLICY])
    data = bundle.files["data.json"].replace(b'"min_accuracy": 0.9', b'"min_accuracy": 0.1')
    members[layout.POLICY] = to_tar(dataclasses.replace(bundle, files={**bundle.files, "data.json": data}))


def policies_signed_by_anyone(members: Members) -> None:
    members[layout.POLICY_SIGNATURE] = resigned(members[layout.POLICY_SIGNATURE], "ada")


def approval_dropped(members: Members) -> None:
    members.pop(next(name for name in members if name.startswith(layout.DATASET_APPROVALS)))


def builder_signature_lost(members: Members) -> None:
    members[layout.ARTIFACT_SIGNATURE] = members[layout.MODEL_SIGNATURE]


def evaluation_made_up(members: Members) -> None:
    members[layout.EVALUATION] = resigned(members[layout.EVALUATION], "builder")


def provenance_made_up(members: Members) -> None:
    members[layout.PROVENANCE] = resigned(members[layout.PROVENANCE], "evaluator")


def dataset_swapped(members: Members) -> None:
    first, second = sorted(name for name in members if name.startswith(layout.DATASETS))
    members[first] = members[second]


def record_of(**changes: object) -> Callable[[Members], None]:
    """The record with changed fields, and a proof of a batch of its own."""

    def change(members: Members) -> None:
        members[layout.PREDICTION] = canonical(parse(members[layout.PREDICTION]) | changes)

    return change


def proof_of(**changes: object) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[layout.PREDICTION_PROOF] = canonical(parse(members[layout.PREDICTION_PROOF]) | changes)

    return change


def forged_batch(members: Members) -> None:
    """A batch of the record alone, which nobody sealed."""
    root = merkle.leaf_hash(members[layout.PREDICTION])
    proof_of(index=0, size=1, root="sha256:" + root.hex(), proof=[])(members)


def another_deploy_input(members: Members) -> None:
    members[layout.DEPLOY_INPUT] = canonical(parse(members[layout.DEPLOY_INPUT]) | {"flags": [], "now": 1})


def other_deploy_policies(members: Members) -> None:
    other_policies(members)
    members[layout.DEPLOY_POLICY] = members[layout.POLICY]
    members[layout.POLICY] = to_tar(load_bundle(BUNDLE_TAR))


def index_of(**changes: object) -> Callable[[Members], None]:
    def change(members: Members) -> None:
        members[layout.INDEX] = canonical(parse(members[layout.INDEX]) | changes)

    return change


BUNDLE_TAR = to_tar(BUNDLE)


@pytest.mark.parametrize(
    ("change", "link"),
    [
        (record_of(outcome="error"), "batch root"),
        (record_of(artifactId=world.digest("another")), "batch root"),
        (record_of(id="prd-another"), "prediction record"),
        (record_of(ts="now"), "prediction record"),
        (record_of(ts=True), "prediction record"),
        (proof_of(index=1), "batch root"),
        (proof_of(size=3), "batch root"),
        (proof_of(root=world.digest("another")), "batch root"),
        (proof_of(proof=[]), "batch root"),
        (proof_of(proof=["zz"]), "batch root"),
        (proof_of(batch=7), "batch in the log"),
        (proof_of(event="evt-another"), "batch in the log"),
        (proof_of(more=1), "batch root"),
        (forged_batch, "batch in the log"),
        (index_of(deployDecision="dec-another"), "deployment"),
        (index_of(prediction="prd-another"), "prediction record"),
        (index_of(number=2), "deployment"),
        (index_of(environment="prod"), "deployment"),
        (index_of(decision="dec-another"), "log inclusion"),
        (another_deploy_input, "deployment decision"),
        (other_deploy_policies, "deployment decision"),
        (checkpoint_of_another_key, "log checkpoint"),
        (checkpoint_signed_twice, "log checkpoint"),
        (grown_checkpoint, "log checkpoint"),
        (edited_entry, "log entries"),
        (manifest_by_another_key, "manifest signature"),
        (manifest_for_another_stage, "manifest signature"),
        (manifest_never_logged, "manifest signature"),
        (edited_weights, "weights"),
        (listed_otherwise, "weights"),
        (model_signed_by_the_builder, "model signature"),
        (approvals_dropped, "request and quorum"),
        (requester_dropped, "request and quorum"),
        (another_request, "request and quorum"),
        (decision_by_another_key, "decision"),
        (another_decision, "decision"),
        (another_input, "decision"),
        (other_policies, "policies"),
        (policies_signed_by_anyone, "policies"),
        (approval_dropped, "decision facts"),
        (builder_signature_lost, "decision facts"),
        (evaluation_made_up, "decision facts"),
        (provenance_made_up, "decision facts"),
        (dataset_swapped, "decision facts"),
    ],
)
def test_a_forged_member_breaks_the_link_that_it_belongs_to(
    whole: Path, tmp_path: Path, change: Callable[[Members], None], link: str
) -> None:
    report = verify(edited(whole, tmp_path / "e.zip", change), trust())
    assert report.broken is not None
    assert (report.broken.name, report.to_json()["brokenLink"]) == (link, link), report.broken.detail
    reached = [item.status for item in report.links]
    assert "ok" not in reached[reached.index("broken") :]


def without(role: str) -> Trust:
    """Trust that knows another key for one role."""
    known = trust()
    other = Signer(role, world.pem(world.PEOPLE_KEYS["tom"][1]))
    people = tuple(dataclasses.replace(p, keys=p.keys[:1]) if p.person.endswith("/tom") else p for p in known.people)
    signers = tuple(other if signer.role == role else signer for signer in known.signers)
    return dataclasses.replace(known, signers=signers, people=people)


@pytest.mark.parametrize(
    ("role", "link"),
    [
        ("manifest", "manifest signature"), ("sentinelnet", "decision"), ("builder", "decision facts"),
        ("evaluator", "decision facts"),
    ],
)  # fmt: skip
def test_a_trust_file_with_another_key_breaks_the_link_of_its_role(whole: Path, role: str, link: str) -> None:
    report = verify(whole, without(role))
    assert report.broken is not None
    assert report.broken.name == link


def test_a_trust_file_of_another_log_breaks_the_checkpoint(whole: Path) -> None:
    other = world.tlog.vkey_text(world.ORIGIN, world.keys.generate_ed25519().public_key())
    report = verify(whole, dataclasses.replace(trust(), log_vkey=other))
    assert report.broken is not None
    assert report.broken.name == "log checkpoint"


def test_a_trust_file_that_wants_more_approvals_breaks_the_quorum(whole: Path) -> None:
    report = verify(whole, trust(approvals={"high": {"staging": 4, "prod": 5}, "low": {}}))
    assert report.broken is not None
    assert report.broken.name == "request and quorum"


def test_a_key_revoked_before_its_signature_breaks_the_link_and_after_it_does_not(rig: Rig, whole: Path) -> None:
    signer = world.keys.signer_id(world.SERVICE_KEYS["manifest"].public_key())
    completed = next(entry.index for entry in rig.audit.search(type="promotion.completed"))
    started = next(entry.index for entry in rig.audit.search(type="deploy.started"))
    found = {at: verify(whole, trust(revoked={signer: at})).broken for at in (completed, completed + 1, started)}
    # Between promotion and deployment, the deployment was allowed under a key that was out already.
    assert {at: broken and broken.name for at, broken in found.items()} == {
        completed: "manifest signature", completed + 1: "deployment decision", started: None,
    }  # fmt: skip


def test_a_kept_checkpoint_tells_that_the_log_was_not_cut_or_forked(rig: Rig, whole: Path) -> None:
    kept = read(whole)[layout.CHECKPOINT]
    report = verify(whole, trust(), against=kept)
    assert report.broken is None
    assert [link.status for link in report.links if link.name == "log is not forked or cut"] == ["ok"]
    rig.dataset("later")
    rig.relay.flush()
    rig.audit.publish()
    broken = verify(whole, trust(), against=rig.audit.checkpoint().encode()).broken
    # The log of the archive is shorter than a checkpoint that was kept: it was cut.
    assert broken is not None
    assert broken.name == "log entries"


class PassesAll:
    """Implements PolicyEngine: bribed."""

    def evaluate(self, bundle: Bundle, input_value: Mapping[str, Any]) -> Any:
        return [{"rule": rule, "verdict": "pass", "reasons": []} for rule in bundle.rules_for(input_value["action"])]


def test_a_platform_whose_policy_engine_lets_everything_pass_is_found_out(rig: Rig, tmp_path: Path) -> None:
    with opened(tmp_path) as honest:
        honest.close()
        bribed = copied(honest, tmp_path / "bribed", PassesAll())
        bribed.now += 1
        bribed.evaluator.measured = Measured(360, GOOD.metrics | {"accuracy": 0.1})
        bribed.evaluate()
        bribed.promoted()
        assert (bribed.stage(), bribed.problems()) == ("staging", [])
        broken = verify(bribed.archive(tmp_path / "e.zip"), bribed.trust).broken
        assert broken is not None
        assert (broken.name, broken.detail) == (
            "decision re-executed", "the policies refuse this input: promotion.evaluation-thresholds",
        )  # fmt: skip
        bribed.close()


@dataclass(frozen=True)
class TakesOverAll:
    """Implements Events, of a platform that stores a request with every signature that its caller sent: this envelope."""

    events: Events
    envelope: str

    def emit(self, connection: Connection, draft: EventDraft) -> str:
        if draft.type == "promotion.requested":
            connection.execute(update(tables.promotions).values(envelope=self.envelope))
            draft = dataclasses.replace(draft, signature_ref=self.envelope)
        return self.events.emit(connection, draft)

    def wait_for(self, event_ids: list[str]) -> dict[str, int]:
        return self.events.wait_for(event_ids)


def test_a_platform_that_takes_approvals_from_the_requester_is_found_out(tmp_path: Path) -> None:
    with opened(tmp_path) as careless:
        signers = [key_of(name) for name in ("rita", "ada", "ben", "cyd")]
        envelope = careless.store.put(world.envelope(careless.request_for().to_statement(), *signers).to_bytes())
        p = careless.ports
        careless.use(Ports(p.store, TakesOverAll(p.events, envelope), p.policy, p.signing))
        careless.promotions.carry_out(careless.request(), RITA)
        assert (careless.stage(), careless.problems()) == ("staging", [])
        broken = verify(careless.archive(tmp_path / "e.zip"), careless.trust).broken
        assert broken is not None
        assert (broken.name, broken.detail) == (
            "request and quorum", "the log has no promotion.approved event by ada, ben, cyd before the decision",
        )  # fmt: skip
