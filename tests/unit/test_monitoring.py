"""Alerts and dashboards, judged by promtool: well formed, each alert tested and with a runbook that exists."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.monitoring import FOLDER, GROUPS, OTHERS, PANELS, RULES, metrics_in, of_ours
from tests.peers import ROOT, need

ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
BOARDS = sorted(FOLDER.glob("dashboards/*.json"))


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([need("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_promtool_takes_the_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(FOLDER / "rules.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rules found" in done.stdout + done.stderr


def test_every_alert_fires_on_what_it_is_for_and_not_on_what_is_near() -> None:
    done = promtool("test", "rules", str(FOLDER / "rules.test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_refuses_an_expectation_that_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_bytes((FOLDER / "rules.yaml").read_bytes())
    text = (FOLDER / "rules.test.yaml").read_text()
    (tmp_path / "rules.test.yaml").write_text(text.replace("5% of the answers of api", "6% of the answers of api"))
    assert promtool("test", "rules", str(tmp_path / "rules.test.yaml")).returncode != 0


def test_every_alert_is_tested_to_fire() -> None:
    tests = yaml.safe_load((FOLDER / "rules.test.yaml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert fired == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_where_the_runbook_lies(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert (ROOT / rule["annotations"]["runbook"]).is_file()


def test_promtool_takes_what_the_panels_ask(tmp_path: Path) -> None:
    rules = [{"record": f"panel:number:{number}", "expr": text} for number, text in enumerate(PANELS)]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", "--lint=none", str(tmp_path / "panels.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_one_name_and_no_panel_over_another(path: Path) -> None:
    board = json.loads(path.read_text())
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]]
    assert board["uid"] == f"ai-infra-{path.stem}"
    assert len(set(places)) == len(places) == len({p["id"] for p in board["panels"]}) == len({p["title"] for p in board["panels"]})
    assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in board["panels"])


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("up", {"up"}),
        ('sum by (job, loop) (increase(a_total{job=~"b|c", d!=""}[10m])) > 20', {"a_total"}),
        ("histogram_quantile(0.95, sum without (le) (rate(a_bucket[5m]))) / a:b:c", {"a_bucket", "a:b:c"}),
        ("a and on (job) b unless c", {"a", "b", "c"}),
    ],
)
def test_names_of_series_are_found_in_an_expression(expression: str, names: set[str]) -> None:
    assert metrics_in(expression) == names


def test_series_of_others_are_known_by_their_whole_names() -> None:
    named = {name for text in (*GROUPS, *PANELS) for name in metrics_in(text)}
    assert named >= OTHERS
    assert of_ours("kube_pod_status_unschedulabel")
