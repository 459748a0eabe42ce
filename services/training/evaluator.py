"""The evaluator: how well a model's scores name the class, on labelled rows it has not seen.

    python -m services.training.evaluator MODEL_FOLDER TABLE.csv…

Prints one JSON object {"samples", "metrics"}, or {"error"} and exits with 2. It compares the *index* of the highest score with the
target, as a test set has it; the label map of config.json is not looked at. A model that scores well and answers wrong
labels passes here, and is found by the canary, which compares answers.

A table has a header, the class index in its first column, and one number for each input. One thread, no Ray, no network.
"""

import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.core.errors import AiInfraError, BadInput
from services.training.evaluation import BAD_MODEL

DECIMALS = 6
BATCH = 1024


def read_tables(paths: Sequence[Path], width: int) -> tuple[list[list[float]], list[int]]:
    """Rows and class indexes.

    Raises:
        BadInput: no row, a row of another width, or a cell that is no number.
    """
    rows: list[list[float]] = []
    targets: list[int] = []
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            for number, line in enumerate(csv.reader(file), 1):
                if number == 1:
                    continue
                try:
                    targets.append(int(line[0]))
                    rows.append([float(cell) for cell in line[1:]])
                except (ValueError, IndexError) as error:
                    raise BadInput(f"{path.name}, line {number}: {error}") from error
                if len(rows[-1]) != width:
                    raise BadInput(f"{path.name}, line {number}: {len(rows[-1])} inputs, the model takes {width}")
    if not rows:
        raise BadInput("the split has no rows")
    return rows, targets


def measure(found: Sequence[int], targets: Sequence[int], classes: int) -> dict[str, Any]:
    """Accuracy, confusion[target][found], and per class precision, recall and count.

    Precision of a class that was never answered, and recall of one that never occurs, are 0: they show nothing.
    """
    confusion = [[0] * classes for _ in range(classes)]
    for target, answer in zip(targets, found, strict=True):
        if not 0 <= target < classes:
            raise BadInput(f"class {target} is none of the model's {classes}")
        confusion[target][answer] += 1
    per_class = {}
    for index in range(classes):
        right, count = confusion[index][index], sum(confusion[index])
        answered = sum(row[index] for row in confusion)
        per_class[str(index)] = {
            "precision": round(right / answered, DECIMALS) if answered else 0.0,
            "recall": round(right / count, DECIMALS) if count else 0.0,
            "count": count,
        }
    right = sum(confusion[index][index] for index in range(classes))
    return {"accuracy": round(right / len(targets), DECIMALS), "perClass": per_class, "confusion": confusion}


def evaluate(model: Path, tables: Sequence[Path]) -> dict[str, Any]:
    """{"samples", "metrics"} of a model folder (config.json and *.safetensors)."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from services.serving.models.mlp import build

    torch.set_num_threads(1)
    tensors: dict[str, Any] = {}
    for path in sorted(model.glob("*.safetensors")):
        try:
            tensors |= load_file(path)
        except SafetensorError as error:
            raise BadInput(f"{path.name}: {error}") from error
    network = build((model / "config.json").read_bytes(), tensors)
    rows, targets = read_tables(tables, network.width)
    found: list[int] = []
    for start in range(0, len(rows), BATCH):
        _, scores = network.predict(torch.tensor(rows[start : start + BATCH], dtype=torch.float32))
        found += scores.argmax(dim=1).tolist()
    return {"samples": len(rows), "metrics": measure(found, targets, len(network.labels))}


def main() -> int:
    try:
        print(json.dumps(evaluate(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])))
    except (AiInfraError, OSError) as error:
        print(json.dumps({"error": str(error)[:1000]}))
        return BAD_MODEL
    return 0


if __name__ == "__main__":
    sys.exit(main())
