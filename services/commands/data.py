"""`ai-infra data`: data sets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.common import As, Json, connected, say, short, show, table

app = typer.Typer(help="Register and approve data sets.", no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="NAME@VERSION, as `ai-infra data list` shows it, or the id.")]


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="data")


@app.command(epilog="Example: ai-infra data register examples/digits/dataset.yaml")
def register(
    description: Annotated[Path, typer.Argument(help="Data set description (YAML).")], person: As = "stella", as_json: Json = False
) -> None:
    """Upload a data set's files and register the immutable snapshot."""
    with connected(person) as client:
        show(client.register_dataset(description), as_json, _one)


@app.command(name="list", epilog="Example: ai-infra data list --json")
def list_all(person: As = "stella", as_json: Json = False) -> None:
    """List data sets."""
    with connected(person) as client:
        show(client.datasets(), as_json, _table)


@app.command(name="show", epilog="Example: ai-infra data show optical-digits@1.0")
def show_one(reference: Reference, person: As = "stella", as_json: Json = False) -> None:
    """Show one data set: files, licence, source, splits, approvals."""
    with connected(person) as client:
        show(client.dataset(reference), as_json, _one)


@app.command(epilog='Example: ai-infra data approve digits-writers@1.0 --reason "consent on file" --as stella')
def approve(
    reference: Reference,
    reason: Annotated[str, typer.Option(help="Why personal data may be used.")],
    person: As = "stella",
    as_json: Json = False,
) -> None:
    """Approve a data set that holds personal data: signed by the steward, bound to its digest."""
    with connected(person) as client:
        show(client.approve_dataset(reference, reason), as_json, _one)


def _table(found: list[dict[str, Any]]) -> None:
    rows = [(f"{d['name']}@{d['version']}", d["licence"], d["pii"], short(d["id"])) for d in found]
    table("data sets", ("name", "licence", "personal data", "id"), rows, "register one: `ai-infra data register FILE`")


def _one(found: dict[str, Any]) -> None:
    manifest = found["manifest"]
    say(f"{found['name']}@{found['version']}  {found['id']}")
    say(
        f"  licence {manifest['licence']}, personal data: {manifest['pii']}, "
        f"approved by {', '.join(found['approvedBy']) or 'nobody'}"
    )
    say(f"  source: {manifest['source'].strip()}")
    for item in manifest["files"]:
        say(f"  {item['path']}  {item['size']:,} bytes  {short(item['sha256'])}")
