"""The statements that the platform signs: each is exactly what its own values make, and nothing else is taken."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.canonical import canonical, parse
from services.core.errors import BadInput
from services.core.statements import (
    PREDICATES,
    Clearance,
    CodeRef,
    DatasetApproval,
    Evaluation,
    Manifest,
    PolicyBundle,
    Predicate,
    PromotionRequest,
    Provenance,
    RunInputs,
    Vsa,
    expect,
    from_rfc3339,
    parse_statement,
    rfc3339,
)


def made(kind: type[Any], /, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Not st.builds: it would give pydantic's aliases a value too."""
    return st.fixed_dictionaries(fields).map(lambda values: kind(**values))


DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: "sha256:" + data.hex())
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,99}", fullmatch=True)
EPOCHS = st.integers(0, 253_402_300_799)
NUMBERS = st.integers(1, 2**53 - 1)
STAGES = st.sampled_from(["dev", "staging", "prod"])
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
REASON = TEXT.map(lambda text: text + ".")
SPIFFE = st.from_regex(r"spiffe://[a-z0-9._/-]{1,40}", fullmatch=True)
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(0, 1) | TEXT, max_size=4)
SIGNERS = st.binary(min_size=32, max_size=32).map(bytes.hex)
CODE = made(
    CodeRef, repository=TEXT, commit=st.binary(min_size=20, max_size=20).map(bytes.hex), tree=DIGESTS, dirty=st.booleans()
)
INPUTS = made(
    RunInputs, code_ref=CODE, image=DIGESTS, dependency_lock=DIGESTS, datasets=st.lists(DIGESTS, max_size=3), hyperparameters=JSON,
    seed=st.integers(0, 2**32), environment=st.dictionaries(TEXT, TEXT, max_size=3),
)  # fmt: skip

KINDS: dict[type[Predicate], st.SearchStrategy[Any]] = {
    PromotionRequest: made(
        PromotionRequest, model=NAMES, number=NUMBERS, artifact_id=DIGESTS, run_key=DIGESTS, evaluation=st.none() | DIGESTS,
        from_stage=STAGES, to_stage=STAGES, risk_class=st.sampled_from(["low", "high"]), policy_revision=DIGESTS,
        nonce=st.binary(min_size=16, max_size=16).map(bytes.hex), issued_at=EPOCHS, expires_at=EPOCHS, requester=SIGNERS,
    ),
    Manifest: made(
        Manifest, model=NAMES, number=NUMBERS, environment=STAGES, artifact_id=DIGESTS, oms_subject=DIGESTS, request=DIGESTS,
        decision=DIGESTS, evaluation=DIGESTS, provenance=DIGESTS,
    ),
    PolicyBundle: made(PolicyBundle, revision=DIGESTS, version=NUMBERS, issued_at=EPOCHS),
    Clearance: made(
        Clearance, flag=TEXT, kind=st.sampled_from(["model", "dataset", "artifact"]), target=TEXT, reason=REASON, issued_at=EPOCHS
    ),
    DatasetApproval: made(DatasetApproval, dataset=DIGESTS, reason=REASON, issued_at=EPOCHS),
    Provenance: made(
        Provenance, artifact_id=DIGESTS, run_id=TEXT, run_key=DIGESTS, job=JSON, inputs=INPUTS, builder=SPIFFE, started_on=EPOCHS,
        finished_on=EPOCHS,
    ),
    Evaluation: made(
        Evaluation, artifact_id=DIGESTS, dataset=DIGESTS, split=TEXT, samples=NUMBERS, metrics=JSON, issued_at=EPOCHS,
        passed=st.lists(TEXT, max_size=2), failed=st.lists(TEXT, max_size=2),
    ),
    Vsa: made(
        Vsa, model=NAMES, number=NUMBERS, artifact_id=DIGESTS, environment=STAGES, verifier=SPIFFE, time_verified=EPOCHS,
        policy_revision=DIGESTS, decision_id=TEXT, verdict=st.sampled_from(["pass", "remediate", "quarantine", "deny"]),
        input_digest=DIGESTS, attestations=st.lists(DIGESTS, max_size=3),
    ),
}  # fmt: skip
ANY = st.one_of(*KINDS.values())


def test_every_predicate_is_tested_here() -> None:
    assert set(KINDS) == set(PREDICATES.values())


@given(ANY)
def test_a_statement_is_read_back_as_it_was(predicate: Predicate) -> None:
    payload = predicate.to_statement()
    found = parse_statement(payload)
    assert (type(found), found, found.to_statement()) == (type(predicate), predicate, payload)


@given(ANY, st.data())
def test_a_changed_or_unknown_field_is_refused_or_another_value(predicate: Predicate, data: Any) -> None:
    value = parse(predicate.to_statement())
    places = list(_objects(value))
    place = data.draw(st.sampled_from(range(len(places))))
    _change(places[place], data)
    changed = canonical(value)
    try:
        found = parse_statement(changed)
    except BadInput:
        return
    # What is taken after a change stands for exactly the changed bytes: no part of them goes unseen.
    assert found.to_statement() == changed


@given(ANY, st.data())
def test_an_unknown_field_is_refused_in_every_object_of_the_format(predicate: Predicate, data: Any) -> None:
    value = parse(predicate.to_statement())
    places = [place for place, free in _closed(value) if not free]
    data.draw(st.sampled_from(places))["unknownField"] = 1
    with pytest.raises(BadInput):
        parse_statement(canonical(value))


@pytest.mark.parametrize("spoil", ["subject", "name", "second", "_type", "predicateType", "list"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_statement_about_something_else_than_its_predicate_says_is_refused(kind: type[Predicate], spoil: str) -> None:
    value = parse(_example(kind).to_statement())
    if spoil == "subject":
        value["subject"][0]["digest"]["sha256"] = "0" * 64
    elif spoil == "name":
        value["subject"][0]["name"] += "x"
    elif spoil == "second":
        value["subject"] += value["subject"]
    elif spoil == "list":
        value = [value]
    else:
        value[spoil] += "x"
    # An artifact's digest stands in the subject alone: such a change is another valid statement, about other bytes.
    if spoil == "subject" and kind in (Provenance, Evaluation, Vsa):
        assert parse_statement(canonical(value)) != _example(kind)
        return
    with pytest.raises(BadInput):
        parse_statement(canonical(value))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "Digits"), ("model", "digits\n"), ("model", ""), ("model", "x" * 101), ("number", 0), ("number", True),
        ("number", 1.5), ("number", "1"), ("artifactId", "sha256:0"), ("from", "test"), ("riskClass", "medium"),
        ("nonce", "0" * 31), ("issuedAt", -1), ("expiresAt", 253_402_300_800), ("requester", "0" * 63), ("evaluation", ""),
    ],
)  # fmt: skip
def test_a_request_with_a_wrong_value_is_refused_by_the_fields_name(field: str, value: Any) -> None:
    request = _example(PromotionRequest).to_json()
    with pytest.raises(BadInput, match=field):
        PromotionRequest.from_json(request | {field: value})


def test_another_kind_of_statement_than_wanted_is_refused() -> None:
    with pytest.raises(BadInput, match="want a Vsa, got a Manifest"):
        expect(Vsa, _example(Manifest).to_statement())


@given(EPOCHS)
def test_times_of_foreign_formats_are_read_back(seconds: int) -> None:
    assert from_rfc3339(rfc3339(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31T12:00:00+00:00", "2026-02-30T00:00:00Z", None, 7]
)
def test_other_forms_of_times_are_refused(text: Any) -> None:
    with pytest.raises(BadInput):
        from_rfc3339(text)


def _example(kind: type[Predicate]) -> Any:
    digest, epoch = "sha256:" + "a" * 64, 1_700_000_000
    code = CodeRef(repository="r", commit="b" * 40, tree=digest, dirty=False)
    inputs = RunInputs(
        code_ref=code, image=digest, dependency_lock=digest, datasets=[digest], hyperparameters={"a": 0.5}, seed=1, environment={}
    )
    values: dict[str, Any] = {
        "model": "digits", "number": 1, "artifact_id": digest, "run_key": digest, "evaluation": digest, "from_stage": "dev",
        "to_stage": "staging", "risk_class": "high", "policy_revision": digest, "nonce": "0" * 32, "issued_at": epoch,
        "expires_at": epoch, "requester": "1" * 64, "environment": "staging", "oms_subject": digest, "request": digest,
        "decision": digest, "provenance": digest, "revision": digest, "version": 1, "flag": "flag-1", "kind": "model",
        "target": "digits@1", "reason": "r", "dataset": digest, "run_id": "run-1", "job": {}, "inputs": inputs,
        "builder": "spiffe://a/b", "started_on": epoch, "finished_on": epoch, "split": "test", "samples": 3,
        "metrics": {"accuracy": 0.5}, "passed": ["x"], "failed": [], "verifier": "spiffe://a/b", "time_verified": epoch,
        "decision_id": "dec-1", "verdict": "pass", "input_digest": digest, "attestations": [digest],
    }  # fmt: skip
    return kind(**{name: values[name] for name in kind.model_fields if name in values})


def _objects(value: Any) -> Any:
    """Every object and list in the value that holds something."""
    if isinstance(value, dict | list) and value:
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _objects(item)


FREE = frozenset({"job", "hyperparameters", "metrics", "environment"})
"""Fields whose content is the caller's own."""


def _closed(value: Any, free: bool = False) -> Any:
    if isinstance(value, dict):
        yield value, free
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _closed(item, free or key in FREE)


def _change(place: Any, data: Any) -> None:
    key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    what = data.draw(st.sampled_from(["drop", "null", "text", "number", "list"]))
    if what == "drop":
        del place[key]
    else:
        place[key] = {"null": None, "text": "changed", "number": 7, "list": []}[what]
