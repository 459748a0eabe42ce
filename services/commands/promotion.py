"""`ai-infra promotion`: request, approve, promote."""

from typing import Annotated, Any

import typer

from services.commands.common import As, Json, Target, Version, connected, say, short, show, table

app = typer.Typer(help="Request, approve and carry out promotions.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="Id of the promotion, as `ai-infra promotion list` shows it.")]


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
    """Show a promotion, with the bytes that approvers sign."""
    with connected(person) as client:
        show(client.promotion(promotion), as_json, _one)


def _table(found: list[dict[str, Any]]) -> None:
    rows = [(p["id"], f"{p['model']}@{p['number']}", p["to_stage"], p["state"]) for p in found]
    table("promotions", ("id", "version", "to", "state"), rows, "ask for one: `ai-infra promotion request --help`")


def _one(found: dict[str, Any]) -> None:
    say(f"{found['id']}  {found['model']}@{found['number']} to {found['to_stage']}: {found['state']}")
    if "approvedBy" in found:
        names = ", ".join(person.rsplit("/", 1)[-1] for person in found["approvedBy"]) or "nobody"
        say(f"  approvals: {len(found['approvedBy'])} of {found['needed']}: {names}")
        if found["state"] == "requested" and len(found["approvedBy"]) >= found["needed"]:
            say(f"  next: `ai-infra promotion execute {found['id']}`")
    if found["manifest"]:
        say(f"  manifest {short(found['manifest']['payload'])}, decision {found['decision_id']}")
