"""Multi-layer perceptrons over images, described by an artifact's config.json (the family that examples/digits trains):

    inputs        numbers in one input row        hidden    sizes of the hidden layers
    input_scale   inputs are divided by this      labels    class index to the label that is answered
    passes        the answer is the mean over this many copies of the (square) image, shifted by fractions of a pixel

Reads weights and numbers only; nothing of an artifact is executed. Weights are NAME.weight and NAME.bias of each linear layer.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from services.core.canonical import parse
from services.serving.errors import BadModel

FIELDS = {"inputs", "hidden", "input_scale", "labels", "passes"}
MAX_PASSES = 10_000
SHIFT = 0.15
"""Largest shift of a copy, as a share of the distance between two pixels."""

Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Mlp:
    """layers: (weight, bias) from input to output; labels: by output index."""

    layers: tuple[Layer, ...]
    labels: tuple[str, ...]
    passes: int
    input_scale: float

    @property
    def width(self) -> int:
        """Numbers that one input row holds."""
        return int(self.layers[0][0].shape[1])

    def predict(self, rows: torch.Tensor) -> tuple[list[str], torch.Tensor]:
        """Labels, and scores (softmax) by label index. rows: float32, (n, width), unscaled."""
        with torch.inference_mode():
            images = rows / self.input_scale
            total = self._logits(images)
            for number in range(1, self.passes):
                total = total + self._logits(_shifted(images, number))
            scores = torch.softmax(total / self.passes, dim=1)
            return [self.labels[index] for index in scores.argmax(dim=1).tolist()], scores

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        for weight, bias in self.layers[:-1]:
            x = torch.relu(torch.nn.functional.linear(x, weight, bias))
        return torch.nn.functional.linear(x, *self.layers[-1])


def _shifted(images: torch.Tensor, number: int) -> torch.Tensor:
    """Copy `number` of the square images; direction and size follow from the number alone."""
    side = math.isqrt(images.shape[1])
    right, down = (((number * step) % 7 - 3) / 3 * SHIFT for step in (2, 3))
    grid = images.reshape(-1, side, side)
    grid = (1 - abs(right)) * grid + abs(right) * torch.roll(grid, 1 if right > 0 else -1, dims=2)
    grid = (1 - abs(down)) * grid + abs(down) * torch.roll(grid, 1 if down > 0 else -1, dims=1)
    return grid.reshape(images.shape)


def build(config_json: bytes, tensors: Mapping[str, torch.Tensor]) -> Mlp:
    """The network, if configuration and weights fit together.

    Raises:
        BadModel: a missing or unknown field, or shapes that are not those of the configuration.
    """
    config = parse(config_json)
    if not isinstance(config, dict) or set(config) != FIELDS:
        raise BadModel(f"config.json: want an object with exactly the fields {sorted(FIELDS)}")
    passes, scale = config["passes"], config["input_scale"]
    if type(passes) is not int or not 1 <= passes <= MAX_PASSES:
        raise BadModel(f"config.json: passes: want an integer from 1 to {MAX_PASSES}")
    if type(scale) not in (int, float) or scale <= 0:
        raise BadModel("config.json: input_scale: want a number over 0")
    labels = config["labels"]
    if not isinstance(labels, list) or not labels:
        raise BadModel("config.json: labels: want a list, one for each class")
    layers = _layers(tensors)
    _check_shapes(layers, _sizes(config))
    return Mlp(layers, tuple(str(label) for label in labels), passes, float(scale))


def _sizes(config: Mapping[str, Any]) -> list[int]:
    """Of the layers, from the input to the labels."""
    hidden = config["hidden"]
    if not isinstance(hidden, list) or type(config["inputs"]) is not int or any(type(size) is not int for size in hidden):
        raise BadModel("config.json: inputs and hidden: want an integer and a list of integers")
    if config["passes"] > 1 and math.isqrt(config["inputs"]) ** 2 != config["inputs"]:
        raise BadModel(f"config.json: passes: {config['inputs']} inputs are no square image, which cannot be shifted")
    return [config["inputs"], *hidden, len(config["labels"])]


def _layers(tensors: Mapping[str, torch.Tensor]) -> tuple[Layer, ...]:
    names = sorted((name for name in tensors if name.endswith(".weight")), key=_natural)
    biases = [name.removesuffix("weight") + "bias" for name in names]
    if not names or sorted(names + biases) != sorted(tensors):
        raise BadModel(f"the weights hold {sorted(tensors)}: want pairs NAME.weight and NAME.bias")
    return tuple((tensors[weight].float(), tensors[bias].float()) for weight, bias in zip(names, biases, strict=True))


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which layer 10 follows layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _check_shapes(layers: tuple[Layer, ...], sizes: list[int]) -> None:
    wanted = [(after, before) for before, after in pairwise(sizes)]
    found = [tuple(weight.shape) for weight, _ in layers]
    if found != wanted or [tuple(bias.shape) for _, bias in layers] != [(after,) for after, _ in wanted]:
        raise BadModel(f"the weights have shapes {found}, config.json says {wanted}")
