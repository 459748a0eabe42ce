"""Jobs are parsed strictly; the run key covers every recorded input."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.canonical import canonical
from services.core.errors import BadInput
from services.core.facts import run_key
from services.core.statements import CodeRef, RunInputs
from services.training.domain import Job, first_difference, inputs_of, load_yaml, metrics_of, require_job, tail_of
from services.training.errors import BadJob
from tests.training import EXAMPLE, job_json

D = ["sha256:" + letter * 64 for letter in "abcdef"]
CODE = CodeRef(repository="https://example.org/digits", commit="1" * 40, tree=D[0], dirty=False)
SETTINGS = {"python": "CPython 3.11.9", "OMP_NUM_THREADS": "1"}


def inputs() -> dict[str, Any]:
    job = require_job(job_json())
    return inputs_of(job, CODE, directory="", image=D[1], lock=D[2], datasets=[D[4], D[3]], settings=SETTINGS).to_json()


@pytest.mark.parametrize("path", sorted(EXAMPLE.glob("job*.yaml")), ids=lambda path: path.name)
def test_every_job_of_the_example_is_accepted(path: Any) -> None:
    assert require_job(load_yaml(path.read_bytes())).name == "digits"


@pytest.mark.parametrize(
    "change",
    [
        {"entrypoint": "train"},
        {"entrypoint": "train:loop; import os"},
        {"entrypoint": "../train:loop"},
        {"workers": 0},
        {"workers": True},
        {"workers": "2"},
        {"seed": -1},
        {"seed": 2**32},
        {"purpose": "anything"},
        {"datasets": []},
        {"datasets": ["optical-digits"]},
        {"datasets": ["a@1", "a@1"]},
        {"outputs": []},
        {"outputs": ["../model"]},
        {"outputs": ["/etc/passwd"]},
        {"outputs": ["a", "a"]},
        {"outputs": ["model.sig"]},
        {"hyperparameters": {"lr": float("nan")}},
        {"hyperparameters": {"big": 2**53}},
        {"hyperparameters": {"big": 2.0**53}},
        {"hyperparameters": {"text": "x" * 20_000}},
        {"name": "Digits"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_malformed_job_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        require_job(job_json() | change)


@pytest.mark.parametrize("field", sorted(job_json()))
def test_a_job_without_a_field_is_refused_and_names_it(field: str) -> None:
    value = job_json()
    del value[field]
    with pytest.raises(BadInput, match=field):
        require_job(value)


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "a: &x 1\nb: *x",
        "a: !!python/object:os.system x",
        "a: 2026-01-01",
        "1: 2",
        "a: .nan",
        "a: [",
        "a: " + "x" * 70_000,
    ],
)
def test_yaml_that_is_no_plain_value_is_refused(text: str) -> None:
    with pytest.raises(BadJob):
        load_yaml(text.encode())


def test_there_are_seven_inputs() -> None:
    assert sorted(inputs()) == ["codeRef", "datasets", "dependencyLock", "environment", "hyperparameters", "image", "seed"]


CHANGES: dict[str, Any] = {
    "repository": ("codeRef", "repository", "https://example.org/fork"),
    "commit": ("codeRef", "commit", "2" * 40),
    "tree": ("codeRef", "tree", D[5]),
    "dirty": ("codeRef", "dirty", True),
    "image": ("image", None, D[5]),
    "dependencyLock": ("dependencyLock", None, D[5]),
    "datasets": ("datasets", None, [D[3]]),
    "seed": ("seed", None, 8),
    "epochs": ("hyperparameters", "epochs", 7),
    "labels": ("hyperparameters", "labels", [1, 0]),
    "workers": ("environment", "workers", "1"),
    "entrypoint": ("environment", "entrypoint", "other:loop"),
    "outputs": ("environment", "outputs", "weights.bin"),
    "directory": ("environment", "directory", "sub"),
    "python": ("environment", "python", "CPython 3.12.0"),
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_the_run_key_changes_with_each_input(name: str) -> None:
    field, key, value = CHANGES[name]
    changed = copy.deepcopy(inputs())
    if key is None:
        changed[field] = value
    else:
        changed[field][key] = value
    assert run_key(changed) != run_key(inputs())
    difference = first_difference(inputs(), changed)
    assert (difference or "").startswith(field)


def test_the_run_key_ignores_the_order_of_data_sets_and_keys() -> None:
    job = require_job(job_json())
    swapped = inputs_of(job, CODE, directory="", image=D[1], lock=D[2], datasets=[D[3], D[4]], settings=SETTINGS).to_json()
    assert run_key(dict(reversed(swapped.items()))) == run_key(inputs())


# A whole float is an integer in canonical JSON, so it may not be beyond 2^53 either; `test_a_malformed_job_is_refused` has one.
numbers = st.integers(-(2**52), 2**52) | st.floats(-(2.0**52), 2.0**52)
scalars = st.none() | st.booleans() | numbers | st.text(max_size=5)
parameters = st.dictionaries(st.text(min_size=1, max_size=5), scalars | st.lists(scalars, max_size=3), max_size=4)


@given(parameters, parameters)
def test_equal_hyperparameters_and_only_they_give_equal_run_keys(first: dict[str, Any], second: dict[str, Any]) -> None:
    one, two = (inputs() | {"hyperparameters": value} for value in (first, second))
    assert (run_key(one) == run_key(two)) == (canonical(first) == canonical(second))


@given(parameters)
def test_recorded_inputs_survive_their_json(value: dict[str, Any]) -> None:
    recorded = inputs() | {"hyperparameters": value}
    assert run_key(RunInputs.from_json(recorded).to_json()) == run_key(recorded)


@pytest.mark.parametrize(
    ("recorded", "now", "said"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "a.b was 1, is 2"),
        ({"a": 1}, {}, "a was 1, is absent"),
        ({}, {"a": "x"}, 'a was absent, is "x"'),
        ({"a": [1]}, {"a": [1]}, None),
        ({"a": True}, {"a": 1}, "a was true, is 1"),
    ],
)
def test_the_first_difference_is_named(recorded: Any, now: Any, said: str | None) -> None:
    assert first_difference(recorded, now) == said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, True, [1]])
def test_a_metric_that_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(BadJob, match="metric loss of epoch 3"):
        metrics_of({"epoch": 3, "loss": value})


def test_a_long_error_keeps_its_end() -> None:
    assert tail_of("\x1b[36mhead\x1b[0m" + "x" * 3000 + " the reason").endswith("the reason")
    assert len(tail_of("x" * 3000)) < 2000


def test_a_job_survives_its_json() -> None:
    assert Job.from_json(require_job(job_json()).to_json()) == require_job(job_json())
