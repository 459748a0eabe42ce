"""`ai-infra infra check`: the infra rules and checkov over one stack. `infra` registers it and has the other commands."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import Exit, Json, say, show

if TYPE_CHECKING:
    from infra.check import Violation


def check(
    environment: Annotated[str, typer.Option("--env", help="dev, staging or prod.")],
    layer: Annotated[str, typer.Option(help="Of its layers: ground.")] = "ground",
    base: Annotated[str | None, typer.Option(help="Revision to compare with: the change is judged too.")] = None,
    root: Annotated[Path, typer.Option("--root", help="The checkout whose program is run.", show_default=False)] = Path(),
    as_json: Json = False,
) -> None:
    """Judge an environment by the infra rules, then by checkov. Exit code 1: something violates one; each with its remedy."""
    from infra.base import base_of
    from infra.check import check as judge
    from infra.diff import diff
    from infra.facts import Change
    from infra.render import render
    from infra.stack import stack_of
    from infra.synth import synthesise
    from infra.terraform import Terraform
    from services.core.bundle import load_bundle

    root, terraform, change = root.absolute(), Terraform(), None
    graph = render(root, environment, layer)
    document = synthesise(graph, terraform.schema())
    stack = stack_of(graph, document, terraform.plan(document))
    if base is not None:
        found = diff(base_of(root, base, environment, layer, terraform), graph, document, terraform)
        change = Change(found.protected, found.plan)
    violations = judge(root, load_bundle(root / "policies" / "rego"), stack, int(time.time()), change)
    answer = {"stack": stack.name, "base": base, "violations": [item.to_json() for item in violations]}
    show(answer, as_json, lambda _: _tell(stack.name, violations))
    if violations:
        raise typer.Exit(Exit.REFUSED)


def _tell(stack: str, found: "list[Violation]") -> None:
    lines = [f"{item.rule}: {item.reason if item.resource in item.reason else f'{item.resource}: {item.reason}'}" for item in found]
    say("\n".join([*lines, f"{stack}: {len(found) or 'no'} violation{'' if len(found) == 1 else 's'} of rules and of checkov"]))
