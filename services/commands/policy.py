"""`ai-infra policy`: check, explain, test, lint, publish, document; what looks at the past is in `policy_past`."""

import shutil
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands import policy_past
from services.commands.common import As, Exit, Json, connected, moment, named, read_json, say, short, show, table

app = typer.Typer(help="Ask, explain, test and publish SentinelNet's policies.", no_args_is_help=True)


OPA = "~/.cache/ai-infra/peers/opa-v1.22.2"
"""Where `make peers` puts it."""

Folder = Annotated[Path, typer.Argument(help="Folder of Rego modules and tests.")]


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="policy")


@app.command(epilog="Example: ai-infra policy check promote input.json")
def check(
    action: Annotated[str, typer.Argument(help="apply, clearance, deploy, promote, provision, publish or train.")],
    facts: Annotated[Path, typer.Argument(help="The input, as JSON.")],
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """What a decision on this input would say; nothing is recorded. Exit code 1: it would not pass."""
    with connected(person) as client:
        found = client.check_policy(action, read_json(facts))
    show(found, as_json, _verdict)
    if found["verdict"] != "pass":
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog="Example: ai-infra policy explain dec-019...")
def explain(
    decision: Annotated[str, typer.Argument(help="Id of the decision, as `ai-infra policy list` shows it.")],
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """A recorded decision: its rules, what they are for, and their reasons."""
    with connected(person) as client:
        show(client.explain(decision), as_json, _explained)


app.command(epilog="Example: ai-infra policy simulate --bundle policies/rego --since 7d")(policy_past.simulate)
app.command(epilog="Examples: ai-infra policy replay dec-019...  |  ai-infra policy replay --all")(policy_past.replay)


@app.command(name="list", epilog="Example: ai-infra policy list --subject digits@1")
def list_all(
    subject: Annotated[str | None, typer.Option(help="Only decisions on this thing.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Decisions, the newest.")] = 20,
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
    """Run the rules' own tests with OPA. Exit code 1: some fail."""
    from services.core.errors import MissingTool, Refused

    opa = shutil.which("opa")
    if opa is None:
        raise MissingTool(f"opa is not on PATH: install Open Policy Agent, or run `make peers` and add {OPA} to PATH")
    how = ["--format", "json"] if as_json else []
    if subprocess.run([opa, "test", *how, str(folder)], check=False).returncode != 0:
        raise Refused(f"the tests of {folder} fail")


@app.command(epilog="Example: ai-infra policy lint policies/rego")
def lint(folder: Folder = Path("policies/rego"), as_json: Json = False) -> None:
    """Refuse rules whose answer OPA and the embedded engine would not agree on, or could change later. Exit code 1: some do."""
    from services.core import rego
    from services.core.bundle import BadBundle, load_bundle
    from services.core.rego_lint import problems

    bundle = load_bundle(folder)
    found = [str(problem) for problem in problems(bundle.modules)]
    if not found:
        try:
            rego.check_bundle(bundle)
        except BadBundle as error:
            found = [str(error)]
    show(found, as_json, lambda _: say("\n".join(found or [f"{folder}: no problem found"])))
    if found:
        raise typer.Exit(Exit.REFUSED)


@app.command(epilog="Example: ai-infra policy docs policies/rego -o docs/policies.md")
def docs(
    folder: Folder = Path("policies/rego"),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; the terminal otherwise.")] = None,
    as_json: Json = False,
) -> None:
    """The page about every rule, from the METADATA of its module."""
    from services.core.bundle import load_bundle
    from services.sentinelnet.page import page, rules_of

    bundle = load_bundle(folder)
    if output is not None:
        output.write_text(page(bundle), encoding="utf-8")
    if output is None or as_json:
        show(rules_of(bundle), as_json, lambda _: print(page(bundle), end=""))


@app.command(epilog="Example: ai-infra policy publish policies/rego --as sam")
def publish(folder: Folder, person: As = "sam", as_json: Json = False) -> None:
    """Sign a bundle and make it the active one, if the active bundle lets it. Live deployments are decided on again at once."""
    from services.core.bundle import load_bundle

    bundle = load_bundle(folder)
    with connected(person) as client:
        show(client.publish_policies(bundle), as_json, _published)


def _published(found: dict[str, Any]) -> None:
    say(f"version {found['version']} is active: {found['revision']}")
    if found["quarantined"] is None:
        say("live deployments could not be decided on again now; it goes on in the background (`ai-infra quarantine list`)")
    for item in found["quarantined"] or []:
        say(f"{item['model']} in {item['environment']} no longer passes {', '.join(item['rules'])}: quarantined ({item['flag']})")


def _explained(found: dict[str, Any]) -> None:
    subject, who = found["subject"], found["actor"].rsplit("/", 1)[-1]
    say(f"{found['id']}  {found['action']} of {subject['kind']} {subject['id']}, for {who} at {moment(found['at'])} UTC")
    say(f"  by policies {short(found['policyRevision'])}, on input {short(found['inputDigest'])}")
    _verdict(found)
    for rule in found["rules"]:
        if rule["verdict"] != "pass" and rule.get("runbook"):
            say(f"what to do about {rule['rule']}: {rule['runbook']}")


def _verdict(found: dict[str, Any]) -> None:
    columns: tuple[str, ...] = ("rule", "verdict", "reasons")
    rows: list[tuple[str, ...]] = [(r["rule"], r["verdict"], "; ".join(r["reasons"])) for r in found["rules"]]
    if any(r.get("title") for r in found["rules"]):
        columns += ("what it is for",)
        rows = [(*row, r.get("title") or "") for row, r in zip(rows, found["rules"], strict=True)]
    table(f"verdict: {found['verdict']}", columns, rows)


def _table(found: list[dict[str, Any]]) -> None:
    rows = [
        (d["id"], moment(d["at"]), d["action"], named(d["subject"]["id"]), d["verdict"], d["actor"].rsplit("/", 1)[-1])
        for d in found
    ]
    columns = ("id", "time (UTC)", "action", "subject", "verdict", "actor")
    table("decisions", columns, rows, "each training, promotion, deployment makes one")
