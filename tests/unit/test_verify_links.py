"""Each link of the chain breaks by its own name, also where every digest and signature around it was made to fit again."""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from services.core import archive as layout
from services.core import dsse
from services.core.bundle import Bundle, load_bundle, to_tar
from services.core.canonical import canonical, parse
from services.core.trust import Signer, Trust
from services.registry.ports import Measured
from services.verify.service import verify
from tests import signing as world
from tests.archives import Members, edited, flipped, read
from tests.registry import GOOD, Rig, copied, key_of, opened, trust


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder)) as rig:
        rig.promoted()
        yield rig


@pytest.fixture(scope="module")
def whole(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig.archive(tmp_path_factory.mktemp("archive") / "evidence.zip")


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


@pytest.mark.parametrize(
    ("change", "link"),
    [
        (checkpoint_of_another_key, "log checkpoint"),
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
def test_a_forged_member_breaks_the_link_that_it_belongs_to(whole: Path, tmp_path: Path, change: object, link: str) -> None:
    report = verify(edited(whole, tmp_path / "e.zip", change), trust())  # type: ignore[arg-type]
    assert report.broken is not None
    assert (report.broken.name, report.to_json()["brokenLink"]) == (link, link)
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
    assert verify(whole, trust(revoked={signer: completed + 1})).broken is None
    broken = verify(whole, trust(revoked={signer: completed})).broken
    assert broken is not None
    assert broken.name == "manifest signature"


def test_a_kept_checkpoint_tells_that_the_log_was_not_cut_or_forked(rig: Rig, whole: Path) -> None:
    kept = read(whole)[layout.CHECKPOINT]
    report = verify(whole, trust(), against=kept)
    assert (report.broken, report.links[-1].status) == (None, "ok")
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
