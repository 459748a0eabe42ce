"""The model family that predictors build, against the code that trained it."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from services.serving.errors import BadModel
from services.serving.models import mlp
from services.serving.predictor import server

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits" / "model.py"
CONFIG: dict[str, Any] = {"inputs": 64, "hidden": [12, 7], "input_scale": 16.0, "labels": list(range(10)), "passes": 5}


def trained() -> tuple[Any, dict[str, torch.Tensor]]:
    """The example's module, and weights of a network that it builds."""
    spec = importlib.util.spec_from_file_location("digits_model", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(3)
    return module, dict(module.build(CONFIG).state_dict())


def test_a_predictor_answers_what_the_training_code_answers() -> None:
    torch.set_num_threads(1)
    module, tensors = trained()
    network = module.build(CONFIG)
    network.load_state_dict(tensors)
    rows = torch.rand(20, 64) * 16
    served = server.build_model({"config.json": json.dumps(CONFIG).encode(), "model.safetensors": save(tensors), "README.md": b""})
    labels, scores = served.predict(rows)
    expected = module.logits(network.eval(), CONFIG, rows.tolist())
    assert torch.allclose(scores, torch.softmax(expected, dim=1), atol=1e-6)
    assert labels == [str(label) for label in module.predict(network, CONFIG, rows.tolist())]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passes": 0}, "passes"),
        ({"passes": 2.5}, "passes"),
        ({"input_scale": 0}, "input_scale"),
        ({"labels": []}, "labels"),
        ({"labels": [1, 2]}, "shapes"),
        ({"hidden": [12]}, "shapes"),
        ({"hidden": "12"}, "hidden"),
        ({"inputs": 63}, "square"),
        ({"code": "import os"}, "exactly the fields"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    _, tensors = trained()
    with pytest.raises(BadModel, match=message):
        mlp.build(json.dumps(CONFIG | change).encode(), tensors)


@pytest.mark.parametrize("extra", [{"5.weight": torch.zeros(1, 1)}, {"shift": torch.zeros(1)}])
def test_weights_without_their_pair_are_refused(extra: dict[str, torch.Tensor]) -> None:
    _, tensors = trained()
    with pytest.raises(BadModel, match=r"NAME\.weight"):
        mlp.build(json.dumps(CONFIG).encode(), tensors | extra)


@pytest.mark.parametrize(
    "files",
    [{}, {"config.json": b"{}"}, {"config.json": b"{}", "a.safetensors": b"", "b.safetensors": b""},
     {"config.json": b"{}", "a.safetensors": b"not safetensors"}],
)
def test_a_tree_without_one_model_is_refused(files: dict[str, bytes]) -> None:
    with pytest.raises(BadModel):
        server.build_model(files)
