"""`ai-infra quarantine`: safety flags."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from services.commands.common import As, Json, connected, moment, named, say, show, table

if TYPE_CHECKING:
    from services.client import Client

app = typer.Typer(help="Flag models, artifacts and data sets; lift flags by a signed clearance.", no_args_is_help=True)


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="quarantine")


@app.command(name="set", epilog='Example: ai-infra quarantine set model digits@1 --reason "unsafe answers" --as sam')
def set_flag(
    kind: Annotated[Literal["model", "dataset", "artifact"], typer.Argument(help="What is flagged.")],
    target: Annotated[str, typer.Argument(help="name@number, data set, or artifact id.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    person: As = "sam",
    as_json: Json = False,
) -> None:
    """Flag a target; traffic of all that descends from it stops within 5 s."""
    with connected(person) as client:
        show(client.flag(kind, target, reason), as_json, lambda flag: _changed(client, flag))


@app.command(epilog='Example: ai-infra quarantine lift flag-019... --reason "retrained and checked" --as sam')
def lift(
    flag: Annotated[str, typer.Argument(help="Id of the flag, as `ai-infra quarantine list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why it is safe again.")],
    person: As = "sam",
    as_json: Json = False,
) -> None:
    """Sign a clearance for one flag and lift it."""
    with connected(person) as client:
        show(client.lift(flag, reason), as_json, lambda flag: _changed(client, flag))


@app.command(name="list", epilog="Example: ai-infra quarantine list")
def list_all(person: As = "aude", as_json: Json = False) -> None:
    """List active flags."""
    with connected(person) as client:
        show(client.flags(), as_json, lambda found: flag_table(client, found))


def flag_table(client: "Client", found: list[dict[str, Any]]) -> None:
    """Flags, each with the id that lifts it and the name of what it is on."""
    kinds = {flag["kind"] for flag in found}
    names = {item["id"]: f"{item['name']}@{item['version']}" for item in client.datasets()} if "dataset" in kinds else {}
    rows = [
        (f["id"], f["kind"], names.get(f["target"], named(f["target"])), f["reason"], moment(f["since"] * 1000),
         "lifted" if f.get("clearance") else "active")
        for f in found
    ]  # fmt: skip
    table("flags", ("id", "kind", "target", "reason", "since (UTC)", "state"), rows, "set one: `ai-infra quarantine set --help`")


def _changed(client: "Client", flag: dict[str, Any]) -> None:
    """The flag, and what its change does to what is deployed."""
    flag_table(client, [flag])
    deployed = [item for item in client.deployments() if item["state"] in ("serving", "quarantined")]
    flags = [[found["id"] for found in client.model(f"{item['model']}@{item['number']}")["flags"]] for item in deployed]
    for line in effects(flag, deployed, flags):
        say(line)


def effects(flag: dict[str, Any], deployed: Sequence[dict[str, Any]], flags: Sequence[Sequence[str]]) -> list[str]:
    """What setting or lifting a flag does. flags: ids of those that are active on what each deployment descends from."""
    found = []
    for item, active in zip(deployed, flags, strict=True):
        what = f"{item['model']}@{item['number']} in {item['environment']} ({item['id']})"
        if flag["id"] in active:
            found.append(f"stops within 5 s: {what}")
        elif flag["clearance"] and item["state"] == "quarantined":
            found.append(f"stays stopped by {', '.join(active)}: {what}" if active else f"serves again within 5 s: {what}")
    return found or ["nothing that is deployed is, or descends from, what the flag is on"]
