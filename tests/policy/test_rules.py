"""The Rego modules: OPA's own judgement on them, their metadata, and the table of actions."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from services.core import rego
from services.sentinelnet.domain import describe
from services.sentinelnet.page import page
from tests.peers import need
from tests.sentinelnet import BUNDLE, POLICIES

ROOT = Path(__file__).parent.parent.parent
MODULES = sorted(path.relative_to(POLICIES) for path in POLICIES.rglob("*.rego") if not path.name.endswith("_test.rego"))
RULES = [path for path in MODULES if len(path.parts) == 3]


def _opa(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [need("opa"), *arguments, str(POLICIES)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_rego_tests_pass_and_cover_every_line_of_the_rules() -> None:
    assert _opa("test").returncode == 0
    report: dict[str, Any] = json.loads(_opa("test", "--coverage", "--format", "json").stdout)
    files = {path: found for path, found in report["files"].items() if not path.endswith("_test.rego")}
    assert len(files) == len(MODULES)
    assert {path: found["not_covered"] for path, found in files.items() if found.get("not_covered")} == {}


def test_modules_are_strict_and_formatted() -> None:
    checked, formatted = _opa("check", "--strict"), _opa("fmt", "--list")
    assert (checked.returncode, checked.stderr) == (0, "")
    assert (formatted.returncode, formatted.stdout) == (0, "")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_package_follows_the_path(path: Path) -> None:
    package = re.search(r"^package (\S+)$", (POLICIES / path).read_text(), re.MULTILINE)
    folder = ".".join(path.parts[:-1])
    assert package is not None
    assert package.group(1) == (f"sentinelnet.{folder}" if folder else "sentinelnet")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_module_has_its_test_beside_it(path: Path) -> None:
    assert (POLICIES / path).with_name(f"{path.stem}_test.rego").exists()


@pytest.mark.parametrize("rule", sorted({rule for rules in BUNDLE.actions.values() for rule in rules}))
def test_rule_names_its_owner_and_a_runbook_that_exists(rule: str) -> None:
    found = describe(BUNDLE, rule)
    assert found["title"]
    assert found["description"]
    assert found["owner"]
    page = (ROOT / found["runbook"]).read_text()
    assert [part for part in ("Symptom", "Check", "Act", "Verify", "Undo") if f"**{part}.**" not in page] == []


def test_every_rule_belongs_to_an_action_and_every_action_names_rules() -> None:
    named = {rule.replace("-", "_").replace(".", "/") for rules in BUNDLE.actions.values() for rule in rules}
    assert named == {"/".join(path.parts[:2]) for path in RULES}


@pytest.mark.parametrize("path", RULES, ids=str)
def test_rule_denies_by_default(path: Path) -> None:
    assert re.search(r'^default report := \{"rule": "[a-z.-]+", "verdict": "deny", ', (POLICIES / path).read_text(), re.MULTILINE)


def test_our_bundle_fulfils_what_we_ask_of_bundles() -> None:
    rego.check_bundle(BUNDLE)


DOCS = ROOT / "docs" / "policies.md"


def test_page_about_the_rules_is_up_to_date() -> None:
    assert DOCS.read_text() == page(BUNDLE), "run `ai-infra policy docs policies/rego -o docs/policies.md`"


@pytest.mark.parametrize("rule", sorted({rule for rules in BUNDLE.actions.values() for rule in rules}))
def test_rule_says_what_it_reads_its_limits_and_its_worst_verdict(rule: str) -> None:
    found = describe(BUNDLE, rule)
    folder = rule.replace(".", "/").replace("-", "_")
    text = BUNDLE.modules[f"{folder}/{folder.rsplit('/', 1)[-1]}.rego"]
    code = text[text.index("\npackage ") :]
    shared = [("lib.flags", "flags"), ("lib.datasets", "datasets"), ("lib.happened", "now"), ("cloud.valid", "now")]
    shared += [("cloud.excepted", path) for path in ("exceptions", "now")]
    shared += [("cloud.store_name", path) for path in ("account", "environment")]
    whole = ("environment", "layer", "resources", "statements")
    shared += [(call, path) for call in ("cloud.report", "cloud.each") for path in whole]
    cluster = ("environment", "layer", "pods", "policies", "pools", "releases", "services")
    shared += [("workloads.report", path) for path in cluster]
    read = set(re.findall(r"\binput\.(\w+)", code)) | set(re.findall(r'object\.get\(input, \[?"(\w+)"', code))
    read |= {name for call, name in shared if call in code}
    assert {path.split(".")[0] for path in found["reads"]} == read
    limits = set(re.findall(r"data\.((?:limits|authz)\.\w+)", code))
    assert set(found["limits"]) == limits | ({"limits.clock_skew_s"} if "lib.happened" in code else set())
    assert found["severity"] == ("quarantine" if '"quarantine"' in code.replace('serving.quarantine"', "") else "deny")
