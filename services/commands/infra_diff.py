"""`ai-infra infra diff`: what a change does to an environment. `infra` registers it and has the other commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import Exit, Json, note, plain, show

if TYPE_CHECKING:
    from infra.rows import Diff

COLOURS = {
    "title": "bold",
    "quiet": "dim",
    "create": "green",
    "update": "yellow",
    "replace": "magenta",
    "delete": "red",
    "forget": "red",
    "move": "cyan",
    "forces": "magenta",
    "refused": "bold red",
}

Base = Annotated[str, typer.Option("--base", help="Revision to compare with: a branch, tag or commit.", show_default=False)]


def diff(
    base: Base,
    environment: Annotated[str, typer.Option("--env", help="dev, staging or prod.")],
    layer: Annotated[str, typer.Option("--layer", help="Of its layers: ground, platform or apps.")] = "ground",
    markdown: Annotated[Path | None, typer.Option("--markdown", help="File for the comment on a pull request.")] = None,
    root: Annotated[Path, typer.Option("--root", help="The checkout whose program is run.", show_default=False)] = Path(),
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 5 if anything changes.")] = False,
    as_json: Json = False,
) -> None:
    """What a change of the program creates, updates, replaces and deletes, offline: the ground as the real AWS provider plans it.

    It compares program with program, not with the live account. Exit code 1: something protected would be replaced or deleted.
    """
    from infra.diff import diff_of
    from infra.report import markdown as commented
    from infra.terraform import Terraform

    found = diff_of(root.absolute(), base, environment, layer, Terraform())
    if markdown is not None:
        markdown.write_text(commented(found), encoding="utf-8")
        note(f"wrote {markdown}")
    show(found.to_json(), as_json, lambda _: _draw(found))
    if found.refused:
        raise typer.Exit(Exit.REFUSED)
    if exit_code and found.rows:
        raise typer.Exit(Exit.CHANGES)


def _draw(found: "Diff") -> None:
    from rich.console import Console
    from rich.text import Text

    from infra.report import lines

    console = Console()
    for line in lines(found):
        console.print(Text(plain(line.text), style=COLOURS.get(line.kind, "")), soft_wrap=True)
