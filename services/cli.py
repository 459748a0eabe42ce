"""The `ai-infra` command."""

import sys

import typer

from services.commands import (
    audit,
    data,
    doctor,
    infra,
    models,
    platform,
    policy,
    promotion,
    quarantine,
    serving,
    training,
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
for group in (platform, data, training, models, promotion, serving, quarantine, policy, audit, verify, witness, infra, doctor):
    group.add_to(app)


def main() -> None:
    """Entry point: errors become messages and exit codes, never stack traces."""
    as_json = "--json" in sys.argv[1:]
    sys.exit(guarded(lambda: app(standalone_mode=True), as_json))


if __name__ == "__main__":
    main()
