"""`ai-infra promotion`: request, approve, promote."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.common import As, Json, Target, Version, connected, moment, say, short, show, table

if TYPE_CHECKING:
    from services.client import Client

app = typer.Typer(help="Request, approve and carry out promotions.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Id of the promotion, as `ai-infra promotion list` shows it.")]

LOOKED_THROUGH = 20
"""Newest decisions on a version, of which one may be the refusal of a request."""


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="promotion")


@app.command(epilog="Example: ai-infra promotion request digits@1 --to staging --as petra")
def request(
    reference: Version,
    to: Annotated[Target, typer.Option(help="The stage to move to.")],
    person: As = "petra",
    as_json: Json = False,
) -> None:
    """Sign and send a request to promote a version."""
    with connected(person) as client:
        show(client.request_promotion(reference, to), as_json, _one)


@app.command(epilog="Example: ai-infra promotion approve prm-019... --as ana")
def approve(promotion: Id, person: As = "ana", as_json: Json = False) -> None:
    """Add your own signature over the request's bytes."""
    with connected(person) as client:
        show(client.approve(promotion), as_json, _one)


@app.command(epilog="Example: ai-infra promotion execute prm-019... --as petra")
def execute(promotion: Id, person: As = "petra", as_json: Json = False) -> None:
    """Let SentinelNet decide; if it allows, sign the manifest and move the stage. Safe to repeat."""
    with connected(person) as client:
        show(client.promote(promotion), as_json, _one)


@app.command(name="list", epilog="Example: ai-infra promotion list")
def list_all(person: As = "petra", as_json: Json = False) -> None:
    """List promotions."""
    with connected(person) as client:
        show(client.promotions(), as_json, _table)


@app.command(name="show", epilog="Example: ai-infra promotion show prm-019... --json")
def show_one(promotion: Id, person: As = "petra", as_json: Json = False) -> None:
    """Show a promotion: what is asked for, why it was refused last, and the bytes that approvers sign."""
    with connected(person) as client:
        found = client.promotion(promotion)
        found["refusal"] = _refusal(client, found) if found["state"] == "requested" else None
    show(found, as_json, _whole)


def _refusal(client: "Client", promotion: dict[str, Any]) -> dict[str, Any] | None:
    """The newest decision against this very request."""
    on_version = client.decisions(LOOKED_THROUGH, f"{promotion['model']}@{promotion['number']}")
    for decision in (item for item in on_version if item["action"] == "promote" and item["verdict"] != "pass"):
        if client.explain(decision["id"])["input"]["request"]["digest"] == promotion["request"]:
            return decision
    return None


def _table(found: list[dict[str, Any]]) -> None:
    rows = [(p["id"], f"{p['model']}@{p['number']}", p["toStage"], p["state"]) for p in found]
    table("promotions", ("id", "version", "to", "state"), rows, "ask for one: `ai-infra promotion request --help`")


def _one(found: dict[str, Any]) -> None:
    say(f"{found['id']}  {found['model']}@{found['number']} to {found['toStage']}: {found['state']}")
    if "approvedBy" in found:
        names = ", ".join(person.rsplit("/", 1)[-1] for person in found["approvedBy"]) or "nobody"
        say(f"  approvals: {len(found['approvedBy'])} of {found['needed']}: {names}")
        if found["state"] == "requested" and len(found["approvedBy"]) >= found["needed"]:
            say(f"  next: `ai-infra promotion execute {found['id']}`")
    if found["manifest"]:
        say(f"  manifest {short(found['manifest']['payload'])}, decision {found['decisionId']}")


def _whole(found: dict[str, Any]) -> None:
    from services.core import dsse
    from services.core.statements import PromotionRequest, expect

    _one(found)
    payload = dsse.from_json(found["requestEnvelope"]).payload
    request = expect(PromotionRequest, payload)
    who, until = found["requestedBy"].rsplit("/", 1)[-1], moment(request.expires_at * 1000)
    say(f"  requested by {who} at {moment(found['requestedAt'])} UTC, from {request.from_stage}; expires at {until} UTC")
    say(f"  risk {request.risk_class}, artifact {short(request.artifact_id)}, evaluation {short(request.evaluation)}")
    if found["refusal"] is not None:
        rules = ", ".join(rule["rule"] for rule in found["refusal"]["rules"] if rule["verdict"] != "pass")
        at, decision = moment(found["refusal"]["at"]), found["refusal"]["id"]
        say(f"  refused at {at} UTC by {rules}: `ai-infra policy explain {decision}`")
    say(f"  approvers sign these bytes ({found['request']}):")
    say(payload.decode())
