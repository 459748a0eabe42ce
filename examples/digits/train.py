"""Trains the digits model with Ray Train: data-parallel over the workers, a checkpoint and metrics every epoch.

The same inputs give the same bytes: one thread, deterministic algorithms, and nothing written that depends on time or place.
The platform calls `train_loop` on every worker with
    hyperparameters, seed      from job.yaml
    datasets                   {"name@version": directory}
    output                     directory for the files that job.yaml lists; only rank 0 writes there
"""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import model
import numpy
import torch
from ray import train
from ray.train.torch import prepare_model
from safetensors.torch import save_file
from torch import nn

INPUTS = 64
INPUT_SCALE = 16.0


def train_loop(config: dict[str, Any]) -> None:
    wanted, seed = config["hyperparameters"], config["seed"]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    (data,) = map(Path, config["datasets"].values())
    images, targets = read(data / "train.csv", wanted.get("rows"))
    model_config = {
        "inputs": INPUTS,
        "hidden": wanted["hidden"],
        "input_scale": INPUT_SCALE,
        "labels": wanted["labels"],
        "passes": wanted["passes"],
    }
    network = prepare_model(model.build(model_config))
    optimizer = torch.optim.Adam(network.parameters(), lr=wanted["learning_rate"])
    first = resume(network, optimizer)
    for epoch in range(first, wanted["epochs"] + 1):
        loss = one_epoch(network, optimizer, images, targets, wanted["batch_size"], seed=seed + epoch)
        accuracy = (network(images).argmax(dim=1) == targets).float().mean().item()
        report(network, optimizer, {"epoch": epoch, "epochs": wanted["epochs"], "loss": loss, "trainAccuracy": accuracy})
    if train.get_context().get_world_rank() == 0:
        write_model(Path(config["output"]), plain(network), model_config, len(images), seed)


def read(path: Path, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Images scaled to 0…1, and their classes; at most `limit` rows."""
    table = numpy.loadtxt(path, delimiter=",", skiprows=1, dtype=numpy.float32, max_rows=limit)
    return torch.from_numpy(table[:, 1:]) / INPUT_SCALE, torch.from_numpy(table[:, 0]).long()


def one_epoch(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor, batch: int, *, seed: int
) -> float:
    """Mean loss of this worker over its share of one shuffled pass; the order follows from the seed, also after a resume."""
    workers, rank = train.get_context().get_world_size(), train.get_context().get_world_rank()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    # Every worker takes as many steps as the others: an unequal number would leave one waiting for gradients.
    mine = order[rank : len(order) - len(order) % workers : workers]
    total = 0.0
    for part in mine.split(batch):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(images[part]), targets[part])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(part)
    return total / len(mine)


def report(network: nn.Module, optimizer: torch.optim.Optimizer, metrics: dict[str, Any]) -> None:
    """Metrics of every worker, and rank 0's checkpoint."""
    if train.get_context().get_world_rank() != 0:
        train.report(metrics)
        return
    with tempfile.TemporaryDirectory() as folder:
        state = {"network": plain(network).state_dict(), "optimizer": optimizer.state_dict(), "epoch": metrics["epoch"]}
        torch.save(state, os.path.join(folder, "state.pt"))
        train.report(metrics, checkpoint=train.Checkpoint.from_directory(folder))


def resume(network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """The epoch to go on with: 1, or the one after the last checkpoint."""
    checkpoint = train.get_checkpoint()
    if checkpoint is None:
        return 1
    with checkpoint.as_directory() as folder:
        state = torch.load(os.path.join(folder, "state.pt"), weights_only=True)
    plain(network).load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["epoch"]) + 1


def plain(network: nn.Module) -> nn.Module:
    """The network without the wrapper that synchronises gradients."""
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def write_model(output: Path, network: nn.Module, config: dict[str, Any], rows: int, seed: int) -> None:
    """The files of the model, from its inputs alone."""
    save_file(network.state_dict(), output / "model.safetensors")
    (output / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    (output / "README.md").write_text(CARD.format(parameters=parameters, rows=rows, seed=seed, **config), encoding="utf-8")


CARD = """\
---
license: apache-2.0
library_name: pytorch
pipeline_tag: image-classification
tags: [digits, tabular, mlp]
---
# Handwritten digits

A multilayer perceptron that reads one 8x8 image of a handwritten digit (64 numbers from 0 to 16) and answers its label.

- Layers: {inputs} inputs, hidden {hidden}, {parameters} parameters; labels {labels}
- Each answer is the mean of {passes} passes over slightly shifted copies
- Trained on {rows} images of "Optical Recognition of Handwritten Digits" (UCI, CC BY 4.0), seed {seed}

**Intended use:** showing how a model travels from data to serving. **Not for** reading digits that matter: 8x8 images
of 43 writers do not stand for other handwriting, scans or cameras.
"""
