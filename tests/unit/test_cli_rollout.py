"""What `ai-infra rollout` tells people, of records as the service keeps them."""

from pathlib import Path

import pytest

from services.commands.common import moment
from services.commands.rollout_text import JUDGED, LISTED, bounds, judged, lines, row
from services.commands.serving import traffic
from services.serving.canary import Counts, Rule, Verdict
from services.serving.rollouts import Rollouts
from tests.fakes.serving import ListedProbes
from tests.unit.test_serving_service import ACTOR, PROBES, Bench, phase, spec


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def listed(bench: Bench, rollout: str) -> dict[str, str]:
    return dict(zip(LISTED, row(bench.rollouts.get(rollout), numbers(bench)), strict=True))


def told(bench: Bench, rollout: str) -> list[str]:
    return [line.strip() for line in lines(bench.rollouts.get(rollout), numbers(bench))]


def numbers(bench: Bench) -> dict[str, int]:
    return {item["id"]: item["number"] for item in bench.serving.all()}


def verdict_of(bench: Bench, rollout: str) -> tuple[Rule, list[dict[str, str]]]:
    found = bench.rollouts.explain(rollout)
    rule = Rule.from_json(found["rule"])
    rows = judged(rule, Counts.from_json(found["counts"]), Verdict.from_json(found["verdict"]))
    return rule, [dict(zip(JUDGED, cells, strict=True)) for cells in rows]


def test_a_rollout_without_traffic_says_that_it_waits_for_it_and_how_long(bench: Bench) -> None:
    rollout = bench.running(maxStepS=60)
    assert listed(bench, rollout) == {
        "id": rollout, "versions": "digits@1 → digits@2", "environment": "staging", "state": "running",
        "traffic": "10%, step 1 of 3", "requests in this step": "0 of 100", "since (UTC)": "2023-11-14 22:13:20",
    }  # fmt: skip
    assert told(bench, rollout) == [
        f"{rollout}  digits@1 → digits@2 in staging",
        "running since 2023-11-14 22:13:20 UTC: 10% of the traffic to the new version (step 1 of 3)",
        "requests in this step: 0; it needs 100, and sees 5,000 at most",
        "it waits for traffic to digits in staging; the new version's first 20 answers do not count",
        "undecided if this step still lasts at 2023-11-14 22:14:20 UTC",
    ]


def test_requests_are_told_as_of_the_last_look_and_only_of_the_present_step(bench: Bench) -> None:
    rollout = bench.running()
    bench.backend.seen = Counts((phase(0.1, 60),))
    bench.rollouts.advance(rollout)
    assert listed(bench, rollout)["requests in this step"] == "60 of 100"
    bench.rollouts = Rollouts(bench.serving, ListedProbes(PROBES))
    assert bench.rollouts.get(rollout)["requests"] is None
    bench.rollouts.advance(rollout)
    assert bench.rollouts.get(rollout)["requests"] == 60
    bench.backend.seen = Counts((phase(0.1, 150),))
    bench.rollouts.advance(rollout)
    assert (listed(bench, rollout)["traffic"], bench.rollouts.get(rollout)["requests"]) == ("50%, step 2 of 3", None)
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 130)))
    bench.rollouts.advance(rollout)
    assert listed(bench, rollout)["requests in this step"] == "130 of 100"
    assert not any("waits for traffic" in line for line in told(bench, rollout))


def test_deployments_show_which_share_of_the_traffic_each_has(bench: Bench) -> None:
    rollout = bench.running()
    found = bench.rollouts.get(rollout)

    def shares() -> dict[str, str]:
        return traffic(bench.serving.all(), bench.rollouts.all())

    assert shares() == {found["stable"]: "90%", found["canary"]: "10%"}
    bench.rollouts.abort(rollout, "wrong version", ACTOR)
    assert shares() == {found["stable"]: "100%", found["canary"]: ""}


def test_before_traffic_is_split_a_rollout_says_what_it_waits_for(bench: Bench) -> None:
    bench.deploy()
    rollout = bench.rollouts.start(spec(), ACTOR)["id"]
    assert (listed(bench, rollout)["state"], listed(bench, rollout)["requests in this step"]) == ("starting", "")
    bench.rollouts.advance(rollout)
    assert told(bench, rollout)[-1] == "it waits for 500 requests to the present version, 5 s at most"


def test_a_rolled_back_rollout_shows_the_measure_that_spoke_against_it_and_the_bounds(bench: Bench) -> None:
    rollout = bench.running()
    bench.backend.seen = Counts((phase(0.1, 200, errors=(12, 2)),))
    bench.rollouts.advance(rollout)
    assert listed(bench, rollout)["traffic"] == "0%"
    assert told(bench, rollout)[-1] == "log E: evidence against the new version, 0 is none; from 4.6 on it is rolled back"
    rule, (errors, latency, quality, together) = verdict_of(bench, rollout)
    assert (errors["stable"], errors["canary"]) == ("2 of 180 (1.11%)", "12 of 20 (60.00%)")
    assert (errors["counted"], errors["margin"], errors["verdict"]) == ("failed requests", "2 points", "speaks against it")
    assert float(errors["log E"]) > float(together["log E"]) > 4.6
    assert (latency["stable"], latency["canary"]) == ("9 of 180 (5.00%)", "1 of 20 (5.00%)")
    limit = rule.edges[4] / 1000
    assert latency["counted"] == f"over {limit:.3g} ms (new: {limit * 1.25:.3g})"
    assert (quality["stable"], quality["canary"]) == ("0 of 48 (0.00%)",) * 2
    assert (together["measure"], together["verdict"]) == ("all: mean of E", "roll back")
    assert "the mean reaches 4.6" in bounds(rule)
    assert "cleared from 3.0 on" in bounds(rule)


def test_a_completed_rollout_shows_every_measure_cleared(bench: Bench) -> None:
    rollout = bench.running()
    bench.backend.seen = Counts((phase(0.1, 150),))
    bench.rollouts.advance(rollout)
    bench.backend.seen = Counts((phase(0.1, 150), phase(0.5, 1500)))
    for _ in range(5):
        bench.rollouts.advance(rollout)
    _, rows = verdict_of(bench, rollout)
    assert [cells["verdict"] for cells in rows] == ["cleared"] * 4
    assert told(bench, rollout)[1:] == [
        f"completed since {moment(bench.now)} UTC: 100% of the traffic to the new version", "cleared by every measure",
    ]  # fmt: skip


def test_without_labels_disagreement_is_counted_and_has_no_say_against(bench: Bench) -> None:
    rollout = bench.running(golden=None, mirror=0.5)
    bench.backend.seen = Counts((phase(0.1, 200, errors=(12, 2)),), mirrored=(90, 4))
    bench.rollouts.advance(rollout)
    _, rows = verdict_of(bench, rollout)
    assert (rows[2]["counted"], rows[2]["stable"], rows[2]["canary"], rows[2]["log E"]) == (
        "mirrored requests with another label", "-", "4 of 90 (4.44%)", "-",
    )  # fmt: skip
