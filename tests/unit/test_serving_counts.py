"""The coin of a request, and the counts that a rollout is judged by."""

import random

from scipy.stats import binomtest, kstest

from services.serving.canary import Counts
from services.serving.router.counts import ERROR, OK, TIMEOUT, UNAVAILABLE, RolloutCounter, coin

SEED = "11" * 32
EDGES = [100.0, 200.0, 300.0, 400.0, 500.0, 600.0]


def test_the_coin_is_uniform_and_recomputable() -> None:
    tosses = [coin(SEED, f"prd-{number}") for number in range(4000)]
    assert kstest(tosses, "uniform").pvalue > 1e-4
    assert tosses == [coin(SEED, f"prd-{number}") for number in range(4000)]
    assert coin("22" * 32, "prd-1") != tosses[1]


def test_the_share_of_the_canary_is_its_weight() -> None:
    chosen = sum(coin(SEED, f"prd-{number}") < 0.1 for number in range(5000))
    assert binomtest(chosen, 5000, 0.1).pvalue > 1e-4


def test_nothing_counts_until_the_canary_is_warm() -> None:
    counter = RolloutCounter(EDGES, 1.0, warm_up=2)
    seen = [counter.add(0.5, canary, OK, 150) for canary in (False, True, True, True, False)]
    assert [item["counted"] for item in seen] == [False, False, False, True, True]
    assert counter.counts().phases[0].requests == 2


def test_failures_have_no_latency_but_a_timeout_is_slowest() -> None:
    counter = RolloutCounter(EDGES, 1.0, warm_up=0)
    bins = [counter.add(0.5, True, outcome, 150)["bin"] for outcome in (OK, ERROR, UNAVAILABLE, TIMEOUT)]
    assert bins == [1, None, None, len(EDGES)]
    assert counter.counts().phases[0].errors == (3, 0)


def test_a_canary_slower_within_the_tolerance_falls_into_the_same_bin() -> None:
    counter = RolloutCounter(EDGES, 1.25, warm_up=0)
    assert counter.add(0.5, True, OK, 240)["bin"] == counter.add(0.5, False, OK, 192)["bin"]


def test_without_edges_only_failures_count() -> None:
    counter = RolloutCounter([], 1.0, warm_up=0)
    counter.add(0.5, True, OK, 100)
    phase = counter.counts().phases[0]
    assert (phase.requests, phase.latency) == (1, ((0, 0),))


def test_records_give_the_same_counts_again() -> None:
    rng, counter, again = random.Random(1), RolloutCounter(EDGES, 1.25, 20), RolloutCounter(EDGES, 1.25, 20)
    for number in range(600):
        weight = 0.1 if number < 200 else 0.5
        canary, outcome, latency = rng.random() < weight, rng.choice([OK, OK, OK, ERROR, TIMEOUT]), rng.randrange(50, 700)
        place = {"id": "rol", "weight": weight, "arm": "canary" if canary else "stable"}
        place |= counter.add(weight, canary, outcome, latency)
        again.restore({"outcome": outcome, "rollout": place})
    mirrored = [(OK, OK, False), (OK, ERROR, None), (OK, UNAVAILABLE, None), (TIMEOUT, OK, None), (ERROR, ERROR, None)]
    for stable, canary, agree in [(OK, ERROR, None)] * 20 + mirrored:
        counter.add_mirrored(stable, canary, agree)
        again.restore({"outcome": canary, "rollout": {"id": "rol", "arm": "mirror", "agree": agree, "stable": stable}})
    again.restore({"outcome": OK, "rollout": {"id": "rol", "arm": "probe", "version": "stable", "probes": ["a"], "labels": ["1"]}})
    assert again.counts() == counter.counts()
    assert (again.counts().mirrored, again.counts().mirrored_errors) == ((1, 1), (2, 1))
    assert Counts.from_json(counter.counts().to_json()) == counter.counts()
