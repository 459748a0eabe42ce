"""`ai-infra deploy`, `predict`, `rollout`."""

import json
import math
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.common import As, Exit, Json, Target, connected, note, read_file, say, show, table

app = typer.Typer(help="Move traffic to another version, step by step, under a sequential test.", no_args_is_help=True)
ENDED = ("completed", "rolled_back", "aborted", "undecided")
"""States in which waiting ends. An undecided rollout holds its weight and goes on looking: a person decides."""

Environment = Annotated[Target, typer.Option("--env", help="Where.")]


def add_to(root: typer.Typer) -> None:
    root.command(epilog="Example: ai-infra deploy digits@1 --env prod")(deploy)
    root.command(epilog="Example: ai-infra undeploy dep-019...")(undeploy)
    root.command(epilog="Example: ai-infra deployments --json")(deployments)
    root.command(epilog="Example: ai-infra predict digits --env prod --rows row.json")(predict)
    root.add_typer(app, name="rollout")


def deploy(
    reference: str,
    environment: Environment,
    replicas: Annotated[int, typer.Option(min=1, max=8, help="Predictor processes.")] = 1,
    wait: Annotated[float, typer.Option(help="Seconds to wait until a predictor is ready; 0 does not wait.")] = 60.0,
    person: As = "dario",
    as_json: Json = False,
) -> None:
    """Serve a promoted version; its predictors verify signature, manifest, environment and quarantine before they load."""
    from services.core.errors import Refused, Unavailable

    with connected(person) as client:
        found = client.deploy(reference, environment, replicas)
        deadline = time.monotonic() + wait
        while wait and time.monotonic() < deadline:
            found = client.deployment(found["id"])
            if found["predictors"]["refused"]:
                raise Refused(f"the predictor does not load {reference}: {found['predictors']['refused']}")
            if found["predictors"]["ready"]:
                break
            time.sleep(0.2)
        else:
            if wait:
                raise Unavailable(f"no predictor of {found['id']} is ready after {wait:g} s: see `ai-infra deployments`")
        show(found, as_json, lambda _: say(f"{found['id']}  {reference} serves in {environment}"))


def undeploy(deployment: str, person: As = "dario", as_json: Json = False) -> None:
    """Stop a deployment and its route."""
    with connected(person) as client:
        show(client.undeploy(deployment), as_json, lambda found: say(f"{found['id']}: {found['state']}"))


def deployments(person: As = "dario", as_json: Json = False) -> None:
    """List deployments."""
    with connected(person) as client:
        show(client.deployments(), as_json, _deployments)


def predict(
    model: str,
    environment: Environment,
    rows: Annotated[Path, typer.Option(help="JSON: one row of numbers, or a list of rows.")],
    keep: Annotated[Path | None, typer.Option(help="Folder for request.json, answer.json and salt, to verify them later.")] = None,
    person: As = "tara",
    as_json: Json = False,
) -> None:
    """Ask a served model (Open Inference Protocol v2)."""
    from services.core.canonical import parse
    from services.core.errors import BadInput, BadJson

    try:
        value = parse(read_file(rows))
    except BadJson as error:
        raise BadInput(f"{rows}: {error}") from error
    if not isinstance(value, list) or not value:
        raise BadInput(f"{rows}: want one row of numbers, like [0, 1.5], or a list of rows")
    with connected(person) as client:
        found = client.predict(model, environment, value if isinstance(value[0], list) else [value], keep)
        told = f"{json.dumps(found['outputs'])}\nby {found['version']}, prediction {found['id']}, salt {found['salt']}"
        show(found, as_json, lambda _: say(told))


@app.command(epilog="Example: ai-infra rollout start digits@2 --env prod --golden optical-digits@1.0")
def start(
    reference: str,
    environment: Environment,
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
    from services.core.canonical import parse
    from services.core.errors import BadInput

    if not all(step.strip().isdigit() for step in steps.split(",")):
        raise BadInput(f"--steps {steps}: want percentages, like 10,50,100")
    more: dict[str, Any] = {"steps": [int(step) for step in steps.split(",")]}
    more |= {"golden": {"dataset": golden}} if golden else {"compares": ["errors", "latency"]}
    more |= parse(read_file(spec)) if spec else {}
    with connected(person) as client:
        found = client.start_rollout(reference, environment, **more)
        if wait and found["state"] not in ENDED:
            note(f"{found['id']} runs; Ctrl-C ends the waiting, not the rollout (`ai-infra rollout show` tells how it goes)")
        while wait and found["state"] not in ENDED:
            time.sleep(0.5)
            found = client.rollout(found["id"])
        show(found, as_json, _rollout)
    if wait and found["state"] != "completed":
        raise typer.Exit(Exit.RETRY if found["state"] == "undecided" else Exit.REFUSED)


@app.command(name="list", epilog="Example: ai-infra rollout list")
def list_all(person: As = "dario", as_json: Json = False) -> None:
    """List rollouts."""
    with connected(person) as client:
        show(client.rollouts(), as_json, _rollouts)


@app.command(name="show", epilog="Example: ai-infra rollout show rol-019... --json")
def show_one(rollout: str, person: As = "dario", as_json: Json = False) -> None:
    """Show a rollout."""
    with connected(person) as client:
        show(client.rollout(rollout), as_json, _rollout)


@app.command(epilog="Example: ai-infra rollout explain rol-019...")
def explain(rollout: str, person: As = "aude", as_json: Json = False) -> None:
    """Compute the verdict again from the recorded counts and rule. Exit code 1: it is another one."""
    with connected(person) as client:
        found = client.explain_rollout(rollout)
    show(found, as_json, lambda _: say(json.dumps(found, indent=2)))
    if found["agrees"] is False:  # None: it is not over yet
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog='Example: ai-infra rollout abort rol-019... --reason "wrong version"')
def abort(rollout: str, reason: Annotated[str, typer.Option(help="Why.")], person: As = "dario", as_json: Json = False) -> None:
    """End a rollout; all traffic goes back to stable. Exit code 4: it was completed before."""
    with connected(person) as client:
        found = client.abort_rollout(rollout, reason)
    show(found, as_json, _rollout)
    if found["state"] == "completed":
        raise typer.Exit(Exit.CONFLICT)


@app.command(epilog='Example: ai-infra rollout complete rol-019... --reason "seen by hand; ten requests a day are all there is"')
def complete(rollout: str, reason: Annotated[str, typer.Option(help="Why.")], person: As = "ana", as_json: Json = False) -> None:
    """Take an undecided version into all traffic, and answer for it. Needs the role of an approver."""
    with connected(person) as client:
        show(client.complete_rollout(rollout, reason), as_json, _rollout)


@app.command(epilog='Example: ai-infra rollout extend rol-019... --requests 5000 --reason "a quiet day"')
def extend(
    rollout: str,
    requests: Annotated[int, typer.Option(min=1, help="More requests for the present step.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    seconds: Annotated[float, typer.Option(help="Seconds for them.")] = 86_400.0,
    person: As = "dario",
    as_json: Json = False,
) -> None:
    """Let an undecided rollout see more requests; its rule stays as it is."""
    with connected(person) as client:
        show(client.extend_rollout(rollout, requests, seconds, reason), as_json, _rollout)


def _deployments(found: list[dict[str, Any]]) -> None:
    rows = [(d["id"], f"{d['model']}@{d['number']}", d["environment"], d["state"], d["reason"]) for d in found]
    table("deployments", ("id", "version", "environment", "state", "reason"), rows, "`ai-infra deploy NAME@NUMBER --env prod`")


def _rollouts(found: list[dict[str, Any]]) -> None:
    for item in found:
        _rollout(item)
    if not found:
        say("rollouts: none; `ai-infra rollout start NAME@NUMBER --env prod` moves traffic to another version")


def _rollout(found: dict[str, Any]) -> None:
    at = f"{found['state']} at {found['weight']:.0%}"
    say(f"{found['id']}  {found['model']} in {found['environment']}: {at}  {found['reason']}".rstrip())
    if "log E" in found["reason"]:
        bound = math.log(1 / found["spec"]["alpha"])
        say(f"  log E: how strongly the traffic speaks against the canary; from {bound:.1f} on it is rolled back, 0 is no evidence")
