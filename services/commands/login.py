"""`ai-infra login`: names the server, and who acts, once."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands.common import Json, note, read_file, say, show

if TYPE_CHECKING:
    from services.core.tls import Identity


def add_to(root: typer.Typer) -> None:
    example = "kubectl -n ai-infra get secret person-ana -o json | ai-infra login ana --api https://localhost:8443 --certificate -"
    root.command(epilog=f"Example: {example} --trust trust.json --signing-key signing.pem")(login)


def login(
    name: Annotated[str, typer.Argument(help="Who acts from here on, as in the certificate: spiffe://…/person/NAME.")],
    api: Annotated[str, typer.Option(help="URL of the platform's API.")],
    certificate: Annotated[
        str, typer.Option(help="A folder with tls.crt, tls.key and ca.crt, or a Kubernetes secret in JSON; -: from standard input.")
    ],
    trust: Annotated[Path, typer.Option(help="trust.json, from whoever keeps it; not from the platform.")],
    signing_key: Annotated[Path, typer.Option(help="Your own signing key, in PEM.")],
    router: Annotated[str, typer.Option(help="URL of the router, where one runs.")] = "https://localhost:8444",
    as_json: Json = False,
) -> None:
    """Write into the home (AI_INFRA_HOME) which platform commands talk to, and as whom. Again: renews certificate and trust."""
    from services.core.keys import read_private_pem
    from services.home import Home
    from services.login import Login, log_in

    wanted = Login(
        name=name,
        api=api,
        router=router,
        certificate=_certificate(certificate),
        trust=read_file(trust),
        signing_key=read_private_pem(signing_key),
    )
    home = Home.from_env(os.environ)
    found = log_in(home, wanted)
    _ask(api, home.person(name))

    def draw(value: Any) -> None:
        say(f"{value['person']}, signing with key {value['signer'][:16]}…, at {value['api']}\nhome: {value['home']}")
        say(f"now: export AI_INFRA_HOME={value['home']} AI_INFRA_AS={name}")

    show(found, as_json, draw)


def _ask(api: str, identity: "Identity") -> None:
    """A note where nobody answers: the way there, such as a tunnel, may be made later."""
    from services.core.calls import call, client
    from services.core.errors import Unavailable

    with client(api, identity, timeout_s=5.0) as caller:
        try:
            call(caller, "GET", "/healthz")
        except Unavailable as error:
            note(f"the login is written, but nobody answers there now: {error}")


def _certificate(where: str) -> dict[str, bytes]:
    from services.login import FILES, from_secret

    if where == "-":
        return from_secret(sys.stdin.buffer.read())
    path = Path(where)
    return {file: read_file(path / file) for file in FILES} if path.is_dir() else from_secret(read_file(path))
