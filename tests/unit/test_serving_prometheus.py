"""What predictors export, scraped, becomes a rollout's counts. Prometheus is a stand-in that knows the two queries; promtool, which
is Prometheus' own evaluation, has to give the same."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from starlette.types import Message, Receive, Scope, Send

from services.core.errors import Unavailable
from services.serving import canary
from services.serving.canary import Counts, Phase
from services.serving.inference import Split
from services.serving.predictor.measure import BOUNDS_US, OUTCOMES, SECONDS, Measured
from services.serving.prometheus import Arms, Metrics, buckets_query, outcomes_query
from tests.fakes.prometheus import PrometheusStandIn
from tests.peers import need

T0 = 1_700_000_000
SETTLE_S = 60.0
EDGES = (BOUNDS_US[3], BOUNDS_US[5])
ARMS = Arms(stable="dep-s", canary="dep-c", edges=EDGES, tolerance=1.25)


@pytest.fixture
def prometheus() -> Iterator[PrometheusStandIn]:
    return PrometheusStandIn()


def metrics(prometheus: PrometheusStandIn) -> Metrics:
    return Metrics(prometheus.client(), SETTLE_S)


def outcome(prometheus: PrometheusStandIn, deployment: str, at: int, ok: int, error: int = 0, process: str = "p1") -> None:
    for name, value in (("ok", ok), ("error", error)):
        labels = {"deployment": deployment, "process": process, "outcome": name}
        prometheus.samples.append((OUTCOMES, labels, T0 + at, value))


def latency(prometheus: PrometheusStandIn, deployment: str, at: int, counts: dict[int, int]) -> None:
    """counts: good answers by bucket."""
    for slot, bound in enumerate([*BOUNDS_US, float("inf")]):
        labels = {"deployment": deployment, "process": "p1", "le": str(bound / 1e6)}
        below = sum(count for bucket, count in counts.items() if bucket <= slot)
        prometheus.samples.append((f"{SECONDS}_bucket", labels, T0 + at, below))


def split(*phases: tuple[float, int]) -> Split:
    return Split(rollout="rol-1", phases=tuple((weight, (T0 + at) * 1000) for weight, at in phases))


def test_each_weight_has_its_own_counts_and_the_change_between_them_has_none(prometheus: PrometheusStandIn) -> None:
    outcome(prometheus, "dep-s", -10, 1000)
    outcome(prometheus, "dep-s", 50, 1090), outcome(prometheus, "dep-c", 50, 10)
    outcome(prometheus, "dep-s", 590, 1990, 5), outcome(prometheus, "dep-c", 590, 110, 2)
    outcome(prometheus, "dep-s", 650, 2050, 5), outcome(prometheus, "dep-c", 650, 170, 2)
    outcome(prometheus, "dep-s", 900, 2250, 6), outcome(prometheus, "dep-c", 900, 370, 4)
    found = metrics(prometheus).counts(split((0.1, 0), (0.5, 600)), ARMS, (T0 + 1000) * 1000)
    none = ((0, 0), (0, 0), (0, 0))
    assert found == Counts((Phase(0.1, 1007, 102, (2, 5), none), Phase(0.5, 403, 202, (2, 1), none)))


def test_nothing_is_counted_before_a_new_weight_is_in_force(prometheus: PrometheusStandIn) -> None:
    outcome(prometheus, "dep-c", 30, 50)
    assert metrics(prometheus).counts(split((0.1, 0)), ARMS, (T0 + 60) * 1000) == Counts()


def test_a_restarted_process_takes_no_count_away(prometheus: PrometheusStandIn) -> None:
    outcome(prometheus, "dep-c", 50, 0)
    outcome(prometheus, "dep-c", 100, 80, 3, process="p1")
    outcome(prometheus, "dep-c", 200, 20, 1, process="p2")
    (phase,) = metrics(prometheus).counts(split((0.1, 0)), ARMS, (T0 + 3000) * 1000).phases
    assert (phase.canary_requests, phase.errors) == (104, (4, 0))


def test_the_same_latencies_fall_into_the_same_bins_and_tolerated_ones_too(prometheus: PrometheusStandIn) -> None:
    latency(prometheus, "dep-s", 300, {3: 70, 5: 20, 7: 10, len(BOUNDS_US): 1})
    # 1.25 times as slow, which is one bucket: no different under a tolerance of 1.25.
    latency(prometheus, "dep-c", 300, {4: 70, 6: 20, 8: 10})
    (phase,) = metrics(prometheus).counts(split((0.5, 0)), ARMS, (T0 + 1000) * 1000).phases
    assert phase.latency == ((70, 70), (20, 20), (10, 11))


def test_the_reference_of_an_hour_gives_edges_that_lie_on_bounds(prometheus: PrometheusStandIn) -> None:
    latency(prometheus, "dep-s", -5000, {9: 7})
    latency(prometheus, "dep-s", -100, {2: 3000, 3: 2000, 4: 900, 6: 100, 9: 7})
    found = metrics(prometheus).reference("dep-s", T0 * 1000)
    assert len(found.latencies) == 2000
    assert found.replicas == ()
    assert set(canary.latency_edges(found.latencies)) <= set(BOUNDS_US)


def test_a_deployment_without_traffic_has_an_empty_reference(prometheus: PrometheusStandIn) -> None:
    assert metrics(prometheus).reference("dep-s", T0 * 1000).latencies == ()


def test_an_absent_or_refusing_prometheus_is_unavailable(prometheus: PrometheusStandIn) -> None:
    with pytest.raises(Unavailable, match="refuses"):
        metrics(prometheus).reference('a"b', T0 * 1000)
    prometheus.away = True
    with pytest.raises(Unavailable, match="did not answer"):
        metrics(prometheus).reference("dep-s", T0 * 1000)


def test_what_a_predictor_exports_is_what_is_asked_for(prometheus: PrometheusStandIn) -> None:
    asyncio.run(answered("dep-exported", [200, 200, 404, 503], raises=1))
    prometheus.scrape(generate_latest().decode(), T0 + 100)
    arms = Arms(stable="dep-none", canary="dep-exported", edges=EDGES, tolerance=1.25)
    (phase,) = metrics(prometheus).counts(split((0.1, 0)), arms, (T0 + 200) * 1000).phases
    assert (phase.requests, phase.canary_requests, phase.errors) == (5, 5, (3, 0))
    assert sum(cell[0] for cell in phase.latency) == 2


async def answered(deployment: str, statuses: list[int], raises: int) -> None:
    """Runs inference requests through the predictor's counter, a golden probe, and one request that is neither."""
    left = list(statuses)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v2/health/ready" or "spiffe_id" in scope:
            await send({"type": "http.response.start", "status": 500})
        elif not left:
            raise RuntimeError("the model is broken")
        else:
            await send({"type": "http.response.start", "status": left.pop(0)})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        assert message["type"] == "http.response.start"

    measured = Measured(app, deployment, frozenset({"spiffe://x/service/api"}))
    await measured({"type": "http", "path": "/v2/health/ready"}, receive, send)
    await measured({"type": "http", "path": "/v2/models/m/infer", "spiffe_id": "spiffe://x/service/api"}, receive, send)
    for _ in statuses:
        await measured({"type": "http", "path": "/v2/models/m/infer"}, receive, send)
    for _ in range(raises):
        with pytest.raises(RuntimeError):
            await measured({"type": "http", "path": "/v2/models/m/infer"}, receive, send)


SCRAPED = {
    (OUTCOMES, ("dep-c", "p1", "outcome", "ok")): [0, 40, 80, 120, 160],
    (OUTCOMES, ("dep-c", "p1", "outcome", "error")): [0, 0, 1, 1, 3],
    # Its pod is gone after two minutes.
    (OUTCOMES, ("dep-c", "p2", "outcome", "ok")): [0, 10, 20],
    (OUTCOMES, ("dep-s", "p3", "outcome", "ok")): [0, 900, 1800, 2700, 3600],
    (f"{SECONDS}_bucket", ("dep-c", "p1", "le", "0.001")): [0, 30, 60, 90, 120],
    (f"{SECONDS}_bucket", ("dep-c", "p1", "le", "+Inf")): [0, 40, 80, 120, 160],
    (f"{SECONDS}_bucket", ("dep-c", "p2", "le", "+Inf")): [0, 10, 20],
}
"""Series → what is scraped each minute. Labels: deployment, process, and one more with its value."""


@pytest.mark.parametrize(("seconds", "minute"), [(600, 4), (600, 3), (90, 4), (30, 1)])
def test_prometheus_itself_evaluates_the_queries_as_the_stand_in_does(
    prometheus: PrometheusStandIn, tmp_path: Path, seconds: int, minute: int
) -> None:
    series = []
    for (name, (deployment, process, label, value)), numbers in SCRAPED.items():
        labels = {"deployment": deployment, "process": process, label: value}
        prometheus.samples += [(name, labels, 60.0 * at, number) for at, number in enumerate(numbers)]
        text = ", ".join(f'{key}="{item}"' for key, item in labels.items())
        series.append({"series": f"{name}{{{text}}}", "values": " ".join(map(str, [*numbers, *["_"] * (5 - len(numbers))]))})
    checks = []
    with prometheus.client() as client:
        for query in (outcomes_query("dep-c", seconds), buckets_query("dep-c", seconds)):
            found = client.get("/api/v1/query", params={"query": query, "time": str(60 * minute)}).json()["data"]["result"]
            samples = [{"labels": _labels(item["metric"]), "value": float(item["value"][1])} for item in found]
            assert samples
            checks.append({"expr": query, "eval_time": f"{minute}m", "exp_samples": samples})
    test = {"rule_files": [], "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    command = [need("promtool"), "test", "rules", "test.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _labels(metric: dict[str, Any]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in metric.items()) + "}"
