"""`ai-infra verify` and `ai-infra evidence`: the offline check and the archive that it reads."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import As, Json, Target, connected, plain, read_file, read_trust, say, show

if TYPE_CHECKING:
    from services.verify.report import Report

MARKS = {"ok": "✓", "broken": "✗", "not claimed": "-", "not checkable": "?", "not reached": " "}
WIDTH = 26
"""Columns of a link's name."""

VERIFY_EXAMPLES = """Examples (offline, in any folder):

ai-infra verify evidence.zip --trust trust.json

ai-infra verify evidence.zip --trust trust.json --model ./weights --against checkpoint --json

ai-infra verify evidence.zip --trust trust.json --input request.json --salt 3f0c… --output answer.json

Exit codes: 0 every link holds; 1 a link is broken (the last line and `brokenLink` of --json name it, warnings do not count);
2 no such file, or trust.json is malformed; 3, 75 only for name@number or a prediction id of the running platform: not found, retry.
"""
EVIDENCE_EXAMPLES = """Examples:

ai-infra evidence prd-019… -o evidence.zip

ai-infra evidence digits@1 --env prod --weights-up-to 0 -o evidence.zip

Exit code 75: the prediction's batch is not sealed yet (a matter of seconds), or the platform is away.
"""


def add_to(root: typer.Typer) -> None:
    root.command(epilog=VERIFY_EXAMPLES)(verify)
    root.command(epilog=EVIDENCE_EXAMPLES)(evidence)


def verify(
    what: Annotated[str, typer.Argument(help="An archive (*.zip); or name@number, or a prediction of the running platform.")],
    trust: Annotated[Path | None, typer.Option(help="trust.json, got out of band. Default: the home's.")] = None,
    model: Annotated[Path | None, typer.Option(help="Folder of the weights, if the archive holds none.")] = None,
    against: Annotated[Path | None, typer.Option(help="A signed checkpoint that a witness or you kept.")] = None,
    sent: Annotated[Path | None, typer.Option("--input", help="Body of the request that you sent; needs --salt.")] = None,
    answer: Annotated[Path | None, typer.Option("--output", help="Body of the answer that you got.")] = None,
    salt: Annotated[str | None, typer.Option(help="The answer's header x-prediction-salt.")] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Walk from one prediction, or a promoted version, to its origins; every verdict is re-executed."""
    import tempfile

    from services.core.errors import BadInput
    from services.verify.service import verify as walk
    from services.verify.walk import Own

    trusted = read_trust(trust)
    if (salt is None) != (sent is None):
        raise BadInput("--input and --salt go together: the record has the salted digest of the body that you sent")
    if model is not None and not model.is_dir():
        raise BadInput(f"--model {model}: no such folder")
    kept = _read(against)
    own = Own(_read(sent), _read(answer), _salt(salt))
    if Path(what).suffix == ".zip":
        with Path(what).open("rb"):
            report = walk(Path(what), trusted, model, kept, own)
    else:
        with tempfile.TemporaryDirectory() as folder, connected(person) as client:
            report = walk(client.evidence(what, Path(folder) / "evidence.zip"), trusted, model, kept, own)
    show(report.to_json(), as_json, lambda _: draw(report))
    if report.broken is not None:
        raise typer.Exit(1)


def evidence(
    reference: Annotated[str, typer.Argument(help="The id of a prediction, or name@number.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Archive to write.")] = Path("evidence.zip"),
    environment: Annotated[Target | None, typer.Option("--env", help="Of a version. Default: the latest promotion.")] = None,
    weights_up_to: Annotated[
        int | None,
        typer.Option(min=0, max=1 << 30, help="Bytes: a larger model is not put in; its verifier needs --model. Default: 1 GiB."),
    ] = None,
    person: As = "aude",
    as_json: Json = False,
) -> None:
    """Write everything that a stranger needs to verify one prediction, or a promotion, offline."""
    from services.core.archive import WEIGHTS_UP_TO
    from services.core.errors import BadInput

    if "@" not in reference and environment is not None:
        raise BadInput("--env is for a version: a prediction was made in one environment")
    if not output.parent.is_dir():
        raise BadInput(f"--output {output}: {output.parent} is no folder: make it, or name another")
    with connected(person) as client:
        up_to = WEIGHTS_UP_TO if weights_up_to is None else weights_up_to
        client.evidence(reference, output, environment, weights_up_to=up_to)
    found = {"file": str(output), "size": output.stat().st_size}
    told = f"{output} ({found['size']:,} bytes): verify it with `ai-infra verify {output} --trust trust.json`"
    show(found, as_json, lambda _: say(told))


def draw(report: "Report") -> None:
    """The walk, link by link, as a path that goes from top to bottom."""
    say(plain(report.subject))
    for position, link in enumerate(report.links):
        branch = "└─" if position == len(report.links) - 1 else "├─"
        told = ": ".join(part for part in (link.status if link.status != "ok" else "", link.detail) if part)
        say(plain(f"{branch} {MARKS[link.status]} {link.name:<{WIDTH}} {told}".rstrip()))
    for warning in report.warnings:
        say(plain(f"warning: {warning}"))
    say("verified" if report.broken is None else plain(f"BROKEN at: {report.broken.name}: {report.broken.detail}"))


def _read(path: Path | None) -> bytes | None:
    return None if path is None else read_file(path)


def _salt(text: str | None) -> bytes | None:
    from services.core.errors import BadInput

    try:
        return None if text is None else bytes.fromhex(text)
    except ValueError as error:
        raise BadInput(f"--salt {text}: want hex digits, as the header x-prediction-salt has them") from error
