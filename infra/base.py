"""What the program of another revision makes: its graph, and the state that Terraform would have after applying it.

Its program is run, translated and planned as the head's is, by the head's tools. The result is kept by content: the same tree of
files, tools and provider has the same one.
"""

import functools
import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from infra import kept
from infra.graph import Graph
from infra.render import GROUND, PROGRAM, config_file, render
from infra.state import state_of
from infra.synth import addresses, synthesise
from infra.table import FILE, Rows, read_table, table
from infra.terraform import PROVIDER as VERSION
from infra.terraform import Terraform
from services.core.errors import BadInput, MissingTool

Json = dict[str, Any]


@dataclass(frozen=True)
class Base:
    """ref: as it was asked for; commit: its id; graph, state: nothing where that revision has no such stack; addresses: by URN.

    The ground's graph has no inputs of what the AWS provider judges: its state has them. The others' have no state. Secrets are
    `masked`.
    """

    ref: str
    commit: str
    graph: Graph | None = None
    state: Json | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, ref: str, commit: str, graph: Graph, terraform: Terraform, rows: Rows | None = None) -> Self:
        """As if the program were applied to nothing. rows: of the table of types.

        Raises:
            BadInput: the program cannot be translated.
            TerraformRefused: the provider finds fault with it.
        """
        schema = terraform.schema()
        document = synthesise(graph, schema, rows)
        state = state_of(document, terraform.plan(unprotected(document)), schema)
        named = addresses(graph, rows)
        slim = [
            replace(item, inputs={} if item.urn in named else masked(item.inputs), secret_inputs=()) for item in graph.resources
        ]
        return cls(ref, commit, replace(graph, resources=tuple(slim), outputs={}, secret_outputs=()), state, named)


def base_of(root: Path, ref: str, environment: str, layer: str, terraform: Terraform) -> Base:
    """What a revision makes of one stack.

    Raises:
        BadInput: there is no such revision, or its program is refused; MissingTool: no git.
        TerraformRefused: the provider finds fault with that program.
    """
    commit = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", of=ref).strip()
    tree = _git(root, "rev-parse", f"{commit}:./", of=ref).strip()
    name = sha256(f"{tree} {environment}-{layer} {VERSION} {_tools()}".encode()).hexdigest()[:24]
    file = terraform.cache / f"base-{name}.json"
    if found := kept.load(file):
        return _read(found, ref, commit)
    with checkout(root, commit) as folder:
        made = _made(folder, ref, commit, environment, layer, terraform)
    kept.keep(file, {"graph": made.graph and made.graph.to_json(), "state": made.state, "addresses": made.addresses})
    return made


@contextmanager
def checkout(root: Path, commit: str) -> Iterator[Path]:
    """The files of a revision, in a folder that is there for as long. Nothing of the checkout at root changes."""
    archive = subprocess.run(["git", "archive", "--format=tar", commit], cwd=root, capture_output=True, check=False)
    if archive.returncode != 0:
        raise BadInput(f"{commit}: git cannot archive it: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def unprotected(document: Json) -> Json:
    """Without prevent_destroy, for Terraform would show no plan at all: `diff` judges what is protected."""
    resources = {
        kind: {name: _destroyable(values) for name, values in named.items()} for kind, named in document.get("resource", {}).items()
    }
    return document | {"resource": resources}


def _destroyable(values: Json) -> Json:
    lifecycle = {key: value for key, value in values.get("lifecycle", {}).items() if key != "prevent_destroy"}
    return {key: value for key, value in values.items() if key != "lifecycle"} | ({"lifecycle": lifecycle} if lifecycle else {})


def _made(folder: Path, ref: str, commit: str, environment: str, layer: str, terraform: Terraform) -> Base:
    if not (folder / PROGRAM).exists() or not (folder / config_file(environment, layer)).exists():
        return Base(ref, commit)
    try:
        graph = render(folder, environment, layer)
    except BadInput as error:
        raise BadInput(f"the program of {ref} cannot be run: {error}") from error
    if layer != GROUND:
        slim = [replace(item, inputs=masked(item.inputs)) for item in graph.resources]
        return Base(ref, commit, replace(graph, resources=tuple(slim), outputs=masked(graph.outputs)))
    return Base.of(ref, commit, graph, terraform, _rows(folder))


def _rows(folder: Path) -> Rows:
    """A type that the head does not use has no row there, so the base's own table is read too. Where both have one, the head's
    is taken: to correct a row changes no resource."""
    file = folder / FILE.relative_to(FILE.parent.parent)
    return {**(read_table(file) if file.exists() else {}), **table()}


def masked(value: Any) -> Any:
    """With the digest of each secret in its place: whether it changes can be told, and it stands nowhere."""
    match value:
        case {"$secret": hidden}:
            return {"$secret": f"sha256:{sha256(json.dumps(hidden, sort_keys=True).encode()).hexdigest()}"}
        case dict():
            return {key: masked(item) for key, item in value.items()}
        case list():
            return [masked(item) for item in value]
    return value


def _git(root: Path, *arguments: str, of: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingTool("git is not on PATH: install it, the base is taken from there") from error
    if done.returncode != 0:
        raise BadInput(f"{of} is no revision of this repository: fetch it (in CI: fetch-depth: 0), or name another one")
    return done.stdout


@functools.cache
def _tools() -> str:
    """Of what makes a state from a program."""
    files = sorted([*Path(__file__).parent.glob("*.py"), *Path(__file__).parent.glob("*.yaml")])
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _read(value: Json, ref: str, commit: str) -> Base:
    return Base(ref, commit, value["graph"] and Graph.from_json(value["graph"]), value["state"], value["addresses"])
