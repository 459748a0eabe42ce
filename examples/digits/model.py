"""The digits model: how it is built from config.json and how it answers. Training, evaluation and serving all use this file.

A model directory holds model.safetensors, config.json and README.md. config.json:
    inputs        pixels of one image
    hidden        sizes of the hidden layers
    input_scale   pixels are divided by this
    labels        class index to the label that is answered
    passes        the answer is the mean over this many slightly shifted copies of the image; each costs one forward pass
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

SIDE = 8
SHIFT = 0.15
"""Largest shift of a copy, as a share of the distance between two pixels."""


def build(config: dict[str, Any]) -> nn.Module:
    """The network that a config describes, with fresh weights from torch's generator."""
    sizes = [config["inputs"], *config["hidden"]]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], len(config["labels"])))


def load(directory: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The trained network and its config."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    network = build(config)
    network.load_state_dict(load_file(directory / "model.safetensors"))
    return network.eval(), config


def logits(network: nn.Module, config: dict[str, Any], rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """Scores of every class, one row an image, averaged over the passes."""
    images = torch.tensor(rows, dtype=torch.float32) / config["input_scale"]
    with torch.inference_mode():
        total = network(images)
        for number in range(1, config["passes"]):
            total = total + network(shifted(images, number))
    return total / config["passes"]


def predict(network: nn.Module, config: dict[str, Any], rows: Sequence[Sequence[float]]) -> list[int]:
    """The label of each image."""
    return [config["labels"][index] for index in logits(network, config, rows).argmax(dim=1).tolist()]


def shifted(images: torch.Tensor, number: int) -> torch.Tensor:
    """Copy `number` of the images, moved by a fraction of a pixel: its direction and size follow from the number alone."""
    right, down = (((number * step) % 7 - 3) / 3 * SHIFT for step in (2, 3))
    grid = images.reshape(-1, SIDE, SIDE)
    grid = (1 - abs(right)) * grid + abs(right) * torch.roll(grid, 1 if right > 0 else -1, dims=2)
    grid = (1 - abs(down)) * grid + abs(down) * torch.roll(grid, 1 if down > 0 else -1, dims=1)
    return grid.reshape(images.shape)
