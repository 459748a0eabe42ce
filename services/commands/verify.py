"""`ai-infra verify` and `ai-infra evidence`: the offline check and the archive that it reads."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import As, Json, Target, connected, home, plain, read_file, say, show

if TYPE_CHECKING:
    from services.verify.report import Report

MARKS = {"ok": "✓", "broken": "✗", "not claimed": "-", "not checkable": "?", "not reached": " "}


def add_to(root: typer.Typer) -> None:
    root.command(epilog="Example: ai-infra verify evidence.zip --trust trust.json   (offline, in any folder)")(verify)
    root.command(epilog="Example: ai-infra evidence digits@1 -o evidence.zip")(evidence)


def verify(
    what: Annotated[str, typer.Argument(help="An evidence archive, or name@number of the running platform.")],
    trust: Annotated[Path | None, typer.Option(help="trust.json, got out of band. Default: the home's.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of the weights, if the archive holds none.")] = None,
    against: Annotated[Path | None, typer.Option(help="A signed checkpoint that a witness or you kept.")] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Walk from a promoted version to its origins; every verdict is re-executed. Exit code 1 names the first broken link."""
    import tempfile

    from services.core.errors import BadInput
    from services.core.trust import Trust
    from services.home import Home
    from services.verify.service import verify as walk

    if trust is None and not (Home.from_env(os.environ).root / "trust.json").exists():
        raise BadInput("no home is here whose trust.json could be used: name one with --trust")
    trusted = Trust.parse(read_file(trust if trust is not None else home().root / "trust.json"))
    kept = read_file(against) if against is not None else None
    if Path(what).suffix == ".zip":
        read_file(Path(what))
        report = walk(Path(what), trusted, model, kept)
    else:
        with tempfile.TemporaryDirectory() as folder, connected(person) as client:
            report = walk(client.evidence(what, Path(folder) / "evidence.zip"), trusted, model, kept)
    show(report.to_json(), as_json, lambda _: draw(report))
    if report.broken is not None:
        raise typer.Exit(1)


def evidence(
    reference: str,
    output: Annotated[Path, typer.Option("--output", "-o", help="Archive to write.")] = Path("evidence.zip"),
    environment: Annotated[Target | None, typer.Option("--env", help="Default: the latest promotion.")] = None,
    weights: Annotated[bool, typer.Option(help="Put the weights into the archive.")] = True,
    person: As = "aude",
) -> None:
    """Write everything that a stranger needs to verify a promotion, offline."""
    with connected(person) as client:
        client.evidence(reference, output, environment, weights)
    say(f"{output} ({output.stat().st_size:,} bytes): verify it with `ai-infra verify {output} --trust trust.json`")


def draw(report: "Report") -> None:
    """The walk, link by link."""
    say(plain(report.subject))
    for link in report.links:
        say(plain(f"  {MARKS[link.status]} {link.name:<26} {link.status if link.status != 'ok' else ''} {link.detail}".rstrip()))
    say("verified" if report.broken is None else f"BROKEN at: {report.broken.name}")
