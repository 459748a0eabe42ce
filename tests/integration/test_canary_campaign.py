"""The canary campaign in small: a good version, failing and wrong ones, and too little traffic, on real processes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import canary_page
from benchmarks.canary import SCENARIOS, campaign, summary
from tests.peers import ROOT

SMALL: dict[str, dict[str, Any]] = {
    "same-calm": {"golden": {"dataset": "golden@1", "limit": 2000, "atOnce": 500}, "margins": {"quality": 0.03, "errors": 0.04}},
    "errors+5pp": {"golden": None, "compares": ["errors"]},
    "accuracy-5pp": {},
    "too-little-traffic": {"maxStepS": 1.0},
}


def test_verdicts_on_real_servers_recompute_from_sealed_records() -> None:
    chosen = [replace(s, rounds=1, spec=s.spec | SMALL[s.name]) for s in SCENARIOS if s.name in SMALL]
    results: dict[str, list[dict[str, Any]]] = {}
    campaign(chosen, results, lambda: None)
    states = {name: found[0]["state"] for name, found in results.items()}
    assert states["same-calm"] != "rolled_back"
    assert (states["errors+5pp"], states["accuracy-5pp"]) == ("rolled_back", "rolled_back")
    assert states["too-little-traffic"] == "undecided"
    assert all(found[0]["recomputed"] for found in results.values())
    assert summary(chosen, results)["recomputed"]


def test_the_page_of_the_campaigns_is_what_their_rollouts_give(tmp_path: Path) -> None:
    campaigns = json.loads((ROOT / "docs" / canary_page.DATA_FILE).read_text())
    assert sum(len(found) for campaign in campaigns.values() for found in campaign["results"].values()) > 200
    for found in campaigns.values():
        known = [scenario for scenario in SCENARIOS if scenario.name in found["results"]]
        assert found["summary"] == json.loads(json.dumps(summary(known, found["results"])))
    canary_page.write(tmp_path, campaigns)
    for name in (canary_page.PAGE_FILE, canary_page.PLOT_FILE, canary_page.DATA_FILE):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()
