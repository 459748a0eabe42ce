"""Router process, real predictors, controller and traffic together: rollouts decide by themselves, and faults lose nothing."""

import asyncio
import json
import os
import signal
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.core import merkle
from services.core.canonical import canonical
from services.core.errors import Unavailable
from services.core.tls import client_context
from services.serving import canary
from services.serving.controller import Controller
from services.serving.domain import DeploymentSpec, RolloutSpec
from services.serving.rollouts import Rollouts
from tests.fakes.serving import ListedProbes
from tests.serving import JSON, LABELS, MODEL, Api, Load, RouterProcess, World, api_of, probes, request_of, router_of, wait_for

ACTOR = "spiffe://ai-infra.local/person/dario"
STABLE, GOOD, SLOW, WRONG, SECOND = 1, 2, 3, 4, 5
ENDED = ("completed", "rolled_back", "aborted", "undecided")
QUARANTINE_S = 5.0


class Stage:
    """What the tests of this file share; each leaves a stable version serving."""

    def __init__(self, world: World, api: Api, router: RouterProcess) -> None:
        self.world, self.api, self.router = world, api, router
        self.url = f"{api.router_url}/env/staging/v2/models/{MODEL}/infer"
        self.client = httpx.Client(verify=client_context(world.person), timeout=10)

    def deploy(self) -> str:
        """The deployment that serves, ready."""
        routes = self.api.serving.desired()["routes"]
        if routes:
            found = str(routes[0]["stable"])
        else:
            spec = DeploymentSpec(model=MODEL, number=STABLE, environment="staging")
            found = str(self.api.serving.deploy(spec, ACTOR)["id"])
        wait_for(lambda: self.ready(found), f"{found} is ready", 60)
        return found

    def ready(self, deployment: str) -> int:
        try:
            return self.api.serving.backend.health(deployment).ready
        except Unavailable:
            return 0

    def pids(self, deployment: str) -> list[int]:
        try:
            detail = self.api.serving.backend.health(deployment).detail
        except Unavailable:
            return []
        return [replica["pid"] for replica in detail if replica["pid"] and replica["healthy"]]

    def phases(self, rollout: str) -> tuple[canary.Phase, ...]:
        try:
            return self.api.serving.backend.counts(rollout).phases
        except Unavailable:
            return ()

    def load(self) -> Load:
        return Load(self.url, self.world.person)

    def predict(self) -> httpx.Response:
        return self.client.post(self.url, content=request_of([1.0] + [0.0] * 8), headers=JSON)

    def roll(self, number: int, **more: Any) -> dict[str, Any]:
        """Starts a rollout and waits for its end."""
        values = {"model": MODEL, "number": number, "environment": "staging", "golden": {"dataset": "golden@1"}}
        rollout = self.api.rollouts.start(RolloutSpec.from_json(values | more), ACTOR)["id"]
        return self.end(rollout)

    def end(self, rollout: str) -> dict[str, Any]:
        wait_for(lambda: self.api.rollouts.get(rollout)["state"] in ENDED, f"rollout {rollout} ends", 60)
        found = self.api.rollouts.get(rollout)
        if found["state"] == "rolled_back":
            wait_for(lambda: not self.pids(found["canary"]), "the router has heard of it")
        return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    world = World(tmp_path_factory.mktemp("world"))
    versions = [
        world.version(STABLE), world.version(GOOD, passes=2), world.version(SLOW, passes=600),
        world.version(WRONG, labels=LABELS[1:] + LABELS[:1]), world.version(SECOND, passes=3),
    ]
    with api_of(world, *versions) as api, router_of(world, api) as router:
        api.controller.start()
        made = Stage(world, api, router)
        made.deploy()
        yield made
        made.client.close()
        api.controller.stop()


def explained(stage: Stage, found: dict[str, Any]) -> dict[str, Any]:
    """The verdict recomputed from the event in the outbox, as a third party would."""
    event = next(event for event in stage.api.events() if event["id"] == found["event"])
    result = canary.explain(event["payload"])
    assert result["agrees"] is True
    verdict: dict[str, Any] = result["verdict"]
    return verdict


def test_a_slow_version_is_rolled_back_without_a_hand(stage: Stage) -> None:
    stage.deploy()
    with stage.load() as load:
        found = stage.roll(SLOW)
    verdict = explained(stage, found)
    assert (found["state"], verdict["cause"], verdict["rollback"]) == ("rolled_back", "latency", True)
    assert (set(load.answered.statuses), load.answered.wrong) == ({200}, 0)


def test_wrong_outputs_are_rolled_back_without_a_hand(stage: Stage) -> None:
    stage.deploy()
    with stage.load() as load:
        found = stage.roll(WRONG)
        assert (found["state"], explained(stage, found)["cause"]) == ("rolled_back", "quality")
    assert set(load.answered.statuses) == {200}
    # A tenth of the traffic for a moment, and nobody else, saw the wrong version.
    assert load.answered.wrong < 0.2 * len(load.answered.ids)


def test_a_good_version_reaches_all_traffic(stage: Stage) -> None:
    before = stage.deploy()
    with stage.load() as load:
        found = stage.roll(GOOD)
        assert (found["state"], explained(stage, found)["cleared"]) == ("completed", True), found
        wait_for(lambda: stage.predict().headers["x-model-version"] == f"{MODEL}@{GOOD}", "all traffic moves")
        wait_for(lambda: not stage.pids(before), "the old predictors end")
    assert (set(load.answered.statuses), load.answered.wrong) == ({200}, 0)


def test_counts_recompute_from_the_prediction_records(stage: Stage) -> None:
    """Of the rollouts before: what their verdicts looked at is in the records, arm and bin by the coin and the edges."""
    from services.serving.router.counts import UNCOUNTED, coin

    folder = stage.world.root / "router" / "predictions"
    records = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    for rollout in stage.api.rollouts.all():
        own = [item for item in records if item["rollout"] is not None and item["rollout"]["id"] == rollout["id"]]
        own = [item for item in own if item["rollout"]["arm"] not in UNCOUNTED]  # answers to probes met no coin
        for item in own:
            place = item["rollout"]
            assert (place["arm"] == "canary") == (coin(rollout["seed"], item["id"]) < place["weight"])
            if item["outcome"] == "ok":
                latency = item["latencyUs"] / (rollout["rule"]["tolerance"] if place["arm"] == "canary" else 1)
                assert place["bin"] == canary.latency_bin(rollout["rule"]["edges"], latency)
        counted = [item for item in own if item["rollout"]["counted"]]
        judged = sum(phase["requests"] for phase in rollout["counts"]["phases"])
        assert judged <= len(counted)


def test_a_prediction_is_covered_by_a_sealed_root(stage: Stage) -> None:
    stage.deploy()
    prediction = stage.predict().headers["x-request-id"]
    router = stage.api.router_url

    def sealed() -> dict[str, Any] | None:
        found: dict[str, Any] = stage.client.get(f"{router}/v1/predictions/{prediction}").json()
        return found if found["sealed"] else None

    found = wait_for(sealed, "the batch is sealed")
    place = found["sealed"]
    event = wait_for(lambda: stage.api.sealed.get(place["event"]), "its event reaches the log")
    assert event["payload"]["root"] == place["root"]
    merkle.verify_inclusion(
        merkle.leaf_hash(canonical(found["record"])), place["index"], place["size"],
        [bytes.fromhex(node) for node in place["proof"]], bytes.fromhex(place["root"].removeprefix("sha256:")),
    )


def test_kserves_own_client_is_answered(stage: Stage) -> None:
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

    stage.deploy()

    async def ask() -> Any:
        config = RESTConfig(protocol="v2", verify=client_context(stage.world.person))
        client = InferenceRESTClient(config)
        tensor = InferInput("input", [1, 9], "FP32", data=[0.0, 0.0, 1.0] + [0.0] * 6)
        request = InferRequest(model_name=MODEL, infer_inputs=[tensor])
        return await client.infer(f"{stage.api.router_url}/env/staging", request, model_name=MODEL)

    answer = asyncio.run(ask())
    assert answer.get_output_by_name("label").data == ["2"]


def test_a_client_without_certificate_gets_nothing(stage: Stage) -> None:
    bare = httpx.Client(verify=ssl.create_default_context(cafile=str(stage.world.person.ca)))
    with pytest.raises(httpx.TransportError):
        bare.post(stage.url, content=request_of([0.0] * 9), headers=JSON)


def test_a_killed_predictor_is_replaced(stage: Stage) -> None:
    deployment = stage.deploy()
    (pid,) = stage.pids(deployment)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stage.pids(deployment) not in ([], [pid]), "another predictor takes over")
    assert stage.predict().status_code == 200


def test_the_router_serves_on_while_the_api_is_away(stage: Stage) -> None:
    stage.deploy()
    stage.api.stop()
    time.sleep(1)
    statuses = {stage.predict().status_code for _ in range(20)}
    stage.api.start()
    assert statuses == {200}


def test_a_killed_router_recovers_its_records_and_the_rollout_goes_on(stage: Stage) -> None:
    stage.deploy()
    with stage.load() as load:
        values = {"model": MODEL, "number": SECOND, "environment": "staging", "golden": {"dataset": "golden@1"}}
        # Wide steps, so that the kill falls into the middle of the rollout.
        wide = RolloutSpec.from_json(values | {"minRequestsPerStep": 500})
        rollout = stage.api.rollouts.start(wide, ACTOR)["id"]
        wait_for(lambda: stage.api.rollouts.get(rollout)["state"] == "running", "the rollout runs")
        before = wait_for(lambda: stage.phases(rollout), "it counts")[0]
        pids = stage.pids(stage.api.rollouts.get(rollout)["stable"])
        stage.router.kill()
        stage.api.controller.stop()
        stage.router.start()
        # Another controller, with nothing but the database, continues.
        stage.api.rollouts = Rollouts(stage.api.serving, ListedProbes(probes()))
        stage.api.controller = Controller(stage.api.rollouts)
        stage.api.controller.start()
        found = stage.end(rollout)
    assert found["state"] == "completed", found
    assert canary.Counts.from_json(found["counts"]).phases[0].requests >= before.requests
    assert all(not Path(f"/proc/{pid}").exists() for pid in pids)
    recovered = wait_for(
        lambda: [event["payload"] for event in stage.api.sealed.values() if event["payload"]["recovered"]], "the tail is sealed"
    )
    # Each of the four clients had at most one request in flight, the probes one to each version, and a record more may have been
    # written just then.
    assert sum(payload["lost"] for payload in recovered) <= 4 + 2 + 1
    answered = [name for name in load.answered.ids if name]
    for name in (answered[0], answered[len(answered) // 2], answered[-1]):
        assert stage.client.get(f"{stage.api.router_url}/v1/predictions/{name}").status_code == 200


def test_quarantine_stops_traffic_and_predictors_within_five_seconds(stage: Stage) -> None:
    deployment = stage.deploy()
    pids = stage.pids(deployment)
    began = time.monotonic()
    stage.api.serving.quarantine([deployment], "flag-1: biased", ACTOR)
    wait_for(lambda: stage.predict().status_code == 403, "traffic stops", QUARANTINE_S)
    wait_for(lambda: all(not Path(f"/proc/{pid}").exists() for pid in pids), "predictors end", QUARANTINE_S)
    assert time.monotonic() - began < QUARANTINE_S
    answer = stage.predict()
    assert (answer.headers["content-type"], answer.json()["title"]) == ("application/problem+json", "Quarantined")
    stage.api.serving.lift([deployment], ACTOR)
    wait_for(lambda: stage.predict().status_code == 200, "traffic comes back")
