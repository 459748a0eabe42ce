"""A pull request's job for one environment: render, plan, check and diff, as the preview workflow runs them, one after the other.

On a copy of the repository with one edit, for prod, which has the most in it. Cold: nothing of an earlier run is kept, but the
provider itself; warm: a second run on the same machine, with the base's planned state and the provider's schema at hand.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.harness import Row, Size, Target, alone, say, seconds

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = "prod"
STEPS = (("render",), ("plan",), ("check", "--base", "HEAD"), ("diff", "--base", "HEAD"))
EDITED = "stacks/prod/Pulumi.prod-ground.yaml"
EDIT = ("max: 8", "max: 9")
"""Of a GPU pool: the edit that is made most often."""


def measure(size: Size) -> list[Row]:
    """Seconds of the whole job."""
    cold, warm = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        checkout = Path(folder) / "checkout"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(checkout)], check=True)
        (checkout / ".venv-checkov").symlink_to(ROOT / ".venv-checkov")
        edited = checkout / EDITED
        edited.write_text(edited.read_text().replace(*EDIT, 1))
        for number in range(size.of(3, 1)):
            say(f"infra: round {number + 1}")
            cache = Path(folder) / f"cache-{number}"
            cold.append(seconds(lambda cache=cache: job(checkout, cache)))
            warm.append(seconds(lambda cache=cache: job(checkout, cache)))
    note = "prod, one edit; the provider is there, nothing else is kept from an earlier run"
    return [
        alone("infrastructure, a pull request's job", "s", cold, Target(90, "lower", "figure"), note),
        alone("infrastructure, the same job again", "s", warm),
    ]


def job(checkout: Path, cache: Path) -> None:
    """Every step must do its work: a refusal that is quick is no figure."""
    environ = os.environ | {"XDG_CACHE_HOME": str(cache)}
    for step in STEPS:
        command = [str(Path(sys.executable).with_name("ai-infra")), "infra", step[0], "--env", ENVIRONMENT, *step[1:]]
        done = subprocess.run(command, cwd=checkout, env=environ, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"infra {step[0]}: exit {done.returncode}: {done.stderr.strip()[-500:] or done.stdout.strip()[-500:]}")
