"""`ai-infra infra`: what people and machines read, and how a refusal is told."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.graph import Graph
from infra.synth import addresses
from services.cli import app
from services.commands.common import Exit
from services.core.bundle import load_bundle
from services.core.errors import BadInput, MissingTool, NotFound
from tests.peers import ROOT, need


def _run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["infra", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_render_shows_a_tree_with_what_is_protected() -> None:
    lines = _run("render", "--env", "dev", "--root", str(ROOT)).splitlines()
    assert "  manifest-1  aws:kms/key:Key  [protected]" in lines
    assert lines[-1].startswith("dev-ground: ")


def test_render_writes_the_graph_that_synth_translates(tmp_path: Path) -> None:
    file = tmp_path / "dev.json"
    assert _run("render", "--env", "dev", "--root", str(ROOT), "-o", str(file)) == ""
    graph = Graph.from_json(json.loads(file.read_text(encoding="utf-8")))
    need("terraform")
    document = json.loads(_run("synth", "--env", "dev", "--root", str(ROOT)))
    made = {f"{kind}.{name}" for kind, found in document["resource"].items() for name in found}
    assert made == set(addresses(graph).values())


def test_plan_counts_what_would_be_added() -> None:
    need("terraform")
    shown = _run("plan", "--env", "dev", "--root", str(ROOT))
    assert "resources to add to an empty account" in shown
    assert "aws_eks_cluster" in shown


def test_plan_of_a_layer_within_the_cluster_says_that_there_is_nothing_of_aws() -> None:
    shown = _run("plan", "--env", "dev", "--layer", "platform", "--root", str(ROOT))
    assert "resources in the cluster, none of AWS, so its provider has nothing to plan" in shown
    assert "`ai-infra infra check --env dev --layer platform` judges them" in shown
    assert json.loads(_run("plan", "--env", "dev", "--layer", "platform", "--root", str(ROOT), "--json")) == {
        "resource_changes": []
    }


def test_cost_is_told_for_machines_too() -> None:
    found = json.loads(_run("cost", "--env", "dev", "--root", str(ROOT), "--json"))
    assert list(found["environments"]) == ["dev"]
    assert {"what": "EKS control plane", "count": 1, "most": 1, "each": 73.0, "usd": 73.0, "usdMost": 73.0} in found[
        "environments"
    ]["dev"]


@pytest.mark.parametrize("command", [[], *([name] for name in ("render", "synth", "plan", "diff", "check", "cost", "graph"))])
def test_help_names_every_exit_code(command: list[str]) -> None:
    shown = " ".join(_run(*command, "--help").split())
    assert {code for code in Exit if f" {code.value} " in shown.partition("Exit codes:")[2]} == set(Exit)


def test_environment_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(NotFound, match=r"Pulumi\.qa-ground\.yaml is not there: --env is one of dev, staging, prod"):
        _run("render", "--env", "qa", "--root", str(ROOT))


def test_check_of_a_layer_in_the_cluster_needs_no_terraform_and_takes_no_base() -> None:
    found = json.loads(_run("check", "--env", "dev", "--layer", "platform", "--root", str(ROOT), "--json"))
    rules, resources = len(load_bundle(ROOT / "policies" / "rego").rules_for("apply")), found["resources"]
    assert found == {"stack": "dev-platform", "base": None, "rules": rules, "resources": resources, "violations": []}
    told = f"{rules} rules over {resources} resources: no violations"
    assert resources > 10
    assert told in _run("check", "--env", "dev", "--layer", "platform", "--root", str(ROOT))
    with pytest.raises(BadInput, match="--base is of the layer ground"):
        _run("check", "--env", "dev", "--layer", "apps", "--base", "main", "--root", str(ROOT))


def test_check_without_checkov_says_so_before_anything_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("components", "infra", "monitoring", "policies", "services", "stacks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("PATH", str(tmp_path))  # which has no Terraform either
    with pytest.raises(MissingTool, match="checkov is not here"):
        _run("check", "--env", "dev", "--root", str(tmp_path))
