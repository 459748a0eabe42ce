"""The facts of a promotion decision: each follows from evidence bytes and trust, whole and exact; what does not verify is null."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from services.core import facts, keys, oms
from services.core.digests import FileEntry, sha256, tree_digest
from services.core.dsse import PAYLOAD_TYPE, Envelope
from services.core.errors import BadInput
from services.core.facts import Evidence, dataset_fact, promotion_input, run_key
from services.core.statements import CodeRef, DatasetApproval, PromotionRequest, Provenance
from services.core.tls import person_id, service_id
from services.core.trust import Person, Trust
from tests import signing as world

STEWARDS = {name: (keys.generate_p256(), keys.generate_p256()) for name in ("stella", "sven")}
PEOPLE = tuple(
    Person(person_id(name), frozenset({"steward"}), tuple(map(world.pem, pair))) for name, pair in STEWARDS.items()
)
TRUST = dataclasses.replace(world.trust(), people=world.trust().people + PEOPLE)
FILES = [FileEntry("config.json", 2, sha256(b"{}")), FileEntry("model.safetensors", 7, sha256(b"weights"))]
MANIFEST = b'{"licence":"CC-BY-4.0","pii":"none"}'
OTHER = b'{"licence":"MIT","pii":"present"}'
VERSION = {"artifactId": "sha256:of-the-version", "number": 1}
REQUEST = world.request()
BUILDER, EVALUATOR = world.SERVICE_KEYS["builder"], world.SERVICE_KEYS["evaluator"]


def signer(key: Any) -> str:
    return keys.signer_id(key.public_key())


def oms_bundle(key: Any = BUILDER, files: Sequence[FileEntry] = FILES) -> bytes:
    payload = oms.statement(files)
    return oms.bundle(payload, world.envelope(payload, key).signatures[0], key.public_key())


def approval(dataset: str, *signing: Any) -> bytes:
    statement = DatasetApproval(dataset=dataset, reason="consent", issued_at=world.NOW).to_statement()
    return world.envelope(statement, *signing).to_bytes()


def evidence(**changes: Any) -> Evidence:
    values: dict[str, Any] = {
        "request": world.approved(REQUEST, "cyd", "ada", "ben").to_bytes(),
        "version": VERSION,
        "files": FILES,
        "artifact_signature": oms_bundle(),
        "evaluation": world.envelope(world.evaluation().to_statement(), EVALUATOR).to_bytes(),
        "provenance": world.envelope(world.provenance().to_statement(), BUILDER).to_bytes(),
        "datasets": {sha256(OTHER): OTHER, sha256(MANIFEST): MANIFEST},
        "dataset_approvals": [approval(sha256(OTHER), STEWARDS["stella"][0])],
        "flags": [{"id": "flag-1"}, {"id": "flag-2"}],
        "policy_revision": "sha256:policies",
    }
    return Evidence(**(values | changes))


def computed(changes: Trust = TRUST, at: int | None = None, **of: Any) -> dict[str, Any]:
    return promotion_input(evidence(**of), changes, now=world.NOW, at=at)


def revoking(key: Any, index: int = 100) -> Trust:
    return dataclasses.replace(TRUST, revoked={signer(key): index})


def test_the_input_holds_each_fact_and_nothing_else() -> None:
    inputs = world.provenance().inputs.to_json()
    assert computed() == {
        "action": "promote",
        "now": world.NOW,
        "policyRevision": "sha256:policies",
        "request": {
            "model": "digits",
            "number": 1,
            "artifactId": world.digest("artifact"),
            "runKey": world.digest("run"),
            "evaluation": world.digest("evaluation"),
            "from": "staging",
            "to": "prod",
            "riskClass": "high",
            "policyRevision": world.digest("policy"),
            "nonce": "0" * 32,
            "issuedAt": world.NOW - 100,
            "expiresAt": world.NOW + 3600,
            "digest": sha256(REQUEST.to_statement()),
            "requester": {"signer": world.signer_of("rita"), "person": person_id("rita"), "roles": ["approver", "promoter"]},
        },
        "version": VERSION,
        "artifact": {
            "id": "sha256:of-the-version",
            "recomputed": tree_digest(FILES),
            "signature": {"signer": signer(BUILDER), "role": "builder", "subject": oms.subject_digest(FILES)},
        },
        "approvals": [
            {"signer": world.signer_of(name), "person": person_id(name), "roles": ["approver"]} for name in ("ada", "ben", "cyd")
        ],
        "evaluation": {
            "digest": sha256(world.evaluation().to_statement()),
            "artifactId": world.digest("artifact"),
            "dataset": world.digest("dataset"),
            "split": "test",
            "samples": 100,
            "metrics": {"accuracy": 0.97},
            "issuedAt": world.NOW - 50,
            "signer": signer(EVALUATOR),
            "role": "evaluator",
        },
        "provenance": {
            "digest": sha256(world.provenance().to_statement()),
            "artifactId": world.digest("artifact"),
            "runKey": world.digest("run"),
            "recomputedRunKey": run_key(inputs),
            "missing": [],
            "purpose": None,
            "dirty": False,
            "datasets": [world.digest("dataset")],
            "signer": signer(BUILDER),
            "role": "builder",
        },
        "datasets": sorted(
            [
                {"id": sha256(MANIFEST), "licence": "CC-BY-4.0", "pii": "none", "approvedBy": []},
                {"id": sha256(OTHER), "licence": "MIT", "pii": "present", "approvedBy": [person_id("stella")]},
            ],
            key=lambda fact: str(fact["id"]),
        ),
        "flags": [{"id": "flag-1"}, {"id": "flag-2"}],
    }


def test_what_is_not_there_is_null() -> None:
    found = computed(artifact_signature=None, evaluation=None, provenance=None, files=[], datasets={}, flags=[])
    assert found["artifact"] == {"id": "sha256:of-the-version", "recomputed": None, "signature": None}
    assert (found["evaluation"], found["provenance"], found["datasets"], found["flags"]) == (None, None, [], [])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no envelope", b"{}",
        world.envelope(world.evaluation().to_statement(), BUILDER).to_bytes(),
        world.envelope(world.evaluation().to_statement(), keys.generate_p256()).to_bytes(),
        world.envelope(world.provenance().to_statement(), EVALUATOR).to_bytes(),
        Envelope(PAYLOAD_TYPE, world.evaluation().to_statement(), ()).to_bytes(),
    ],
    ids=["nothing", "text", "json", "builder's", "stranger's", "provenance", "unsigned"],
)  # fmt: skip
def test_an_evaluation_that_does_not_verify_is_null(data: bytes) -> None:
    assert computed(evaluation=data)["evaluation"] is None


@pytest.mark.parametrize(
    "data",
    [
        b"", world.envelope(world.provenance().to_statement(), EVALUATOR).to_bytes(),
        world.envelope(world.evaluation().to_statement(), BUILDER).to_bytes(),
    ],
    ids=["nothing", "evaluator's", "evaluation"],
)  # fmt: skip
def test_provenance_that_does_not_verify_is_null(data: bytes) -> None:
    assert computed(provenance=data)["provenance"] is None


@pytest.mark.parametrize(
    "data", [b"", b"{}", oms_bundle(EVALUATOR), oms_bundle(files=FILES[:1])], ids=["nothing", "json", "evaluator's", "fewer files"]
)
def test_a_signature_of_the_artifact_that_does_not_verify_is_null(data: bytes) -> None:
    assert computed(artifact_signature=data)["artifact"] == {
        "id": "sha256:of-the-version", "recomputed": tree_digest(FILES), "signature": None,
    }  # fmt: skip


def test_a_request_that_is_none_is_bad_input() -> None:
    for data in (b"{}", world.envelope(world.evaluation().to_statement(), EVALUATOR).to_bytes()):
        with pytest.raises(BadInput):
            computed(request=data)


def test_a_requester_who_did_not_sign_is_null_and_a_stranger_counts_nobody() -> None:
    unsigned = world.envelope(REQUEST.to_statement(), world.PEOPLE_KEYS["ada"][0])
    assert computed(request=unsigned.to_bytes())["request"]["requester"] is None
    stranger = keys.generate_p256()
    theirs: PromotionRequest = world.request(requester=signer(stranger))
    signed = world.envelope(theirs.to_statement(), stranger, world.PEOPLE_KEYS["ada"][0])
    found = computed(request=signed.to_bytes())
    assert (found["request"]["requester"], found["approvals"]) == (None, [])


@pytest.mark.parametrize(("at", "counts"), [(None, False), (99, True), (100, False), (101, False)])
def test_a_revoked_key_counts_for_what_the_log_held_before(at: int | None, counts: bool) -> None:
    by_builder, by_evaluator = computed(revoking(BUILDER), at), computed(revoking(EVALUATOR), at)
    found = [
        by_builder["artifact"]["signature"], by_builder["provenance"], by_evaluator["evaluation"],
        computed(revoking(world.PEOPLE_KEYS["rita"][0]), at)["request"]["requester"],
        next(fact for fact in computed(revoking(STEWARDS["stella"][0]), at)["datasets"] if fact["pii"] == "present")["approvedBy"]
        or None,
    ]  # fmt: skip
    assert [fact is not None for fact in found] == [counts] * 5
    approvers = [item["person"] for item in computed(revoking(world.PEOPLE_KEYS["ada"][0]), at)["approvals"]]
    assert (person_id("ada") in approvers) is counts
    assert by_evaluator["artifact"] == computed()["artifact"]


def test_a_data_set_whose_bytes_are_others_has_no_id() -> None:
    assert dataset_fact(sha256(MANIFEST), OTHER, [], TRUST) == {"id": None, "licence": "MIT", "pii": "present", "approvedBy": []}
    for data in (b"{}", b'{"licence":"MIT"}', b'{"pii":"none"}'):
        with pytest.raises(KeyError):
            dataset_fact(sha256(data), data, [], TRUST)


@pytest.mark.parametrize(
    ("approvals", "approved"),
    [
        ([], []),
        ([approval(sha256(OTHER), STEWARDS["stella"][0])], ["stella"]),
        ([approval(sha256(OTHER), STEWARDS["stella"][1])], ["stella"]),
        ([approval(sha256(OTHER), STEWARDS["sven"][0], STEWARDS["stella"][0])], ["stella", "sven"]),
        ([approval(sha256(OTHER), *STEWARDS["sven"]), approval(sha256(OTHER), STEWARDS["stella"][0])], ["stella", "sven"]),
        ([approval(sha256(OTHER), world.PEOPLE_KEYS["ada"][0], STEWARDS["sven"][0])], ["sven"]),
        ([approval(sha256(OTHER), world.PEOPLE_KEYS["ada"][0])], []),
        ([approval(sha256(MANIFEST), STEWARDS["stella"][0])], []),
        ([b"no envelope", approval(sha256(OTHER), STEWARDS["sven"][0])], ["sven"]),
    ],
    ids=["none", "one", "second key", "two in one", "two", "another role's beside", "another role's", "another set's", "rubbish"],
)
def test_stewards_approve_these_very_bytes(approvals: list[bytes], approved: list[str]) -> None:
    assert dataset_fact(sha256(OTHER), OTHER, approvals, TRUST)["approvedBy"] == [person_id(name) for name in approved]


def of_run(**changes: Any) -> bytes:
    made = world.provenance()
    values = {name: getattr(made, name) for name in type(made).model_fields} | changes
    return world.envelope(Provenance(**values).to_statement(), BUILDER).to_bytes()


def test_provenance_says_what_was_dirty_for_what_and_from_what() -> None:
    inputs = world.provenance().inputs
    code = CodeRef(repository="https://git.example/digits", commit="0" * 40, tree=world.digest("tree"), dirty=True)
    changed = inputs.model_copy(update={"code_ref": code, "datasets": [world.digest("z"), world.digest("a")]})
    found = computed(provenance=of_run(inputs=changed, job={"name": "digits", "purpose": "research"}))["provenance"]
    assert (found["dirty"], found["purpose"]) == (True, "research")
    assert found["datasets"] == sorted([world.digest("a"), world.digest("z")])
    assert found["recomputedRunKey"] == run_key(changed.to_json()) != run_key(inputs.to_json())


def test_a_run_key_is_the_digest_of_the_canonical_bytes() -> None:
    assert run_key({"b": 1, "a": [True]}) == sha256(b'{"a":[true],"b":1}')


def test_the_seven_inputs_are_those_of_the_specification() -> None:
    wanted = ("codeRef", "image", "dependencyLock", "datasets", "hyperparameters", "seed", "environment")
    assert wanted == facts.REQUIRED_INPUTS
    assert service_id("api") == world.provenance().builder
