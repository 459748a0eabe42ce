"""`ai-infra witness`: a witness of the log, for a machine and a person that are not the platform's."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from services.commands.common import Json, say, show

NAME = "ai-infra.local/witness"


def add_to(root: typer.Typer) -> None:
    example = "Example: ai-infra witness --state ~/witness --log log.vkey --port 8450"
    root.command(epilog=f"{example}; first, to tell the platform the key: ai-infra witness --state ~/witness --show-key")(witness)


def witness(
    state: Annotated[Path, typer.Option(help="Folder of its key and of the checkpoints it kept; never the platform's home.")],
    log: Annotated[
        list[Path] | None, typer.Option(help="File with the verifier key of a log to follow (log.vkey); repeat it.")
    ] = None,
    name: Annotated[str, typer.Option(help="Its name, which every verifier is told with its key.")] = NAME,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 takes a free one.")] = 8450,
    show_key: Annotated[bool, typer.Option("--show-key", help="Print the verifier key and stop; made if there is none.")] = False,
    as_json: Json = False,
) -> None:
    """Cosign checkpoints of logs that only ever grow (C2SP tlog-witness), until stopped."""
    from services.commands.common import read_file
    from services.core.errors import BadInput
    from services.home import runs_platform
    from services.witness.bootstrap import Settings, run, vkey

    above = (state.absolute(), *state.absolute().parents)
    inside = next((folder for folder in above if runs_platform(folder)), None)
    if inside is not None:
        raise BadInput(f"--state {state}: lies in the platform's home {inside}: who can rewrite the log could rewrite it too")
    if show_key:
        show({"vkey": vkey(state, name)}, as_json, lambda found: say(found["vkey"]))
        return
    if not log:
        raise typer.BadParameter("name the log to follow: --log log.vkey, a file that `ai-infra init` writes")
    logs = [read_file(path).decode("utf-8", "replace").strip() for path in log]

    def ready(key: str, at: int) -> None:
        value = {"vkey": key, "url": f"http://{host}:{at}", "logs": [text.partition("+")[0] for text in logs]}
        show(value, as_json, lambda _: say(f"witness {key}\nlistens on {value['url']}; stop it with Ctrl-C"))
        sys.stdout.flush()  # whoever started it through a pipe waits for these lines

    run(Settings(state, name, logs, host, port), ready)
