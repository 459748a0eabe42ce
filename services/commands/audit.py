"""`ai-infra audit`: the log."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.common import As, Json, connected, moment, named, read_file, read_json, read_trust, say, show, table

app = typer.Typer(help="Read, verify and prove the audit log.", no_args_is_help=True)

Index = Annotated[int, typer.Argument(help="Index of the entry, as `ai-infra audit tail` shows it.")]


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="audit")


@app.command(epilog="Example: ai-infra audit tail -n 20")
def tail(
    count: Annotated[int, typer.Option("-n", min=1, max=1000, help="Entries.")] = 20, person: As = "aude", as_json: Json = False
) -> None:
    """The last entries."""
    with connected(person) as client:
        show(client.events(tail=count), as_json, _table)


@app.command(name="show", epilog="Example: ai-infra audit show 12")
def show_one(index: Index, person: As = "aude", as_json: Json = False) -> None:
    """One entry, whole."""
    with connected(person) as client:
        show(client.event(index), as_json, lambda found: say(json.dumps(found, indent=2)))


@app.command(epilog="Example: ai-infra audit verify --against checkpoint.kept")
def verify(
    against: Annotated[Path | None, typer.Option(help="A signed checkpoint that a witness or you kept.")] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Check chain, sequence numbers, tiles, checkpoint and table; without --against, truncation and forks are not checkable.

    Exit code 1: there is a problem; each is named.
    """
    note = _checkpoint(against) if against else None
    with connected(person) as client:
        found = client.audit_verify(note)
    show(found, as_json, draw)
    if found["problems"]:
        raise typer.Exit(1)


@app.command(epilog="Example: ai-infra audit prove 12 -o entry.tlog-proof")
def prove(
    index: Index,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File; default: stdout.")] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """A C2SP .tlog-proof that an entry is in the log."""
    with connected(person) as client:
        text = client.proof(index)
    if output is not None:
        output.write_text(text)
    found = {"index": index, "file": None if output is None else str(output), "proof": text}
    show(found, as_json, lambda _: print(text, end="") if output is None else say(f"{output}"))


@app.command(epilog="Example: ai-infra audit check-proof entry.tlog-proof entry.json --trust trust.json")
def check_proof(
    proof: Annotated[Path, typer.Argument(help="A .tlog-proof, as `audit prove` writes it.")],
    entry: Annotated[
        Path, typer.Argument(help="The entry in JSON, as `audit show INDEX --json` or `registry show --proof` has it.")
    ],
    trust: Annotated[Path | None, typer.Option(help="trust.json, got out of band. Default: the home's.")] = None,
    as_json: Json = False,
) -> None:
    """Check offline that an entry is in the log: by its proof, the log's signature and the witnesses that trust asks for.

    Exit code 1: that is not shown.
    """
    from services.core import asof

    trusted = read_trust(trust)
    value = read_json(entry)
    event = value["event"] if isinstance(value, dict) and set(value) == {"index", "event"} else value
    found = asof.check_proof(read_file(proof).decode("utf-8", "replace"), event, trusted)
    by = f", cosigned by {', '.join(found['witnesses'])}" if found["witnesses"] else ""
    show(found, as_json, lambda _: say(f"entry {found['index']} is in the log of {found['size']} entries{by}"))


@app.command(epilog="Example: ai-infra audit reconcile")
def reconcile(person: As = "aude", as_json: Json = False) -> None:
    """Prove that every state row has its event, and every event its state. Exit code 1: some have not."""
    with connected(person) as client:
        found = client.reconcile()
    show(found, as_json, _reconciled)
    if found["problems"]:
        raise typer.Exit(1)


def _table(found: list[dict[str, Any]]) -> None:
    rows = []
    for entry in found:
        event = entry["event"]
        what, who = event["type"], event["actor"].rsplit("/", 1)[-1]
        if what == "policyCheck":
            what += f" {event['payload'].get('action')}: {event['payload'].get('verdict')}"
        rows.append((entry["index"], moment(event["ts"]), what, named(event["subject"]["id"]), who))
    table("audit log", ("index", "time (UTC)", "type", "subject", "actor"), rows, "the first event comes with the first start")


def _checkpoint(path: Path) -> str:
    """The text of a checkpoint; who signed it, and of which log it is, the platform checks. Raises BadInput."""
    from services.core.errors import BadInput
    from services.core.tlog import unverified_checkpoint

    note = read_file(path)
    try:
        unverified_checkpoint(note)
    except BadInput as error:
        raise BadInput(f"--against {path}: {error}") from error
    return note.decode()


def draw(found: dict[str, Any]) -> None:
    """What a check of the log found."""
    say(f"{found['size']} entries: {'no problem found' if not found['problems'] else 'PROBLEMS'}")
    for problem in found["problems"]:
        where = "" if problem["index"] is None else f"entry {problem['index']}: "
        say(f"  {where}{problem['kind']}: {problem['detail']}")
    for name, at in found.get("witnesses", {}).items():
        say(f"  witness {name}: {'did NOT cosign this checkpoint' if at is None else f'cosigned at {moment(at * 1000)} UTC'}")
    for item in found.get("notCheckable", []):
        say(f"  not checkable: {item}")


def _reconciled(found: dict[str, Any]) -> None:
    say(f"{found['rows']} state rows and {found['events']} events compared: {len(found['problems'])} problems")
    for problem in found["problems"]:
        say(f"  {problem}")
