"""One benchmark in a process of its own, so that none inherits another's memory, threads or tables.

`python -m benchmarks.one NAME SIZE FILE`, which `__main__` starts: FILE gets the rows as JSON, whatever else is printed is dropped.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.harness import Row, Size

LONGEST_S = 1200.0

MODULES = {
    "registration": "registration", "policy": "decided", "promotion": "promotion", "audit": "audit", "weights": "weights",
    "router": "routed", "lineage": "lineage", "verify": "verify", "footprint": "footprint", "infra": "infra",
}  # fmt: skip
"""Name → module with `measure(size)`."""


class Failed(Exception):
    """The benchmark gave no figures; the message is the last line that it said."""


def measured(name: str, size: Size) -> list[Row]:
    """Rows of one benchmark. Raises Failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.one", name, json.dumps(asdict(size)), str(file)]
        with (Path(folder) / "stdout").open("wb") as aside:
            process = subprocess.Popen(command, stdout=aside, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
        last = "it said nothing"
        assert process.stderr is not None
        for line in process.stderr:
            last = line.strip() or last
            if line.startswith("bench: "):
                sys.stderr.write(line)
        if process.wait(timeout=LONGEST_S) != 0:
            raise Failed(last)
        return [Row.from_json(item) for item in json.loads(file.read_text())]


def main(name: str, size: str, file: str) -> None:
    rows = importlib.import_module(f"benchmarks.{MODULES[name]}").measure(Size(**json.loads(size)))
    Path(file).write_text(json.dumps([row.to_json() for row in rows]))


if __name__ == "__main__":
    main(*sys.argv[1:])
