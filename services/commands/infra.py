"""`ai-infra infra`: what the Pulumi program makes of an environment, shown, translated, planned, drawn and priced without a cloud.

`check` is in `infra_check`, `diff` in `infra_diff`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands import infra_check, infra_diff
from services.commands.common import Json, plain, read_file, say, show, table

if TYPE_CHECKING:
    from infra.cost import Cost
    from infra.graph import Graph, Resource

app = typer.Typer(
    help="An environment's ground in AWS and what runs on it, judged without a cloud: no credentials, no network.",
    no_args_is_help=True,
)

Env = Annotated[str, typer.Option("--env", help="dev, staging or prod.")]
Layer = Annotated[str, typer.Option("--layer", help="Of its layers: ground, platform or apps.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; the terminal otherwise.")]
Root = Annotated[Path, typer.Option("--root", help="The checkout whose program is run.", show_default=False)]


def add_to(root: typer.Typer) -> None:
    root.add_typer(app, name="infra")


app.command(epilog="Examples: ai-infra infra check --env prod  |  ai-infra infra check --env prod --base main")(infra_check.check)
app.command(epilog="Example: ai-infra infra diff --env prod --base origin/main")(infra_diff.diff)


@app.command(epilog="Examples: ai-infra infra render --env dev  |  ai-infra infra render --env prod -o prod.json")
def render(env: Env, layer: Layer = "ground", output: Output = None, root: Root = Path(), as_json: Json = False) -> None:
    """Run the program without its engine: every resource with its options, as a tree. A file and --json have all inputs."""
    found = _graph(root, env, layer)
    if output is not None:
        _write(output, json.dumps(found.to_json(), indent=2) + "\n")
    if output is None or as_json:
        show(found.to_json(), as_json, lambda _: say("\n".join([*_tree(found), _count(found)])))


@app.command(epilog="Example: ai-infra infra synth --env dev -o main.tf.json")
def synth(env: Env, output: Output = None, root: Root = Path(), as_json: Json = False) -> None:
    """The ground as Terraform JSON: what the real provider judges. It has no credentials and is never applied to AWS."""
    from infra.synth import synthesise

    found = _graph(root, env, "ground")
    with _busy(f"{found.stack}: translating"):
        document = synthesise(found)
    if output is not None:
        _write(output, json.dumps(document, indent=2) + "\n")
    if output is None or as_json:
        show(document, True, say)


@app.command(epilog="Example: ai-infra infra plan --env staging")
def plan(env: Env, layer: Layer = "ground", root: Root = Path(), as_json: Json = False) -> None:
    """Let the real AWS provider plan the program offline. Exit code 1: it finds fault; each fault with its resource."""
    from infra.synth import addresses, synthesise
    from infra.terraform import Terraform

    found = _graph(root, env, layer)
    if not addresses(found):
        show({"resource_changes": []}, as_json, lambda _: say(_nothing_of_aws(found)))
        return
    with _busy(f"{found.stack}: Terraform plans"):
        planned = Terraform().plan(synthesise(found))
    show(planned, as_json, lambda _: _planned(found.stack, planned))


@app.command(epilog="Examples: ai-infra infra cost --env dev  |  ai-infra infra cost --write deployment.md")
def cost(
    env: Annotated[list[str] | None, typer.Option("--env", help="dev, staging or prod; all without it.")] = None,
    write: Annotated[Path | None, typer.Option(help="A page whose table, between its two marks, is replaced.")] = None,
    root: Root = Path(),
    as_json: Json = False,
) -> None:
    """What an environment costs a month when it is only left running, at list prices. Check those before you rely on them."""
    from infra.cost import as_of, costs, page, written
    from infra.render import ENVIRONMENTS

    found = {name: costs(_graph(root, name, "ground")) for name in env or ENVIRONMENTS}
    if write is not None:
        write.write_text(written(read_file(write).decode(), page(found)), encoding="utf-8")
    if write is None or as_json:
        listed = {name: [item.to_json() for item in items] for name, items in found.items()}
        show({"asOf": as_of(), "environments": listed}, as_json, lambda _: _priced(found))


@app.command(epilog="Example: ai-infra infra graph --env prod -o docs/infra-prod.svg")
def graph(env: Env, output: Output = None, root: Root = Path(), as_json: Json = False) -> None:
    """Draw an environment's ground as SVG: network, cluster, stores, keys, what is locked, and what writes where."""
    from infra.draw import draw

    drawn = draw(_graph(root, env, "ground"))
    if output is not None:
        _write(output, drawn)
    if output is None or as_json:
        show({"svg": drawn}, as_json, lambda _: print(drawn, end=""))


def _graph(root: Path, env: str, layer: str) -> "Graph":
    from infra.render import render as rendered

    with _busy(f"{env}-{layer}: running the program"):
        return rendered(root.absolute(), env, layer)


@contextmanager
def _busy(what: str) -> Iterator[None]:
    """A spinner on stderr while a person waits."""
    from rich.console import Console

    with Console(stderr=True).status(plain(what)):
        yield


def _write(output: Path, text: str) -> None:
    output.write_text(text, encoding="utf-8")


def _tree(graph: "Graph") -> Iterator[str]:
    within: dict[str | None, list[Resource]] = {}
    for item in graph.resources:
        within.setdefault(item.parent, []).append(item)
    yield from _branches(within, None, "")


def _branches(within: "Mapping[str | None, Sequence[Resource]]", parent: str | None, indent: str) -> Iterator[str]:
    for item in within.get(parent, ()):
        marks = [mark for mark, set_ in (("protected", item.protect), ("kept when removed", item.retain_on_delete)) if set_]
        marks += [f"ignores {path}" for path in item.ignore_changes]
        yield f"{indent}{item.name}  {item.type}{'  [' + ', '.join(marks) + ']' if marks else ''}"
        yield from _branches(within, item.urn, indent + "  ")


def _count(graph: "Graph") -> str:
    made = [item for item in graph.resources if item.custom]
    protected = sum(item.protect for item in made)
    return f"{graph.stack}: {len(made)} resources in {len(graph.resources) - len(made)} components, {protected} protected"


def _nothing_of_aws(graph: "Graph") -> str:
    made = sum(item.custom and item.provider is not None for item in graph.resources)
    judge = f"`ai-infra infra check --env {graph.environment} --layer {graph.layer}`"
    return f"{graph.stack}: {made} resources in the cluster, none of AWS, so its provider has nothing to plan; {judge} judges them"


def _planned(stack: str, planned: Mapping[str, Any]) -> None:
    new = Counter(row["type"] for row in planned["resource_changes"] if row["change"]["actions"] == ["create"])
    table(f"{stack}: {new.total()} resources to add to an empty account", ("kind", "number"), sorted(new.items()))


def _priced(environments: "Mapping[str, Sequence[Cost]]") -> None:
    for name, found in environments.items():
        rows = [
            (item.what, item.count, item.most, f"{item.each:,.2f}", f"{item.usd:,.2f}", f"{item.usd_most:,.2f}") for item in found
        ]
        total = ("all of it", "", "", "", f"{sum(item.usd for item in found):,.2f}", f"{sum(item.usd_most for item in found):,.2f}")
        table(f"{name}: USD a month", ("what", "runs", "at most", "each", "left running", "at its maximum"), [*rows, total])
