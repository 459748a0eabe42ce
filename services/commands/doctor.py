"""`ai-infra doctor`: what a cluster lacks of what the program makes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import Exit, Json, say, show, table

if TYPE_CHECKING:
    from infra.doctor import Finding


def add_to(root: typer.Typer) -> None:
    root.command(epilog="Examples: ai-infra doctor --env dev  |  ai-infra doctor --env prod --context prod --json")(doctor)


def doctor(
    environment: Annotated[str, typer.Option("--env", help="dev, staging or prod.")],
    context: Annotated[str, typer.Option(help="Of the kubeconfig; the present one without it.")] = "",
    root: Annotated[
        Path, typer.Option("--root", help="The checkout whose program says what is wanted.", show_default=False)
    ] = Path(),
    as_json: Json = False,
) -> None:
    """Compare a cluster with the program: what is missing, different or not ready, in the order in which to repair it.

    It reads with kubectl as whoever runs it, and changes nothing. Exit code 1: something is wrong; 75: the cluster does not answer.
    """
    from infra.doctor import examine
    from infra.kubectl import Kubectl
    from infra.render import layers, require_config

    # Told before a cluster is asked: the program takes a while.
    require_config(root.absolute(), environment, "apps")
    cluster = Kubectl(context)
    cluster.ready()
    with _progress() as seen:
        seen("the program")
        _, *graphs = layers(root.absolute(), environment, "apps")
        found = examine(graphs, cluster, seen)
    show({"environment": environment, "findings": [item.to_json() for item in found]}, as_json, lambda _: _tell(environment, found))
    if found:
        raise typer.Exit(Exit.REFUSED)


def _tell(environment: str, found: "list[Finding]") -> None:
    if not found:
        say(f"{environment}: all that the program makes in the cluster is there, and works")
        return
    rows = [(number, item.object, item.state, item.detail, item.remedy) for number, item in enumerate(found, start=1)]
    table(f"{environment}: repair in this order", ("", "what", "is", "because", "remedy"), rows)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A spinner on stderr that names what is looked at."""
    from rich.console import Console

    with Console(stderr=True).status("looking") as status:
        yield lambda name: status.update(f"looking at {name}")
