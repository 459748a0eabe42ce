"""`ai-infra quarantine`: safety flags."""

from typing import Annotated, Any, Literal

import typer

from services.commands.common import As, Json, connected, show, table

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
        show(client.flag(kind, target, reason), as_json, lambda flag: _table([flag]))


@app.command(epilog='Example: ai-infra quarantine lift flag-019... --reason "retrained and checked" --as sam')
def lift(
    flag: Annotated[str, typer.Argument(help="Id of the flag, as `ai-infra quarantine list` shows it.")],
    reason: Annotated[str, typer.Option(help="Why it is safe again.")],
    person: As = "sam",
    as_json: Json = False,
) -> None:
    """Sign a clearance for one flag and lift it."""
    with connected(person) as client:
        show(client.lift(flag, reason), as_json, lambda found: _table([found]))


@app.command(name="list", epilog="Example: ai-infra quarantine list")
def list_all(person: As = "aude", as_json: Json = False) -> None:
    """List active flags."""
    with connected(person) as client:
        show(client.flags(), as_json, _table)


def _table(found: list[dict[str, Any]]) -> None:
    rows = [(f["id"], f["kind"], f["target"], f["reason"], "lifted" if f.get("clearance") else "active") for f in found]
    table("flags", ("id", "kind", "target", "reason", "state"), rows, "set one: `ai-infra quarantine set --help`")
