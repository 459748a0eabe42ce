"""`ai-infra rollout`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.common import As, Exit, Json, Target, Version, connected, note, read_json, say, show, table
from services.core.errors import BadInput

if TYPE_CHECKING:
    from services.client import Client

app = typer.Typer(help="Move traffic to another version, step by step, under a sequential test.", no_args_is_help=True)
ENDED = ("completed", "rolled_back", "aborted", "undecided")
"""States in which waiting ends. An undecided rollout holds its weight and goes on looking: a person decides."""

Id = Annotated[str, typer.Argument(help="Id of the rollout, as `ai-infra rollout list` shows it.")]


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="rollout")


@app.command(epilog="Example: ai-infra rollout start digits@2 --env prod --golden optical-digits@1.0")
def start(
    reference: Version,
    environment: Annotated[Target, typer.Option("--env", help="Where.")],
    steps: Annotated[str, typer.Option(help="Rising percentages, the last one 100.")] = "10,50,100",
    golden: Annotated[str | None, typer.Option(help="Data set with labelled probes; without one, quality is not compared.")] = None,
    spec: Annotated[Path | None, typer.Option(help="JSON with further fields of the rollout's specification.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the verdict.")] = True,
    person: As = "dario",
    as_json: Json = False,
) -> None:
    """Start a rollout: it advances, completes or rolls back by itself.

    Exit code, when it waits: 0 completed; 1 rolled back or aborted; 75 undecided: complete, extend or abort it, or wait on.
    """
    more: dict[str, Any] = {"steps": _percentages(steps)}
    more |= {"golden": {"dataset": golden}} if golden else {"compares": ["errors", "latency"]}
    more |= _fields(spec) if spec else {}
    with connected(person) as client:
        found = client.start_rollout(reference, environment, **more)
        if wait and found["state"] not in ENDED:
            note(f"{found['id']} runs; Ctrl-C ends the waiting, not the rollout (`ai-infra rollout show` tells how it goes)")
        while wait and found["state"] not in ENDED:
            time.sleep(0.5)
            found = client.rollout(found["id"])
        show(found, as_json, lambda told: _one(client, told))
    if wait and found["state"] != "completed":
        raise typer.Exit(Exit.RETRY if found["state"] == "undecided" else Exit.REFUSED)


@app.command(name="list", epilog="Example: ai-infra rollout list")
def list_all(person: As = "dario", as_json: Json = False) -> None:
    """List rollouts."""
    with connected(person) as client:
        show(client.rollouts(), as_json, lambda found: _table(client, found))


@app.command(name="show", epilog="Example: ai-infra rollout show rol-019... --json")
def show_one(rollout: Id, person: As = "dario", as_json: Json = False) -> None:
    """Show a rollout."""
    with connected(person) as client:
        show(client.rollout(rollout), as_json, lambda told: _one(client, told))


@app.command(epilog="Example: ai-infra rollout explain rol-019...")
def explain(rollout: Id, person: As = "aude", as_json: Json = False) -> None:
    """Compute the verdict again from the recorded counts and rule. Exit code 1: it is another one."""
    with connected(person) as client:
        found = client.explain_rollout(rollout)
        show(found, as_json, lambda _: _explained(client, found))
    if found["agrees"] is False:  # None: it is not over yet
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog='Example: ai-infra rollout abort rol-019... --reason "wrong version"')
def abort(rollout: Id, reason: Annotated[str, typer.Option(help="Why.")], person: As = "dario", as_json: Json = False) -> None:
    """End a rollout; all traffic goes back to stable. Exit code 4: it was completed before."""
    with connected(person) as client:
        found = client.abort_rollout(rollout, reason)
        show(found, as_json, lambda told: _one(client, told))
    if found["state"] == "completed":
        raise typer.Exit(Exit.CONFLICT)


@app.command(epilog='Example: ai-infra rollout complete rol-019... --reason "seen by hand; ten requests a day are all there is"')
def complete(rollout: Id, reason: Annotated[str, typer.Option(help="Why.")], person: As = "ana", as_json: Json = False) -> None:
    """Take an undecided version into all traffic, and answer for it. Needs the role of an approver."""
    with connected(person) as client:
        show(client.complete_rollout(rollout, reason), as_json, lambda told: _one(client, told))


@app.command(epilog='Example: ai-infra rollout extend rol-019... --requests 5000 --reason "a quiet day"')
def extend(
    rollout: Id,
    requests: Annotated[int, typer.Option(min=1, help="More requests for the present step.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    seconds: Annotated[float, typer.Option(help="Seconds for them.")] = 86_400.0,
    person: As = "dario",
    as_json: Json = False,
) -> None:
    """Let an undecided rollout see more requests; its rule stays as it is."""
    with connected(person) as client:
        show(client.extend_rollout(rollout, requests, seconds, reason), as_json, lambda told: _one(client, told))


def _percentages(steps: str) -> list[int]:
    found = [int(step) for step in steps.split(",") if step.strip().isdecimal()]
    if len(found) != steps.count(",") + 1 or len(found) < 2 or found != sorted(set(found)) or found[0] < 1 or found[-1] != 100:
        raise BadInput(f"--steps {steps}: want rising percentages, at least one below 100 and 100 as the last, like 10,50,100")
    return found


def _fields(spec: Path) -> dict[str, Any]:
    found = read_json(spec)
    if not isinstance(found, dict):
        raise BadInput(f'--spec {spec}: want a JSON object, like {{"mirror": 0.1}}')
    return found


def _table(client: "Client", found: list[dict[str, Any]]) -> None:
    from services.commands import rollout_text

    numbers = _numbers(client)
    rows = [rollout_text.row(item, numbers) for item in found]
    hint = "`ai-infra rollout start NAME@NUMBER --env prod` moves traffic to another version"
    table("rollouts", rollout_text.LISTED, rows, hint)


def _one(client: "Client", found: dict[str, Any]) -> None:
    from services.commands.rollout_text import lines

    say("\n".join(lines(found, _numbers(client))))


def _explained(client: "Client", found: dict[str, Any]) -> None:
    from services.commands import rollout_text
    from services.serving.canary import Counts, Rule, Verdict

    _one(client, client.rollout(found["rollout"]))
    if found["verdict"] is None:
        say("no verdict is recorded: the first one comes when a step ends")
        return
    rule = Rule.from_json(found["rule"])
    rows = rollout_text.judged(rule, Counts.from_json(found["counts"]), Verdict.from_json(found["verdict"]))
    table("verdict, computed again from the recorded counts", rollout_text.JUDGED, rows)
    say(rollout_text.bounds(rule))
    say("the same as recorded" if found["agrees"] else "NOT the same as recorded: --json has both")


def _numbers(client: "Client") -> dict[str, int]:
    return {item["id"]: item["number"] for item in client.deployments()}
