"""The evaluator measures scores against targets, and says precisely why a model or a split cannot be measured."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import BadInput
from services.core.object_backends.folder import open_store
from services.core.objects import ObjectStore
from services.core.statements import Evaluation
from services.training.evaluation import ProcessEvaluator
from services.training.evaluator import measure, read_tables

CONFIG = {"inputs": 4, "hidden": [], "input_scale": 1.0, "labels": [0, 1], "passes": 1}
ROWS = "label,a,b,c,d\n0,1,0,0,0\n1,0,1,0,0\n1,1,0,0,0\n"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "objects"))


def model(store: ObjectStore, **changes: object) -> dict[str, str]:
    """A model that answers class 0 for rows that start with 1, class 1 for others."""
    import torch
    from safetensors.torch import save

    weights = {"0.weight": torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]), "0.bias": torch.zeros(2)}
    return {"model.safetensors": store.put(save(weights)), "config.json": store.put(json.dumps(CONFIG | changes).encode())}


def evaluator(store: ObjectStore) -> ProcessEvaluator:
    return ProcessEvaluator(store, os.environ)


def test_per_class_figures_add_up() -> None:
    assert measure([0, 0, 1, 1], [0, 1, 1, 1], 3) == {
        "accuracy": 0.75,
        "perClass": {
            "0": {"precision": 0.5, "recall": 1.0, "count": 1},
            "1": {"precision": 1.0, "recall": 0.666667, "count": 3},
            "2": {"precision": 0.0, "recall": 0.0, "count": 0},
        },
        "confusion": [[1, 0, 0], [1, 2, 0], [0, 0, 0]],
    }


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=50))
def test_every_row_is_counted_once(pairs: list[tuple[int, int]]) -> None:
    found = measure([answer for answer, _ in pairs], [target for _, target in pairs], 5)
    assert sum(map(sum, found["confusion"])) == sum(item["count"] for item in found["perClass"].values()) == len(pairs)
    assert found["accuracy"] == round(sum(answer == target for answer, target in pairs) / len(pairs), 6)


def test_a_target_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(BadInput, match="class 2 is none of the model's 2"):
        measure([0], [2], 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("label,a\n", "no rows"),
        ("label,a\nx,1\n", "line 2"),
        ("label,a\n1\n", "line 2: 0 inputs, the model takes 1"),
        ("label,a\n1,2,3\n", "line 2: 2 inputs"),
        ("label,a\n1,b\n", "line 2"),
        ("label,a\n1,2\n\n", "line 3"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "test.csv"
    path.write_text(text)
    with pytest.raises(BadInput, match=said):
        read_tables([path], 1)


def test_a_model_is_measured_in_its_own_process(store: ObjectStore) -> None:
    found = evaluator(store).evaluate(model(store), {"test.csv": store.put(ROWS.encode())})
    assert (found.samples, found.metrics["accuracy"]) == (3, 0.666667)
    digest = "sha256:" + "0" * 64
    result = Evaluation(
        artifact_id=digest,
        dataset=digest,
        split="test",
        samples=3,
        metrics=found.metrics,
        issued_at=1,
        passed=[],
        failed=["accuracy"],
    )
    assert b'"confusion"' in result.to_statement()


def test_a_wrong_label_map_does_not_show_in_an_evaluation(store: ObjectStore) -> None:
    split = {"test.csv": store.put(ROWS.encode())}
    assert evaluator(store).evaluate(model(store, labels=[1, 0]), split) == evaluator(store).evaluate(model(store), split)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"hidden": [3]}, "shapes"), ({"inputs": 5}, "shapes"), ({"extra": 1}, "exactly the fields"), ({"passes": 0}, "passes")],
)
def test_a_model_that_cannot_be_built_is_refused_with_the_reason(store: ObjectStore, changes: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        evaluator(store).evaluate(model(store, **changes), {"test.csv": store.put(ROWS.encode())})


def test_weights_that_are_no_safetensors_are_refused(store: ObjectStore) -> None:
    files = model(store) | {"model.safetensors": store.put(b"\x80\x04pickle")}
    with pytest.raises(BadInput, match="cannot be evaluated"):
        evaluator(store).evaluate(files, {"test.csv": store.put(ROWS.encode())})


def test_a_split_without_a_table_is_refused(store: ObjectStore) -> None:
    with pytest.raises(BadInput, match=r"no \.csv file"):
        evaluator(store).evaluate(model(store), {"notes.txt": store.put(b"")})
