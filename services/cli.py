"""The `ai-infra` command."""

import importlib.metadata
import sys
from typing import Annotated

import typer

from services.commands import (
    audit,
    data,
    doctor,
    infra,
    login,
    models,
    platform,
    policy,
    promotion,
    quarantine,
    rollout,
    serving,
    training,
    trust,
    verify,
    witness,
)
from services.commands.common import EXIT_HELP, guarded

app = typer.Typer(
    name="ai-infra",
    help="Put models into production under rules that anyone can re-check.",
    epilog=EXIT_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
GROUPS = (
    platform, login, data, training, models, promotion, serving, rollout, quarantine, policy, audit, trust, verify, witness, infra,
    doctor,
)  # fmt: skip
for group in GROUPS:
    group.add_to(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ai-infra {importlib.metadata.version('ai-infra')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that belong to no command."""


def main() -> None:
    """Entry point: errors become messages and exit codes, never stack traces."""
    as_json = "--json" in sys.argv[1:]
    sys.exit(guarded(lambda: app(standalone_mode=True), as_json))


if __name__ == "__main__":
    main()
