"""Writes the optical-digits data set to files: the same bytes on every machine.

scikit-learn bundles the test part of UCI's "Optical Recognition of Handwritten Digits": 1,797 images of 8x8 pixels, 0 to 16.
Every fourth image of a class is held out, so both splits have all classes and neither depends on a random number.

    python prepare.py [DIRECTORY]      # default: data/ beside this file
"""

import json
import sys
from collections import Counter
from pathlib import Path

PIXELS = 64
HELD_OUT_EVERY = 4
HEADER = ["label"] + [f"p{index}" for index in range(PIXELS)]


def splits() -> dict[str, list[list[int]]]:
    """Split name to rows of label and pixels, in the order of the source."""
    from sklearn.datasets import load_digits

    images, targets = load_digits(return_X_y=True)
    rows: dict[str, list[list[int]]] = {"train": [], "test": []}
    seen: Counter[int] = Counter()
    for pixels, target in zip(images, targets, strict=True):
        seen[int(target)] += 1
        split = "test" if seen[int(target)] % HELD_OUT_EVERY == 0 else "train"
        rows[split].append([int(target), *(int(value) for value in pixels)])
    return rows


def schema() -> dict[str, str]:
    """Column to type, as the data set's manifest wants it."""
    return {"label": "integer 0..9"} | dict.fromkeys(HEADER[1:], "integer 0..16")


def write(directory: Path) -> None:
    """train.csv, test.csv and schema.json."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, rows in splits().items():
        lines = [",".join(map(str, row)) for row in [HEADER, *rows]]
        (directory / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="ascii")
    (directory / "schema.json").write_text(json.dumps(schema(), indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    write(target)
    print(f"written: {target}; `ai-infra data register {Path(__file__).with_name('dataset.yaml')}` registers it")
