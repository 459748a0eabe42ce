"""`ai-infra init`, `up`, `status`, `demo`."""

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.common import As, Json, connected, home, say, show, table

if TYPE_CHECKING:
    from services.client import Client


def add_to(root: typer.Typer) -> None:
    root.command(epilog="Example: AI_INFRA_HOME=~/ai-infra ai-infra init")(init)
    root.command(epilog="Example: ai-infra up --port-base 9000")(up)
    root.command(epilog="Example: ai-infra status --json")(status)
    root.command(epilog="Example: ai-infra demo --home .ai-infra-demo --json demo.json")(demo)


def init(
    witness: Annotated[
        list[str] | None, typer.Option(metavar="URL=VKEY", help="A witness of the log; repeat it. Also for a home that is there.")
    ] = None,
    witness_threshold: Annotated[
        int | None,
        typer.Option(
            min=0, help="How many witnesses must cosign before a promotion counts and a verifier believes the log; default: 0."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a home: development CA, certificates, keys, databases, first policies. Again: nothing changes but the witnesses."""
    from services.core.errors import BadInput
    from services.home import Home, add_witnesses, create

    if witness_threshold is not None and not witness:
        raise BadInput("--witness-threshold is set together with the witnesses: name all of them with --witness")
    found = Home.from_env(os.environ)
    made = create(found)
    if witness:
        named = {key: url for url, _, key in (text.rpartition("=") for text in witness)}
        add_witnesses(found, named, witness_threshold or 0)
    value = {"home": str(found.root), "people": str(found.people), "made": made}
    told = f"{'made' if made else 'is there already:'} {found.root}\npeople's keys: {found.people}"
    if made:
        told += "\nnext: `ai-infra up`"
    if witness:
        told += f"\nwitnesses are set; `ai-infra up` takes them at its next start, verifiers need this {found.root / 'trust.json'}"
    show(value, as_json, lambda _: say(told))


def up(
    port_base: Annotated[int, typer.Option(min=0, max=65_000, help="Ports BASE, BASE+1, BASE+2; 0 takes free ones.")] = 8443,
) -> None:
    """Run the platform until stopped: API, router and signing proxy, on loopback, with mutual TLS."""
    from services.supervisor import DEFAULT_PORTS, Platform, free_ports

    ports = free_ports() if port_base == 0 else {name: port_base + i for i, name in enumerate(DEFAULT_PORTS)}
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped by an init system: as by Ctrl-C
    with contextlib.suppress(KeyboardInterrupt), Platform(home(), ports, tell=say) as platform:
        table("the platform is up; stop it with Ctrl-C", ("process", "address"), list(platform.urls.items()))
        say("predictors of what is deployed verify and load it now: `ai-infra status`")
        platform.watch()


def status(person: As = "aude", as_json: Json = False) -> None:
    """What is running: versions by stage, deployments and their predictors, flags, and the log's size."""
    from services.commands.quarantine import flag_table
    from services.commands.serving import traffic

    with connected(person) as client:
        value: dict[str, Any] = {
            "endpoints": home().endpoints,
            "models": client.models(),
            "deployments": [_with_predictors(client, found) for found in client.deployments()],
            "flags": client.flags(),
            "logSize": 1 + max((entry["index"] for entry in client.events(tail=1)), default=-1),
        }

        def draw(_: object) -> None:
            rows = [(f"{v['model']}@{v['number']}", v["stage"], v["riskClass"]) for v in value["models"]]
            table("versions", ("version", "stage", "risk"), rows, "train and register one: `ai-infra train --help`")
            shares = traffic(value["deployments"], client.rollouts())
            served = [
                (f"{d['model']}@{d['number']}", d["environment"], d["state"], shares[d["id"]], _ready(d), d["id"])
                for d in value["deployments"]
            ]
            columns = ("version", "environment", "state", "traffic", "ready", "id")
            table("deployments", columns, served, "`ai-infra deploy NAME@NUMBER --env prod`")
            flag_table(client, value["flags"])
            say(f"{value['logSize']} entries in the log")

        show(value, as_json, draw)


def _with_predictors(client: "Client", found: dict[str, Any]) -> dict[str, Any]:
    """A deployment; one that serves with the state of its predictors, unless the router is away."""
    from services.core.errors import Unavailable

    try:
        return client.deployment(found["id"]) if found["state"] == "serving" else found
    except Unavailable:
        return found


def _ready(found: dict[str, Any]) -> str:
    return f"{found['predictors']['ready']} of {found['replicas']}" if "predictors" in found else "-"


def demo(
    home_folder: Annotated[
        Path, typer.Option("--home", help="A folder for the demo; what an earlier demo left there is replaced.")
    ] = Path(".ai-infra-demo"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what was shown, for machines.")] = None,
) -> None:
    """The main job: a real model from data set to canaried serving, and what is refused on the way.

    Exit code 1: something was not shown.
    """
    from services.demo.story import run

    if not run(home_folder, json_file):
        raise typer.Exit(1)
