"""infra/bootstrap: Terraform's own judges. `terraform test` plans on a mocked provider: no account, no network."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.render import ENVIRONMENTS, config_file
from infra.terraform import PROVIDER, find_mirror
from tests.peers import need

ROOT = Path(__file__).parent.parent.parent
BOOTSTRAP = ROOT / "infra" / "bootstrap"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What Terraform runs in, after init: its data outside the checkout, nothing of the user's settings."""
    need("terraform")
    data = tmp_path_factory.mktemp("bootstrap")
    given = {"PATH": os.environ["PATH"], "HOME": str(data), "TF_DATA_DIR": str(data / "data"), "CHECKPOINT_DISABLE": "1"}
    mirror = find_mirror()
    plugins = [f"-plugin-dir={mirror}"] if mirror else []
    done = _terraform(given, "init", "-backend=false", "-input=false", "-lockfile=readonly", *plugins)
    assert done.returncode == 0, done.stderr
    return given


def _terraform(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["terraform", *arguments], cwd=BOOTSTRAP, env=environment, capture_output=True, text=True, check=False)


def test_files_are_formatted() -> None:
    need("terraform")
    done = _terraform(os.environ | {"TF_CLI_CONFIG_FILE": os.devnull}, "fmt", "-check", "-diff", "-recursive")
    assert (done.returncode, done.stdout) == (0, "")


def test_provider_finds_the_program_valid(environment: Mapping[str, str]) -> None:
    done = _terraform(environment, "validate", "-json")
    assert json.loads(done.stdout)["diagnostics"] == []


def test_own_tests_pass(environment: Mapping[str, str]) -> None:
    done = _terraform(environment, "test", "-json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    faults = [line["diagnostic"] for line in told if line["type"] == "diagnostic"]
    summary = next(line["test_summary"] for line in told if line["type"] == "test_summary")
    assert (faults, summary["failed"], summary["errored"], summary["skipped"]) == ([], 0, 0, 0)
    assert summary["passed"] == sum(len(re.findall(r"^run ", file.read_text(), re.M)) for file in BOOTSTRAP.glob("tests/*"))


def test_each_limit_has_a_value_beyond_it() -> None:
    limited = re.findall(r'^variable "(\w+)" \{.*?\n\}', _text("variables.tf"), re.M | re.S)
    tested = re.findall(r"expect_failures = \[var\.(\w+)\]", _text("tests/limits.tftest.hcl"))
    checks = _text("variables.tf").count("validation {")
    assert set(tested) == set(limited)
    assert len(tested) >= checks


def test_provider_is_the_one_that_judges_the_pulumi_program() -> None:
    assert re.findall(r'version = "([\d.]+)"', _text("versions.tf")) == [PROVIDER]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_who_deploys_by_hand_or_in_ci_makes_keys_and_who_may_end_them_reads_the_state(environment: str) -> None:
    """KMS makes no key for somebody who could not change it; Pulumi destroys nothing without the state."""
    stack: dict[str, Any] = yaml.safe_load((ROOT / config_file(environment)).read_text())["config"]["ai-infra:stack"]
    name = re.search(r'resource "aws_iam_role" "deploy" \{.*?name += "(.*?)"', _text("ci.tf"), re.S)
    assert name is not None
    deploys = f"arn:aws:iam::{stack['account']}:role/{name.group(1).replace('${each.key}', environment)}"
    operators = {arn.replace("111122223333", stack["account"]) for arn in _operators()}
    keys = stack["ground"]["keys"]
    assert {*keys["admin_role_arns"], keys["break_glass_role_arn"]} == {deploys, *operators}
    assert keys["break_glass_role_arn"] in operators


def _operators() -> set[str]:
    """As the deployment guide says."""
    (line,) = re.findall(r"^operator_role_arns = \[(.*?)\]", (ROOT / "deployment.md").read_text(encoding="utf-8"), re.M | re.S)
    return set(re.findall(r'"(.*?)"', line))


def _text(name: str) -> str:
    return (BOOTSTRAP / name).read_text(encoding="utf-8")
