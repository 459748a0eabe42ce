"""`ai-infra policy`: check, explain, test, publish, replay."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.common import As, Exit, Json, connected, read_file, say, show, table

app = typer.Typer(help="Ask, explain, test and publish SentinelNet's policies.", no_args_is_help=True)


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="policy")


@app.command(epilog="Example: ai-infra policy check promote input.json")
def check(
    action: str, facts: Annotated[Path, typer.Argument(help="The input, as JSON.")], person: As = "aude", as_json: Json = False
) -> None:
    """What a decision on this input would say; nothing is recorded. Exit code 1: it would not pass."""
    from services.core.canonical import parse

    with connected(person) as client:
        found = client.check_policy(action, parse(read_file(facts)))
    show(found, as_json, _verdict)
    if found["verdict"] != "pass":
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog="Example: ai-infra policy explain dec-019...")
def explain(decision: str, person: As = "aude", as_json: Json = False) -> None:
    """A recorded decision: its rules, what they are for, and their reasons."""
    with connected(person) as client:
        show(client.explain(decision), as_json, _verdict)


@app.command(epilog="Example: ai-infra policy replay dec-019...")
def replay(decision: str, person: As = "aude", as_json: Json = False) -> None:
    """Compute a decision again from its stored input, under the bundle that decided it. Exit code 1: it is another one."""
    with connected(person) as client:
        found = client.replay(decision)
    show(found, as_json, lambda _: say(json.dumps(found, indent=2)))
    if not found["same"]:
        raise typer.Exit(Exit.REFUSED)


@app.command(name="list", epilog="Example: ai-infra policy list --subject digits@1")
def list_all(
    subject: Annotated[str | None, typer.Option(help="Only decisions on this thing.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """The newest decisions."""
    with connected(person) as client:
        show(client.decisions(limit, subject), as_json, _table)


@app.command(name="test", epilog="Example: ai-infra policy test policies/rego")
def run_tests(
    folder: Annotated[Path, typer.Argument(help="Folder of Rego modules and tests.")] = Path("policies/rego"), as_json: Json = False
) -> None:
    """Run the rules' own tests with OPA, with coverage."""
    from services.core.errors import NotFound, Refused

    opa = shutil.which("opa")
    if opa is None:
        raise NotFound("opa is not on PATH: install Open Policy Agent, or run `make peers` and add its cache to PATH")
    if subprocess.run([opa, "test", *(["--format", "json"] if as_json else ["--verbose"]), str(folder)], check=False).returncode != 0:
        raise Refused(f"the tests of {folder} fail")


@app.command(epilog="Example: ai-infra policy publish policies/rego --as sam")
def publish(folder: Path, person: As = "sam", as_json: Json = False) -> None:
    """Sign a bundle and make it the active one; the active bundle decides whether it may."""
    from services.core.bundle import load_bundle

    bundle = load_bundle(folder)
    with connected(person) as client:
        show(
            client.publish_policies(bundle),
            as_json,
            lambda found: say(f"version {found['version']} is active: {found['revision']}"),
        )


def _verdict(found: dict[str, Any]) -> None:
    columns: tuple[str, ...] = ("rule", "verdict", "reasons")
    rows: list[tuple[str, ...]] = [(r["rule"], r["verdict"], "; ".join(r["reasons"])) for r in found["rules"]]
    if any(r.get("title") for r in found["rules"]):
        columns += ("what it is for",)
        rows = [(*row, r.get("title") or "") for row, r in zip(rows, found["rules"], strict=True)]
    table(f"verdict: {found['verdict']}", columns, rows)


def _table(found: list[dict[str, Any]]) -> None:
    rows = [(d["id"], d["action"], d["subject"]["id"], d["verdict"], d["actor"].rsplit("/", 1)[-1]) for d in found]
    table("decisions", ("id", "action", "subject", "verdict", "actor"), rows, "each training, promotion, deployment makes one")
