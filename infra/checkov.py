"""checkov over plans of Terraform: which of its checks fail on which resources. It decides nothing about skips: see `check`.

checkov lives in an environment of its own, for its requirements do not fit ours. It reads `terraform show -json` of a plan; given
Terraform's own JSON it would run nothing and say nothing, so a run without a single check is an error here.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.errors import AiInfraError, MissingTool

LIMIT_S = 300
PLAN = "tfplan.json"
OFFLINE = {"BC_SKIP_MAPPING": "TRUE", "CKV_SKIP_PACKAGE_UPDATE_CHECK": "TRUE"}
OPTIONS = ("--framework", "terraform_plan", "--output", "json", "--quiet", "--compact", "--skip-download")
REMEDY = "`make checkov` sets it up, or put checkov on PATH"


class CheckovFailed(AiInfraError):
    """It did not judge the plan; the message says what it did instead."""


@dataclass(frozen=True, order=True)
class Failure:
    """check: as CKV_AWS_18; resource: address."""

    check: str
    resource: str
    title: str


def find_checkov(root: Path) -> str:
    """The program: of the environment beside the checkout, else on PATH. Raises MissingTool."""
    beside = root / ".venv-checkov" / "bin" / "checkov"
    found = str(beside) if beside.exists() else shutil.which("checkov")
    if found is None:
        raise MissingTool(f"checkov is not here: {REMEDY}")
    return found


def failures(program: str, plans: Sequence[Mapping[str, Any]]) -> list[Failure]:
    """What fails in any of the plans, each once. A process for each plan, side by side: its summary counts the checks of its own.

    Raises:
        CheckovFailed: it ended with an error, could not read a plan, or ran no check on one of them.
    """
    with ThreadPoolExecutor(max_workers=len(plans)) as pool:
        return sorted({failure for found in pool.map(lambda plan: _judge(program, plan), plans) for failure in found})


def _judge(program: str, plan: Mapping[str, Any]) -> list[Failure]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PLAN).write_text(json.dumps(plan), encoding="utf-8")
        # The folder is its home too: no .checkov.yaml of anybody changes what it runs.
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, **OFFLINE}
        command = [program, "--file", PLAN, *OPTIONS]
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise CheckovFailed(f"checkov took over {LIMIT_S} s") from error
    try:
        return read_report(json.loads(done.stdout))
    except json.JSONDecodeError as error:
        raise CheckovFailed(f"checkov answered no JSON (exit code {done.returncode}): {done.stderr.strip()[-500:]}") from error


def read_report(report: Mapping[str, Any]) -> list[Failure]:
    """The failures in one report. Raises CheckovFailed if no check ran, or the plan was not understood."""
    summary = report.get("summary", report)
    if summary.get("parsing_errors"):
        raise CheckovFailed("checkov could not read the plan: is it `terraform show -json` of one?")
    if not summary.get("passed", 0) + summary.get("failed", 0):
        raise CheckovFailed("checkov ran no check at all: is the plan empty, or `terraform show -json` of none?")
    failed = report["results"]["failed_checks"]
    if len(failed) != summary["failed"]:
        raise CheckovFailed(f"checkov counts {summary['failed']} failures and names {len(failed)}")
    return [Failure(item["check_id"], item["resource_address"] or item["resource"], item["check_name"]) for item in failed]
