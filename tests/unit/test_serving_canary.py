"""The sequential test of a rollout: its arithmetic, its bound on false alarms, and its recomputation."""

import importlib.util
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.serving import canary

REFERENCE_SCRIPT = Path(__file__).resolve().parents[3] / "shared" / "canary_sim.py"
MEASURES = ("errors", "latency", "quality")
MARGINS = {"errors": 0.02, "latency": 0.05, "quality": 0.05}

cells = st.lists(
    st.tuples(st.sampled_from([0.1, 0.5]), st.integers(0, 6), st.integers(0, 60), st.integers(0, 60)), min_size=1, max_size=14
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The simulation that the method was measured with."""
    if not REFERENCE_SCRIPT.exists():
        pytest.skip("canary_sim.py is not beside the repository")
    pytest.importorskip("scipy", reason="canary_sim.py needs scipy")
    spec = importlib.util.spec_from_file_location("canary_sim", REFERENCE_SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def latencies(rng: random.Random, n: int, factor: float = 1.0) -> list[float]:
    """Microseconds, log-normal with a heavy tail, as a model server's are."""
    return [factor * 20_000 * math.exp(rng.gauss(0, 0.5)) * (rng.uniform(5, 20) if rng.random() < 0.02 else 1) for _ in range(n)]


def rule_of(reference: list[float], measures: tuple[str, ...] = MEASURES, labelled: bool = True) -> canary.Rule:
    edges = canary.latency_edges(reference)
    return canary.Rule(
        measures=measures,
        alpha=0.01,
        margins=MARGINS,
        edges=tuple(edges),
        ratios=tuple(tuple(row) for row in canary.latency_ratios(edges, reference)),
        dispersion=1.0,
        tolerance=1.0,
        labelled=labelled,
    )


class Traffic:
    """Requests of both arms, counted as the router counts them. failing, slower: of the canary, against stable."""

    def __init__(
        self, rng: random.Random, rule: canary.Rule, failing: tuple[float, float] = (0.01, 0.01), slower: float = 1
    ) -> None:
        self.rng, self.rule, self.failing, self.slower = rng, rule, failing, slower
        self.cells: dict[float, list[list[int]]] = {}
        self.totals: dict[float, list[int]] = {}

    def send(self, weight: float, n: int) -> None:
        table = self.cells.setdefault(weight, [[0, 0] for _ in range(8)])
        total = self.totals.setdefault(weight, [0, 0])
        for _ in range(n):
            chosen = self.rng.random() < weight
            arm = 0 if chosen else 1
            total[0] += 1
            total[1] += chosen
            if self.rng.random() < self.failing[1 - arm]:
                table[7][arm] += 1
                continue
            latency = latencies(self.rng, 1, self.slower if chosen else 1)[0]
            table[canary.latency_bin(self.rule.edges, latency)][arm] += 1

    def counts(self, pairs: tuple[tuple[str, int, int, int], ...] = ()) -> canary.Counts:
        phases = tuple(
            canary.Phase(w, *self.totals[w], (rows[7][0], rows[7][1]), tuple((a, b) for a, b in rows[:7]))
            for w, rows in sorted(self.cells.items())
        )
        return canary.Counts(phases, pairs)


@given(cells)
@settings(max_examples=60)
def test_counts_give_the_same_e_value_as_the_script(script: ModuleType, table: list[canary.Cell]) -> None:
    ratios = [[0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0], [2.0] * 7]
    assert canary.harm_log_e(table, ratios) == pytest.approx(script.harm_log_e(table, ratios), abs=1e-9)


@given(st.lists(st.floats(1e3, 1e6), min_size=60, max_size=200))
@settings(max_examples=30)
def test_edges_and_ratios_are_those_of_the_script(script: ModuleType, reference: list[float]) -> None:
    edges, ratios = script.latency_ratios(script.np.array(reference))
    ours = canary.latency_edges(reference)
    assert ours == pytest.approx(list(edges))
    assert canary.latency_ratios(list(edges), reference) == [pytest.approx(list(row)) for row in ratios]


@given(st.integers(1, 400), st.data())
@settings(max_examples=60)
def test_clearing_agrees_with_the_script(script: ModuleType, n: int, data: st.DataObject) -> None:
    a = data.draw(st.integers(0, n))
    b = data.draw(st.integers(0, n - a))
    assert canary.clear_log_e([(0.1, n, a, b)], 0.02) == pytest.approx(script.clear_log_e([(0.1, n, a, b)], 0.02), abs=1e-9)
    assert canary.clear_pairs_log_e(n, a, b, 0.05) == pytest.approx(script.clear_pairs_log_e(n, a, b, 0.05), abs=1e-9)


def test_dispersion_agrees_with_the_script(script: ModuleType) -> None:
    blocks = [(12, 3), (13, 12), (0, 0), (11, 5)]
    assert canary.dispersion(blocks) == pytest.approx(script.dispersion(blocks, 0.5))


@given(cells)
@settings(max_examples=60)
def test_order_of_events_does_not_matter(table: list[canary.Cell]) -> None:
    """Counts suffice: the running product over single events is the value from the cell counts."""
    ratios = [[0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0], [3.0] * 7]
    events = [(w, j, arm) for w, j, a, b in table for arm in [1] * a + [0] * b]
    random.Random(1).shuffle(events)
    running = [0.0, 0.0]
    for w, j, arm in events:
        for h, r in enumerate(ratios):
            running[h] += (math.log(r[j]) if arm else 0.0) - math.log(1 - w + w * r[j])
    assert canary.harm_log_e(table, ratios) == pytest.approx(canary.log_mean_exp(running), abs=1e-7)


def test_a_canary_that_is_no_different_is_rarely_rolled_back() -> None:
    """120 rollouts, peeked at after every 25 requests. At alpha 0.01 more than 6 alarms have a probability under 1 in 10,000."""
    rng, alarms = random.Random(7), 0
    for _ in range(120):
        rule = rule_of(latencies(rng, 500), ("errors", "latency"))
        traffic, alarm = Traffic(rng, rule), False
        for step in range(24):
            traffic.send(0.1 if step < 10 else 0.5, 25)
            alarm = alarm or canary.judge(rule, traffic.counts()).rollback
        alarms += alarm
    assert alarms <= 6


@pytest.mark.parametrize(
    ("failing", "slower", "cause"),
    [((0.01, 0.3), 1.0, "errors"), ((0.01, 0.01), 3.0, "latency")],
    ids=["canary fails", "canary is slow"],
)
def test_a_worse_canary_is_rolled_back_within_300_requests(failing: tuple[float, float], slower: float, cause: str) -> None:
    rng = random.Random(3)
    rule = rule_of(latencies(rng, 500))
    traffic = Traffic(rng, rule, failing, slower)
    traffic.send(0.5, 300)
    verdict = canary.judge(rule, traffic.counts())
    assert (verdict.rollback, verdict.cleared, verdict.cause) == (True, False, cause)


def test_wrong_answers_are_found_in_few_pairs() -> None:
    rule = rule_of(latencies(random.Random(1), 500))
    verdict = canary.judge(rule, canary.Counts(pairs=(("3", 10, 10, 0), ("8", 10, 9, 0))))
    assert (verdict.rollback, verdict.cause) == (True, "quality")


def test_one_broken_class_is_found_although_the_others_improve() -> None:
    rule = rule_of(latencies(random.Random(1), 500))
    others = tuple((str(digit), 60, 0, 3) for digit in range(1, 10))
    assert canary.judge(rule, canary.Counts(pairs=(("0", 60, 25, 0), *others))).rollback


def test_a_good_canary_is_cleared_by_every_measure() -> None:
    rng = random.Random(11)
    rule = rule_of(latencies(rng, 500))
    traffic = Traffic(rng, rule, (0.0, 0.0))
    traffic.send(0.1, 200)
    traffic.send(0.5, 2500)
    pairs = tuple((str(digit), 36, 0, 0) for digit in range(10))
    verdict = canary.judge(rule, traffic.counts(pairs))
    assert (verdict.rollback, verdict.cleared) == (False, True)


def test_latency_that_comes_in_spells_takes_longer_to_clear_and_to_roll_back() -> None:
    rng = random.Random(5)
    calm = rule_of(latencies(rng, 800))
    spells = replace(calm, dispersion=4.0)
    traffic = Traffic(rng, calm)
    traffic.send(0.5, 600)
    one, four = canary.judge(calm, traffic.counts()), canary.judge(spells, traffic.counts())
    assert four.log_clear["latency"] == pytest.approx(one.log_clear["latency"] / 4)
    assert four.log_e["latency"] == pytest.approx(one.log_e["latency"] / 4)
    assert (four.log_clear["errors"], four.log_e["errors"]) == (one.log_clear["errors"], one.log_e["errors"])


def test_nothing_seen_is_undecided() -> None:
    verdict = canary.judge(rule_of(latencies(random.Random(1), 500)), canary.Counts())
    assert (verdict.rollback, verdict.cleared) == (False, False)


def test_full_traffic_teaches_nothing() -> None:
    rng = random.Random(5)
    rule = rule_of(latencies(rng, 500))
    traffic = Traffic(rng, rule, (0.0, 0.9), 10.0)
    traffic.send(1.0, 500)
    verdict = canary.judge(rule, traffic.counts())
    assert verdict.log_e["errors"] == pytest.approx(0.0)
    assert verdict.log_e["latency"] == pytest.approx(0.0)
    assert not verdict.cleared


def test_without_labels_disagreement_clears_but_never_rolls_back() -> None:
    rule = rule_of(latencies(random.Random(1), 500), ("quality",), labelled=False)
    assert canary.judge(rule, canary.Counts(mirrored=(300, 2))).cleared
    verdict = canary.judge(rule, canary.Counts(mirrored=(300, 300)))
    assert (verdict.rollback, verdict.cleared) == (False, False)


def test_mirrored_pairs_find_a_difference_that_the_coin_cannot() -> None:
    rng = random.Random(6)
    rule = replace(rule_of(latencies(rng, 500), ("errors",)), mirrored=True)
    pairs = [(rng.random() < 0.015, rng.random() < 0.005) for _ in range(10_000)]
    against, favour = sum(c and not s for c, s in pairs), sum(s and not c for c, s in pairs)
    assert canary.judge(rule, canary.Counts(mirrored_errors=(against, favour))).rollback
    assert not canary.judge(rule, canary.Counts(mirrored_errors=(favour, against))).rollback
    assert not canary.judge(replace(rule, mirrored=False), canary.Counts(mirrored_errors=(against, favour))).rollback
    assert canary.Rule.from_json(rule.to_json()) == rule


def test_a_server_that_is_slow_by_spells_raises_the_dispersion() -> None:
    rng = random.Random(2)
    calm = [(value, rng.randrange(2)) for value in latencies(rng, 1000)]
    spells = [(value * (4 if replica and (i // 50) % 3 == 0 else 1), replica) for i, (value, replica) in enumerate(calm)]
    assert canary.dispersion(canary.slow_blocks(calm)) < 2
    assert canary.dispersion(canary.slow_blocks(spells)) > 4


def test_a_third_party_recomputes_the_verdict_from_the_event() -> None:
    rng = random.Random(3)
    rule = rule_of(latencies(rng, 500))
    traffic = Traffic(rng, rule, (0.0, 0.2))
    traffic.send(0.5, 200)
    counts = traffic.counts((("1", 5, 1, 0),))
    event = {"rule": rule.to_json(), "counts": counts.to_json(), "verdict": canary.judge(rule, counts).to_json()}
    read = json.loads(json.dumps(event))
    assert canary.explain(read) == {"verdict": event["verdict"], "recorded": event["verdict"], "agrees": True}
    read["counts"]["phases"][0]["errors"] = [0, 0]
    assert not canary.explain(read)["agrees"]
