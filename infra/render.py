"""The graph of a layer of an environment, from the Pulumi program of a checkout: run under `recorder`, in a process of its own.

It needs neither the engine nor plug-ins nor anybody's credentials, and asks nobody anything.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import yaml

from infra.graph import VERSION, Graph
from services.core.errors import AiInfraError, BadInput, BadSetting, NotFound

PROJECT: Final = "ai-infra"
PROGRAM: Final = Path("infra") / "__main__.py"
ENVIRONMENTS: Final = ("dev", "staging", "prod")
GROUND: Final = "ground"
LAYERS: Final = (GROUND, "platform", "apps")
"""In their order: each reads outputs of those before it."""

RECORDER: Final = Path(__file__).with_name("recorder.py")
LIMIT_S: Final = 120


class ProgramFailed(AiInfraError):
    """The program's process ended without an answer; the message has what it wrote last."""


def config_file(environment: str, layer: str = "ground") -> Path:
    """Within a checkout."""
    return Path("stacks") / environment / f"Pulumi.{environment}-{layer}.yaml"


def render(root: Path, environment: str, layer: str = "ground", config_text: str | None = None) -> Graph:
    """The last of `layers`, which see."""
    return layers(root, environment, layer, config_text)[-1]


def layers(root: Path, environment: str, layer: str, config_text: str | None = None) -> tuple[Graph, ...]:
    """The graphs that the program at root makes of a layer's configuration, and of all before it, whose outputs it reads.

    Args:
        root: a checkout; program, components and stacks are taken from there.
        config_text: of the last layer, instead of the checkout's YAML.
    Raises:
        NotFound: no such environment, layer or program.
        BadInput: configuration or program is refused, with the remedy.
        BadSetting: Pulumi's packages are not installed.
        ProgramFailed: see there.
    """
    if not (root / PROGRAM).is_file():
        raise NotFound(f"{root} has no {PROGRAM}: run this in a checkout of the platform")
    if layer not in LAYERS:
        raise NotFound(f"{layer} is no layer: --layer is one of {', '.join(LAYERS)}")
    if find_spec("pulumi") is None:
        raise BadSetting("the program needs Pulumi's packages: run `make infra`, or install the extra `infra`")
    references: dict[str, Any] = {}
    graphs = []
    for name in LAYERS[: LAYERS.index(layer) + 1]:
        text = config_text if config_text is not None and name == layer else _text(root, environment, name)
        graph = _graph(root, environment, name, text, references)
        references[f"organization/{PROJECT}/{graph.stack}"] = graph.outputs
        graphs.append(graph)
    return tuple(graphs)


def require_config(root: Path, environment: str, layer: str) -> Path:
    """The YAML of a layer. Raises NotFound."""
    file = config_file(environment, layer)
    if not (root / file).is_file():
        raise NotFound(f"{file} is not there: --env is one of {', '.join(ENVIRONMENTS)}, --layer one of {', '.join(LAYERS)}")
    return root / file


def _text(root: Path, environment: str, layer: str) -> str:
    return require_config(root, environment, layer).read_text(encoding="utf-8")


def _graph(root: Path, environment: str, layer: str, text: str, references: dict[str, Any]) -> Graph:
    """references: full name of a stack → its outputs."""
    stack = f"{environment}-{layer}"
    config = _config(text, config_file(environment, layer))
    asked = {"program": str(root / PROGRAM), "stack": stack, "project": PROJECT, "config": config, "references": references}
    named = {"version": VERSION, "environment": environment, "layer": layer, "project": PROJECT, "stack": stack}
    return Graph.from_json(named | _recorded(root, asked))


def _config(text: str, name: Path) -> dict[str, str]:
    """As the engine hands it to programs: texts, anything else as JSON."""
    try:
        read = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadInput(f"{name} is not YAML: {error}") from error
    values = read.get("config") if isinstance(read, dict) else None
    if not isinstance(values, dict):
        raise BadInput(f"{name} has no mapping `config`")
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _recorded(root: Path, asked: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-P", str(RECORDER)]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            command, input=json.dumps(asked | {"checkout": str(root)}), env=environment, cwd=root,
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(f"the program of {root} took over {LIMIT_S} s: it waits for something that never comes") from error
    if done.returncode != 0:
        raise ProgramFailed(f"the program of {root} failed: {done.stderr.strip()[-2000:] or f'exit {done.returncode}'}")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "refused" in answer:
        raise BadInput(answer["refused"])
    recorded: dict[str, Any] = answer["recorded"]
    return recorded
