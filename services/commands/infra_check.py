"""`ai-infra infra check`: rules, and for the ground checkov, over one stack. `infra` registers it and has the other commands."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import Exit, Json, say, show
from services.core.errors import BadInput

if TYPE_CHECKING:
    from infra.check import Violation
    from infra.graph import Graph
    from services.core.bundle import Bundle


def check(
    environment: Annotated[str, typer.Option("--env", help="dev, staging or prod.")],
    layer: Annotated[str, typer.Option(help="Of its layers: ground, platform or apps.")] = "ground",
    base: Annotated[str | None, typer.Option(help="Revision to compare with: a change of the ground is judged too.")] = None,
    root: Annotated[Path, typer.Option("--root", help="The checkout whose program is run.", show_default=False)] = Path(),
    as_json: Json = False,
) -> None:
    """Judge an environment: the ground by the infra rules and checkov, what is in the cluster by the rules about it.

    Exit code 1: something violates one; each with its remedy.
    """
    from infra.check import check_cluster
    from infra.render import layers
    from services.core.bundle import load_bundle

    if base is not None and layer != "ground":
        raise BadInput(f"--base is of the layer ground: the rules about {layer} look at what is there, so leave it out")
    root = root.absolute()
    bundle, graphs = load_bundle(root / "policies" / "rego"), layers(root, environment, layer)
    found = _ground(root, bundle, graphs[-1], base) if layer == "ground" else check_cluster(root, bundle, graphs)
    judged = graphs[-1]
    rules = len(bundle.rules_for("provision" if layer == "ground" else "apply"))
    resources = sum(item.custom for item in judged.resources)
    violations = [item.to_json() for item in found]
    answer = {"stack": judged.stack, "base": base, "rules": rules, "resources": resources, "violations": violations}
    by = f"{rules} rules{' and checkov' if layer == 'ground' else ''} over {resources} resources"
    show(answer, as_json, lambda _: _tell(judged.stack, by, found))
    if found:
        raise typer.Exit(Exit.REFUSED)


def _ground(root: Path, bundle: "Bundle", graph: "Graph", base: str | None) -> "list[Violation]":
    from infra.base import base_of
    from infra.check import check as judge
    from infra.checkov import find_checkov
    from infra.diff import diff
    from infra.facts import Change
    from infra.stack import stack_of
    from infra.synth import synthesise
    from infra.terraform import Terraform

    # Told before the provider plans: that takes a while.
    find_checkov(root)
    terraform, change = Terraform(), None
    document = synthesise(graph, terraform.schema())
    stack = stack_of(graph, document, terraform.plan(document))
    if base is not None:
        found = diff(base_of(root, base, graph.environment, graph.layer, terraform), graph, document, terraform)
        change = Change(found.protected, found.plan)
    return judge(root, bundle, stack, int(time.time()), change)


def _tell(stack: str, by: str, found: "list[Violation]") -> None:
    lines = [f"{item.rule}: {item.reason if item.resource in item.reason else f'{item.resource}: {item.reason}'}" for item in found]
    say("\n".join([*lines, f"{stack}: {by}: {len(found) or 'no'} violation{'' if len(found) == 1 else 's'}"]))
