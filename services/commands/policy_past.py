"""`ai-infra policy simulate` and `policy replay`: past decisions under another bundle, or once more under their own."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from services.commands.common import As, Exit, Json, connected, read_file, say, show

SHOWN = 20
"""Decisions that a terminal gets; --json gives all."""

UNITS = {"m": 60, "h": 3600, "d": 86_400}

Since = Annotated[str | None, typer.Option(help="Only decisions since then: 90m, 12h, 7d, or an ISO 8601 time.")]


def simulate(
    bundle: Annotated[Path, typer.Option(help="Folder or tar file of policies; it need not be signed.")],
    since: Since = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Which past decisions another bundle would change, and why. Nothing is recorded.

    Exit code 0: none; 5: some would change, or could not be decided again.
    """
    from services.core.bundle import load_bundle

    taken = load_bundle(bundle if bundle.is_dir() else read_file(bundle))
    with connected(person) as client:
        found = _gather(client.simulate(taken, _since(since)), quiet=as_json)
    found = {"policyRevision": taken.revision} | found
    show(found, as_json, lambda _: _tell(found, "would change"))
    if found["decisions"]:
        raise typer.Exit(Exit.CHANGES)


def replay(
    decision: Annotated[str | None, typer.Argument(help="A decision; or --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All decisions, with a summary.")] = False,
    since: Since = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Decide again from the stored input under the bundle that decided, and compare the record with its event in the log.

    Exit code 0: the same; 1: another decision, or a record that was changed.
    """
    from services.core.errors import BadInput

    if (decision is None) is not every:
        raise BadInput("name one decision, or give --all")
    with connected(person) as client:
        if decision is not None:
            one = client.replay(decision)
            found = {"counts": {"unchanged": 0, "changed": 0, "failed": 0} | {one["outcome"]: 1}, "decisions": [one]}
            show(one, as_json, lambda _: _tell(found, "differ"))
            differs = not one["same"]
        else:
            found = _gather(client.replay_all(_since(since)), quiet=as_json)
            show(found, as_json, lambda _: _tell(found, "differ"))
            differs = bool(found["decisions"])
    if differs:
        raise typer.Exit(Exit.REFUSED)


def _gather(pages: Iterator[dict[str, Any]], *, quiet: bool) -> dict[str, Any]:
    """All pages as one, with a progress bar meanwhile."""
    from rich.console import Console
    from rich.progress import Progress

    counts, decisions = {"unchanged": 0, "changed": 0, "failed": 0}, []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("decisions", total=None)
        for page in pages:
            counts = {outcome: counts[outcome] + page["counts"][outcome] for outcome in counts}
            decisions += page["decisions"]
            progress.update(task, completed=sum(counts.values()), total=page["total"])
    return {"counts": counts, "decisions": decisions}


def _tell(found: dict[str, Any], differ: str) -> None:
    counts = found["counts"]
    for item in found["decisions"][:SHOWN]:
        if item["now"] is None:
            change = "not decided again"
        else:
            change = f"{item['was']} -> {item['now']}" if item["was"] != item["now"] else item["now"]
        say(f"{item['decision']}  {item['action']}  {item['subject']['kind']} {item['subject']['id']}: {change}")
        for problem in item["problems"]:
            say(f"    {problem}")
        for rule in item["changes"]:
            say(f"    {rule['rule']}: {_side(rule, 'was')} -> {_side(rule, 'now')}")
    if len(found["decisions"]) > SHOWN:
        say(f"... and {len(found['decisions']) - SHOWN} more: --json shows all")
    say(f"{counts['unchanged']} unchanged, {counts['changed']} {differ}, {counts['failed']} could not be decided again")


def _side(rule: dict[str, Any], name: str) -> str:
    if rule[name] is None:
        return "not asked"
    reasons = "; ".join(rule[f"{name}Reasons"])
    return f"{rule[name]} ({reasons})" if reasons else str(rule[name])


def _since(text: str | None) -> int:
    """Epoch milliseconds; 0 for all."""
    from services.core.errors import BadInput

    if text is None:
        return 0
    if ago := re.fullmatch(r"([0-9]{1,6})([mhd])", text):
        return max(0, int((time.time() - int(ago.group(1)) * UNITS[ago.group(2)]) * 1000))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"--since {text!r}: want 90m, 12h, 7d, or an ISO 8601 time") from error
    return max(0, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))
