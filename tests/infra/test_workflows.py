"""The workflows: what they may do, and the preview job's own commands, run in a clone as a runner would run them.

Left out, by name: steps that use an action (GitHub's API, artifacts, installing tools) and `Set up`, which makes the environment
that these tests already run in.
"""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.peers import need

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LEFT_OUT = {"Set up"}
OUTSIDE = re.compile(r"\$\{\{\s*(github\.(event|head_ref|ref_name)|inputs\.|steps\.|needs\.|matrix\.)")


def _workflow(name: str) -> dict[str, Any]:
    # BaseLoader: YAML 1.1 takes the key `on` for a truth value.
    found: dict[str, Any] = yaml.load((ROOT / ".github" / "workflows" / name).read_text(), Loader=yaml.BaseLoader)
    return found


def _steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_every_action_is_pinned_by_commit_and_says_its_version(file: Path) -> None:
    used = re.findall(r"uses: (.*)", file.read_text())
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+(;.*)?", line)] == []


def test_an_action_has_one_pin_in_all_workflows() -> None:
    used = {line for file in WORKFLOWS for line in re.findall(r"uses: (\S+)", file.read_text())}
    assert len(used) == len({line.split("@")[0] for line in used})


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_no_command_has_an_expression_put_into_its_text(file: Path) -> None:
    assert [step["run"] for step in _steps(_workflow(file.name)) if "${{" in step.get("run", "")] == []
    scripts = [step["with"]["script"] for step in _steps(_workflow(file.name)) if "script" in step.get("with", {})]
    assert [script for script in scripts if OUTSIDE.search(script)] == []


def test_permissions_are_declared_and_only_as_wide_as_needed() -> None:
    declared = {
        file.name: {
            name: job.get("permissions", _workflow(file.name)["permissions"]) for name, job in _workflow(file.name)["jobs"].items()
        }
        for file in WORKFLOWS
    }
    assert declared == {
        "ci.yml": {"all": {"contents": "read"}},
        "deploy.yml": {
            "plan": {"contents": "read", "deployments": "read"},
            "up": {"contents": "read", "id-token": "write"},
        },
        "preview.yml": {"judge": {"contents": "read"}, "comment": {"pull-requests": "write"}},
    }


def test_preview_has_no_secrets_no_credentials_and_no_privileged_trigger() -> None:
    text = (ROOT / ".github" / "workflows" / "preview.yml").read_text()
    assert "secrets." not in text
    assert "aws-actions/" not in text
    assert set(_workflow("preview.yml")["on"]) == {"pull_request"}


def test_job_that_may_write_runs_nothing_of_the_pull_request() -> None:
    comment = _workflow("preview.yml")["jobs"]["comment"]
    assert [step["uses"].split("@")[0] for step in comment["steps"]] == ["actions/download-artifact", "actions/github-script"]
    assert "github.event.pull_request.head.repo.full_name == github.repository" in comment["if"]


def test_deployment_is_approved_after_its_plan_and_one_at_a_time() -> None:
    deploy = _workflow("deploy.yml")
    up = deploy["jobs"]["up"]
    assert up["needs"] == "plan"
    assert up["environment"] in deploy["concurrency"]["group"]
    assert deploy["concurrency"]["cancel-in-progress"] == "false"
    assert "environment" not in deploy["jobs"]["plan"]


def test_checkout_keeps_no_token() -> None:
    checkouts = [step for file in WORKFLOWS for step in _steps(_workflow(file.name)) if "actions/checkout@" in step.get("uses", "")]
    assert [step for step in checkouts if step["with"]["persist-credentials"] != "false"] == []


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed tree with the environments of this one."""
    folder = tmp_path_factory.mktemp("runner") / "clone"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, folder], check=True)
    for name in (".venv", ".venv-checkov"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.timeout(900)
def test_commands_of_the_preview_pass_in_a_clone(clone: Path, tmp_path: Path) -> None:
    need("terraform")
    need("checkov")
    job = _workflow("preview.yml")["jobs"]["judge"]
    summary = tmp_path / "summary.md"
    given = {name: value for name, value in job["env"].items() if "${{" not in value}
    # The editable install points at ROOT; the clone's own modules come first.
    runner = os.environ | given | {"ENVIRONMENT": "dev", "GITHUB_STEP_SUMMARY": str(summary), "PYTHONPATH": str(clone)}
    commands = [step for step in job["steps"] if "run" in step and step["name"] not in LEFT_OUT]
    assert [step["name"] for step in commands] == ["Render", "Plan", "Difference", "Check", "Show"]
    for step in commands:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=clone,
            env=runner,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{step['name']}: {done.stdout}{done.stderr}"
    assert "dev" in summary.read_text()


@pytest.mark.parametrize("environment", ["dev", "staging", "prod"])
def test_make_up_runs_the_layers_that_have_a_configuration_in_their_order(environment: str) -> None:
    done = subprocess.run(["make", "-n", "up", f"ENV={environment}"], cwd=ROOT, capture_output=True, text=True, check=True)
    layers = [layer for layer in ("ground", "platform", "apps") if _configuration(environment, layer).exists()]
    assert re.findall(r"pulumi up --stack (\S+) --config-file (\S+)", done.stdout) == [
        (f"{environment}-{layer}", str(_configuration(environment, layer).relative_to(ROOT))) for layer in layers
    ]


def test_make_up_runs_the_layers_that_are_named() -> None:
    done = subprocess.run(["make", "-n", "up", "ENV=dev", "LAYERS=platform"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.findall(r"pulumi up --stack (\S+)", done.stdout) == ["dev-platform"]


def test_deployment_makes_what_its_runner_reaches_and_by_itself_the_ground() -> None:
    steps = [step for step in _workflow("deploy.yml")["jobs"]["up"]["steps"] if "make " in step.get("run", "")]
    commands = [(step["run"], step["env"]["REACHED"]) for step in steps if step["name"] not in LEFT_OUT]
    assert len(commands) == 2
    assert all('LAYERS="$REACHED"' in run and given == "${{ vars.LAYERS || 'ground' }}" for run, given in commands)


def test_make_up_without_pulumi_names_the_remedy(tmp_path: Path) -> None:
    for tool in ("make", "sh", "env"):
        (tmp_path / tool).symlink_to(Path("/usr/bin") / tool)
    command = [tmp_path / "make", "-o", ".venv/.dev", "PYTHON=true", "up", "ENV=dev"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "install Pulumi" in done.stderr


def test_make_names_the_remedy_for_an_environment_that_is_none() -> None:
    done = subprocess.run(
        ["make", "-o", ".venv/.dev", "preview", "ENV=production"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ENV=dev, staging or prod" in done.stderr


def _configuration(environment: str, layer: str) -> Path:
    return ROOT / "stacks" / environment / f"Pulumi.{environment}-{layer}.yaml"
