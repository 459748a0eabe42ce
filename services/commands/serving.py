"""`ai-infra deploy`, `undeploy`, `deployments`, `predict`."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.common import As, Json, Target, Version, connected, read_json, say, show, table

Environment = Annotated[Target, typer.Option("--env", help="Where.")]


def add_to(root: typer.Typer) -> None:
    root.command(epilog="Example: ai-infra deploy digits@1 --env prod")(deploy)
    root.command(epilog="Example: ai-infra undeploy dep-019...")(undeploy)
    root.command(epilog="Example: ai-infra deployments --json")(deployments)
    root.command(epilog="Example: ai-infra predict digits --env prod --rows row.json")(predict)


def deploy(
    reference: Version,
    environment: Environment,
    replicas: Annotated[int, typer.Option(min=1, max=8, help="Predictor processes.")] = 1,
    wait: Annotated[float, typer.Option(help="Seconds to wait until a predictor is ready; 0 does not wait.")] = 60.0,
    person: As = "dario",
    as_json: Json = False,
) -> None:
    """Serve a promoted version; its predictors verify signature, manifest, environment and quarantine before they load.

    Exit codes: 1 refused by a rule or by the predictor; 75 no predictor is ready in time.
    """
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


def undeploy(
    deployment: Annotated[str, typer.Argument(help="Id of the deployment, as `ai-infra deployments` shows it.")],
    person: As = "dario",
    as_json: Json = False,
) -> None:
    """Stop a deployment and its route."""
    with connected(person) as client:
        show(client.undeploy(deployment), as_json, lambda found: say(f"{found['id']}: {found['state']}"))


def deployments(person: As = "dario", as_json: Json = False) -> None:
    """List deployments."""
    with connected(person) as client:
        show(client.deployments(), as_json, lambda found: _deployments(found, client.rollouts()))


def predict(
    model: Annotated[str, typer.Argument(help="Name of the model; which version answers is the platform's to say.")],
    environment: Environment,
    rows: Annotated[Path, typer.Option(help="JSON: one row of numbers, or a list of rows.")],
    keep: Annotated[Path | None, typer.Option(help="New folder for request, answer and salt, to verify them later.")] = None,
    person: As = "tara",
    as_json: Json = False,
) -> None:
    """Ask a served model (Open Inference Protocol v2)."""
    from services.core.errors import BadInput

    value = read_json(rows)
    asked = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    if not all(_is_row(row) and len(row) == len(asked[0]) for row in asked):
        raise BadInput(f"{rows}: want one row of numbers, like [0, 1.5], or a list of rows of one length")
    if keep is not None and keep.exists():
        # An earlier prediction's salt is nowhere else.
        raise BadInput(f"--keep {keep}: is there already: name a new folder")
    with connected(person) as client:
        found = client.predict(model, environment, asked, keep)
        told = f"{json.dumps(found['outputs'])}\nby {found['version']}, prediction {found['id']}, salt {found['salt']}"
        show(found, as_json, lambda _: say(told))


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and bool(row) and all(type(value) in (int, float) for value in row)


def traffic(deployed: Sequence[dict[str, Any]], rollouts: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Which share of its model's requests each deployment answers, by id; nothing for what serves none."""
    from services.serving.domain import ACTIVE

    shares = {item["id"]: 1.0 for item in deployed if item["state"] == "serving"}
    for rollout in rollouts:
        if rollout["state"] in ACTIVE:
            shares |= {rollout["stable"]: 1 - rollout["weight"], rollout["canary"]: rollout["weight"]}
    return {item["id"]: f"{shares[item['id']]:.0%}" if item["id"] in shares else "" for item in deployed}


def _deployments(found: list[dict[str, Any]], rollouts: list[dict[str, Any]]) -> None:
    shares = traffic(found, rollouts)
    rows = [(d["id"], f"{d['model']}@{d['number']}", d["environment"], d["state"], shares[d["id"]], d["reason"]) for d in found]
    columns = ("id", "version", "environment", "state", "traffic", "reason")
    table("deployments", columns, rows, "`ai-infra deploy NAME@NUMBER --env prod`")
