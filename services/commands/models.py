"""`ai-infra model`: versions, evaluations, lineage, export."""

import datetime
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.commands.common import As, Json, Target, Version, connected, say, short, show, table
from services.core.errors import BadInput

if TYPE_CHECKING:
    from services.core.asof import Until

app = typer.Typer(help="Register, evaluate, trace and export model versions.", no_args_is_help=True)

EMPTY = "train one with `ai-infra train JOB`, then `ai-infra model register NAME --run RUN`"


registry = typer.Typer(help="What stages hold and held, by the log.", no_args_is_help=True)


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="model")
    root.add_typer(registry, name="registry")
    root.command(epilog="Example: ai-infra lineage digits@1 --up")(lineage)
    root.command(epilog="Example: ai-infra evaluate digits@1 --dataset optical-digits@1.0")(evaluate)


@app.command(epilog="Example: ai-infra model register digits --run run-019... --risk high")
def register(
    model: Annotated[str, typer.Argument(help="Name of the model; the number is the next one.")],
    run: Annotated[str, typer.Option(help="Id of a completed run.")],
    risk: Annotated[Literal["low", "high"], typer.Option(help="High needs more approvers.")] = "high",
    parent: Annotated[list[str] | None, typer.Option(help="name@number that this version was made from.")] = None,
    sign: Annotated[bool, typer.Option(help="Let the builder key sign the artifact.")] = True,
    person: As = "tara",
    as_json: Json = False,
) -> None:
    """Register the next version of a model."""
    with connected(person) as client:
        show(client.register_model(model, run, risk, parent or (), sign), as_json, _one)


@app.command(name="list", epilog="Example: ai-infra model list digits")
def list_all(
    model: Annotated[str | None, typer.Argument(help="Name of a model; all without it.")] = None,
    person: As = "tara",
    as_json: Json = False,
) -> None:
    """List versions."""
    with connected(person) as client:
        show(client.models(model), as_json, _table)


@app.command(name="show", epilog="Example: ai-infra model show digits@1 --json")
def show_one(reference: Version, person: As = "tara", as_json: Json = False) -> None:
    """Show one version: inputs, evaluations, manifests, flags."""
    with connected(person) as client:
        show(client.model(reference), as_json, _one)


@registry.command(name="show", epilog="Example: ai-infra registry show digits@prod --as-of 2026-03-01T12:00:00Z --json")
def show_as_of(
    reference: Annotated[str, typer.Argument(help="NAME@STAGE, or NAME@NUMBER for a version as it is now.")],
    as_of: Annotated[
        str | None, typer.Option(help="An index of the log, or a time with its offset (ISO 8601). Default: the newest checkpoint.")
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Folder of a log (`checkpoint`, `tile/`): answers without the platform.")] = None,
    trust: Annotated[Path | None, typer.Option(help="trust.json, got out of band. Default: the home's.")] = None,
    proof: Annotated[Path | None, typer.Option(help="New folder for the .tlog-proof files that the answer rests on.")] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Which version a stage held at some point of the log: replayed from its entries, shown under its signed checkpoint."""
    from services.commands.common import read_trust
    from services.core import asof
    from services.core.logfile import FolderReader

    name, _, stage = reference.partition("@")
    if stage.isdecimal() and as_of is None:
        return show_one(reference, person, as_json)
    trusted = read_trust(trust)
    if stage not in trusted.environments:
        kind = "--as-of is for a stage" if stage.isdecimal() else "no stage"
        raise BadInput(f"{reference!r}: {kind}: want NAME@STAGE, a stage being one of {', '.join(trusted.environments)}")
    until = _until(as_of)
    if proof is not None and proof.exists():
        raise BadInput(f"--proof {proof}: is there already: name a new folder")
    if log is not None:
        found = asof.as_of(FolderReader(log), trusted, name, stage, until)
    else:
        with connected(person) as client:
            found = asof.as_of(client, trusted, name, stage, until)
    if proof is not None and found["restsOn"]:
        proof.mkdir(parents=True)
        for item in found["restsOn"]:
            (proof / f"{item['index']}.tlog-proof").write_text(item["proof"])
            (proof / f"{item['index']}.json").write_text(json.dumps(item["event"], indent=2) + "\n")
    show(found, as_json, _held)


@app.command(epilog="Example: ai-infra model export digits@1 out/ && model_signing verify key ... out/")
def export(
    reference: Version,
    target: Annotated[Path, typer.Argument(help="New folder.")],
    environment: Annotated[Target | None, typer.Option("--env", help="Default: the latest promotion.")] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Write a promoted version's files and its model.sig (OpenSSF Model Signing)."""
    with connected(person) as client:
        files = client.export(reference, target, environment)
    found = {"folder": str(target), "signature": str(target / "model.sig"), "files": [entry.to_json() for entry in files]}
    show(found, as_json, lambda _: say(f"{len(files)} files and model.sig in {target}"))


@app.command(epilog="Example: ai-infra model upload ./model --meta origin=vendor")
def upload(
    directory: Annotated[Path, typer.Argument(help="Folder whose whole tree is uploaded.")],
    meta: Annotated[list[str] | None, typer.Option(help="key=value, may be repeated.")] = None,
    person: As = "tara",
    as_json: Json = False,
) -> None:
    """Upload a file tree as an artifact: write-once, visible whole or not at all."""
    pairs = dict(item.split("=", 1) for item in meta or [] if "=" in item)
    with connected(person) as client:
        show(
            client.upload_artifact(directory, pairs),
            as_json,
            lambda a: say(f"{a['id']}  {len(a['files'])} files, {a['size']:,} bytes"),
        )


def evaluate(
    reference: Version,
    dataset: Annotated[str, typer.Option(help="Data set id or name@version.")],
    split: Annotated[str, typer.Option(help="The held-out split.")] = "test",
    minimum: Annotated[float, typer.Option(help="Accuracy below which the result is FAILED.")] = 0.9,
    person: As = "eva",
    as_json: Json = False,
) -> None:
    """Measure a version on a held-out split; the result is a signed in-toto test-result."""
    with connected(person) as client:
        show(client.evaluate(reference, dataset, split, minimum), as_json, _evaluations)


def lineage(
    reference: Version,
    up: Annotated[bool, typer.Option("--up/--down", help="What it was made from, or what was made from it.")] = True,
    dot: Annotated[bool, typer.Option(help="Graphviz.")] = False,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Data sets, runs, models and deployments around a version, as a tree, JSON or Graphviz."""
    if dot and as_json:
        raise BadInput("--dot and --json are two forms of one answer: name one of them")
    with connected(person) as client:
        if dot:
            print(client.lineage_dot(reference, up=up))
        else:
            show(client.lineage(reference, up=up), as_json, lambda graph: _tree(graph, reference, up))


def _tree(graph: dict[str, Any], reference: str, up: bool) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    labels = {f"{node['kind']}:{node['id']}": f"{node['kind']} {node['label']}".replace("\n", ", ") for node in graph["nodes"]}
    near, far = ("to", "from") if up else ("from", "to")

    def grow(key: str, tree: Tree) -> None:
        for edge in graph["edges"]:
            if edge[near] == key:
                grow(edge[far], tree.add(escape(labels[edge[far]])))

    start = f"model:{reference}"
    tree = Tree(escape(labels[start]))
    grow(start, tree)
    Console().print(tree)


def _table(found: list[dict[str, Any]]) -> None:
    rows = [
        (f"{v['model']}@{v['number']}", v["stage"], v["riskClass"], short(v["artifactId"]), short(v["signerId"])) for v in found
    ]
    table("model versions", ("version", "stage", "risk", "artifact", "signer"), rows, EMPTY)


def _until(text: str | None) -> "Until":
    from services.core.asof import Until

    if text is None:
        return Until()
    if text.isdecimal():
        return Until(index=int(text))
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"--as-of {text!r}: want an index of the log, or a time such as 2026-03-01T12:00:00Z") from error
    if at.tzinfo is None:
        raise BadInput(f"--as-of {text!r}: add the offset, such as Z or +01:00")
    if at > datetime.datetime.now(datetime.UTC):
        raise BadInput(f"--as-of {text!r}: that is still to come; leave it out to ask for now")
    return Until(ts=int(at.timestamp() * 1000))


def _held(found: dict[str, Any]) -> None:
    version = found["version"]
    when = f"up to entry {found['entries'] - 1}" if found["entries"] else "before the first entry"
    if version is None:
        say(f"{when}, {found['stage']} held no version of {found['model']}; no entry says that, so there is no proof")
        return
    flags = f", flagged by {', '.join(version['flags'])}" if version["flags"] else ""
    say(f"{when}, {found['stage']} held {version['model']}@{version['number']} ({short(version['artifactId'])}){flags}")
    since = f", and on to {version['promotedOn']} since" if version["promotedOn"] else ""
    say(f"(the version promoted there last{since}; which one has the traffic now: `ai-infra status`)")
    say(f"  rests on entries {', '.join(str(item['index']) for item in found['restsOn'])}, each shown under the log's checkpoint")


def _one(version: dict[str, Any]) -> None:
    say(f"{version['model']}@{version['number']}  stage {version['stage']}, risk {version['riskClass']}")
    say(f"  artifact {version['artifactId']}")
    say(f"  run {version['runId']}  commit {version['codeRef']['commit'][:12]}")
    say(f"  signed by {version['signerId'] or 'nobody'}")
    _evaluations(version)
    for flag in version.get("flags", []):
        say(f"  FLAG {flag['id']}: {flag['reason']}")


def _evaluations(version: dict[str, Any]) -> None:
    for item in version["evaluations"]:
        outcome = "passed" if item["passed"] else "FAILED"
        say(f"  evaluation {short(item['payload'])}: accuracy {item['metrics']['accuracy']:.4f} on {item['split']}: {outcome}")
