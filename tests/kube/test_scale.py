"""The simulation of training at scale: the real scheduler places what our builder writes, and its judge sees what is wrong."""

from pathlib import Path

import pytest

from benchmarks.scale import COPIES, Pool, ground, judged, pods, pools, replicas, run, simulated, table


@pytest.mark.timeout(600)
def test_no_pod_is_where_it_must_not_be_and_only_what_has_no_node_waits(tmp_path: Path) -> None:
    with simulated(tmp_path) as cluster:
        ground(cluster)
        # Just enough nodes that are not spot for those who need them: nobody else takes one.
        room = run(cluster, "room for all", pools(30, 4, 5), list(pods(5)))
        short = run(cluster, "two spot nodes too few", pools(18, 4, 5), list(pods(5)))
        gone = run(cluster, "spot is gone", pools(18, 18, 5), list(pods(5)))
        served = run(cluster, "predictors", pools(6, 3, 16), list(replicas(4)))
    assert (room.pods, room.placed, room.misplaced, room.pending) == (25, 25, {}, {})
    assert (short.placed, short.misplaced, short.pending) == (23, {}, {"worker, spot": 2})
    # Of 18 free nodes 14 stay so: Kueue keeps a job to the flavour that it was admitted to.
    assert (gone.placed, gone.misplaced, gone.pending) == (9, {}, {"worker, spot": 16})
    assert (served.pods, served.placed, served.misplaced, served.together) == (4 * COPIES, 4 * COPIES, {}, 1)
    assert "| two spot nodes too few | 25 | 23 |" in table([room, short])


@pytest.mark.parametrize(
    ("job", "part", "pool", "fault"),
    [
        (1, "head", Pool("gpu-spot", 1, 8, 32, 1, spot=True), "a head on a spot or GPU node"),
        (1, "head", Pool("gpu", 1, 8, 32, 1), "a head on a spot or GPU node"),
        (0, "worker", Pool("gpu-spot", 1, 8, 32, 1, spot=True), "a worker on spot that may not be there"),
        (1, "worker", Pool("core", 1, 8, 32), "a worker without a GPU"),
        (1, "worker", Pool("gpu-spot", 1, 8, 32, 1, spot=True), None),
        (1, "head", Pool("core", 1, 8, 32), None),
    ],
)
def test_a_pod_in_a_wrong_place_is_told(job: int, part: str, pool: Pool, fault: str | None) -> None:
    node = pool.node(0)
    name = f"run-{job:04}"
    pod = next(
        pod for pod in pods(job + 1) if pod["metadata"]["name"].startswith(name) and pod["metadata"]["labels"]["part"] == part
    )
    pod["spec"]["nodeName"] = node["metadata"]["name"]
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    pod["status"] = {"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:03Z"}]}
    found = judged("test", [node], [pod], 1.0)
    assert found.misplaced == ({fault: 1} if fault else {})
    assert found.waits == [3]
