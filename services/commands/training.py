"""`ai-infra train`, `rerun`, `run`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.common import As, Json, connected, moment, note, say, short, show, table

if TYPE_CHECKING:
    from services.client import Client

app = typer.Typer(help="Look at training runs, cancel and retry them.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(help="Id of the run, as `ai-infra run list` shows it.")]
Wait = Annotated[bool, typer.Option(help="Follow the run to its end.")]


def add_to(root: typer.Typer) -> None:
    root.command(epilog="Example: ai-infra train examples/digits/job.yaml")(train)
    root.command(epilog="Example: ai-infra rerun run-019...")(rerun)
    root.add_typer(app, name="run")


def train(
    job: Annotated[Path, typer.Argument(help="Job description (YAML), inside the repository that is recorded.")],
    wait: Wait = True,
    person: As = "tara",
    as_json: Json = False,
) -> None:
    """Train on Ray: every input that decides the output is recorded; the result is a signed artifact.

    Exit code 1: it was refused, or failed.
    """
    with connected(person) as client:
        found = client.train(job)
        if found["inputs"]["codeRef"]["dirty"]:
            note(_unpromotable(job))
        show(_ended(client, found["id"], as_json) if wait else found, as_json, _one)


def rerun(run: Id, wait: Wait = True, person: As = "tara", as_json: Json = False) -> None:
    """Train again from the record alone: the same artifact id, or the first input that differs.

    Exit code 1: another artifact, or it failed.
    """
    from services.core.errors import Refused

    with connected(person) as client:
        first = client.run(run)
        found = client.rerun(run)
        if wait:
            found = _ended(client, found["id"], as_json)
            if found["artifactId"] != first["artifactId"]:
                raise Refused(
                    f"run {found['id']} made {found['artifactId']}, not {first['artifactId']}: training is not deterministic"
                )
        show(found, as_json, _one)


def _unpromotable(job: Path) -> str:
    from services.training.source import changes

    named = changes(job.parent)
    if not named:
        return "the job lies in no commit of a git repository: what this run makes cannot be promoted"
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    return (
        f"in no commit are {', '.join(named[:5])}{more}: what this run makes cannot be promoted; "
        "commit them or name them in .gitignore, then train again"
    )


@app.command(name="list", epilog="Example: ai-infra run list")
def list_all(person: As = "tara", as_json: Json = False) -> None:
    """List runs, newest first."""
    with connected(person) as client:
        show(client.runs(), as_json, _table)


@app.command(name="show", epilog="Example: ai-infra run show run-019... --json")
def show_one(run: Id, person: As = "tara", as_json: Json = False) -> None:
    """Show a run: who started it and when, its seven inputs, progress, result."""
    with connected(person) as client:
        show(client.run(run), as_json, _whole)


@app.command(epilog="Example: ai-infra run cancel run-019...")
def cancel(run: Id, person: As = "tara", as_json: Json = False) -> None:
    """Stop a run; its checkpoints stay."""
    with connected(person) as client:
        show(client.cancel(run), as_json, _one)


@app.command(epilog="Example: ai-infra run retry run-019...")
def retry(run: Id, wait: Wait = True, person: As = "tara", as_json: Json = False) -> None:
    """Go on with a failed or cancelled run from its last checkpoint."""
    with connected(person) as client:
        client.retry(run)
        show(_ended(client, run, as_json) if wait else client.run(run), as_json, _one)


def _ended(client: "Client", run: str, quiet: bool) -> dict[str, Any]:
    """The run's record when it is over, with a progress bar meanwhile. Raises Refused if it failed."""
    from services.core.errors import Refused

    try:
        found = follow(client, run, quiet=quiet)
    except KeyboardInterrupt:
        note(f"run {run} goes on by itself: `ai-infra run show {run}` looks at it, `ai-infra run cancel {run}` stops it")
        raise
    if found["state"] != "completed":
        raise Refused(f"run {run} {found['state']}: {found['error']}; go on with `ai-infra run retry {run}`")
    return found


def follow(client: "Client", run: str, *, quiet: bool = False) -> dict[str, Any]:
    """The run's record when it is over. Epochs and metrics are shown on stderr unless quiet."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[metrics]}"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("training", total=None, metrics="starting workers")
        for found in client.follow(run):
            if found["progress"]:
                last = found["progress"][-1]
                progress.update(task, completed=last["epoch"], total=found["epochs"], metrics=_metrics(last["metrics"]))
    return found


def _table(found: list[dict[str, Any]]) -> None:
    rows = [(r["id"], moment(r["startedAt"]), r["job"]["name"], r["state"], short(r["artifactId"])) for r in found]
    table("runs", ("id", "started (UTC)", "job", "state", "artifact"), rows, "start one: `ai-infra train JOB`")


def _one(run: dict[str, Any]) -> None:
    say(f"{run['id']}  {run['job']['name']}: {run['state']}{': ' + run['error'] if run['error'] else ''}")
    say(f"  runKey {run['runKey']}")
    say(f"  artifact {run['artifactId'] or '-'}")
    for item in run.get("progress", [])[-1:]:
        say(f"  {_metrics(item['metrics'])}")


def _whole(run: dict[str, Any]) -> None:
    _one(run)
    took = f", took {(run['finishedAt'] - run['startedAt']) / 1000:.0f} s" if run["finishedAt"] is not None else ""
    say(f"  started by {run['startedBy'].rsplit('/', 1)[-1]} at {moment(run['startedAt'])} UTC, attempt {run['attempt']}{took}")
    inputs = run["inputs"]
    code = inputs["codeRef"]
    dirty = "; dirty: changed since that commit, cannot be promoted" if code["dirty"] else ""
    say(f"  code {code['repository']} at {code['commit'][:12]}, tree {short(code['tree'])}{dirty}")
    say(f"  image {short(inputs['image'])}, dependency lock {short(inputs['dependencyLock'])}")
    say(f"  data sets {', '.join(map(short, inputs['datasets']))}, seed {inputs['seed']}")
    for name in ("hyperparameters", "environment"):
        say(f"  {name} {'  '.join(f'{key} {value}' for key, value in sorted(inputs[name].items())) or 'none'}")


def _metrics(found: dict[str, float]) -> str:
    """Names and values on one line; counts without decimals."""
    return "  ".join(f"{key} {value:.0f}" if value == int(value) else f"{key} {value:.4f}" for key, value in sorted(found.items()))
