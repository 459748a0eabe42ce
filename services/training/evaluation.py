"""Measures a model on a split, in a process of its own: weights are foreign bytes, and torch stays out of the API process."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.canonical import parse
from services.core.errors import BadInput, Unavailable
from services.core.objects import ObjectStore
from services.core.storage import writing
from services.registry.ports import Measured
from services.training.environment import TRAINING_VARIABLES

BAD_MODEL = 2
"""Exit status of the evaluator for a model or split that cannot be evaluated; any other failure may pass."""


@dataclass(frozen=True)
class ProcessEvaluator:
    """Implements registry.ports.Evaluator. timeout_s: seconds that one evaluation may take."""

    store: ObjectStore
    environ: Mapping[str, str]
    timeout_s: float = 600

    def evaluate(self, artifact_files: dict[str, str], dataset_files: dict[str, str]) -> Measured:
        """What `services.training.evaluator` prints.

        Raises:
            BadInput: the model cannot be built, or the data is not labelled rows that fit it. Unavailable: retry.
        """
        with tempfile.TemporaryDirectory(prefix="ai-infra-evaluate-") as name:
            folder = Path(name)
            with writing("model and data could not be laid out"):
                for kind, files in (("model", artifact_files), ("data", dataset_files)):
                    for path, digest in files.items():
                        target = folder / kind / path
                        target.parent.mkdir(parents=True, exist_ok=True)
                        self.store.copy_to(digest, target)
            found = self._run(folder, sorted(path for path in dataset_files if path.endswith(".csv")))
        return Measured(samples=found["samples"], metrics=found["metrics"])

    def _run(self, folder: Path, tables: list[str]) -> Any:
        if not tables:
            raise BadInput("the split has no .csv file: the evaluator reads labelled rows from CSV")
        command = [sys.executable, "-m", "services.training.evaluator", str(folder / "model")]
        command += [str(folder / "data" / path) for path in tables]
        top = str(Path(__file__).parents[2])
        passed = {name: self.environ[name] for name in ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH") if name in self.environ}
        environ = passed | TRAINING_VARIABLES | {"PYTHONPATH": top}
        try:
            done = subprocess.run(command, capture_output=True, env=environ, timeout=self.timeout_s, check=False, cwd=folder)
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"the evaluation took over {self.timeout_s:.0f} s") from error
        if done.returncode == BAD_MODEL:
            raise BadInput(f"the model cannot be evaluated: {json.loads(done.stdout)['error']}")
        if done.returncode != 0:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"the evaluator ended with status {done.returncode}: {' '.join(last)[:500]}")
        return parse(done.stdout)
