"""The canary campaign in small: a good version, failing and wrong ones, and too little traffic, on real processes."""

from dataclasses import replace
from typing import Any

from benchmarks.canary import SCENARIOS, campaign, summary

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
