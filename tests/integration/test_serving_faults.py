"""Real predictors behind the real router, under load: killed, stopped in the middle, and asked for more than they can give."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.errors import Unavailable
from services.serving.domain import DeploymentSpec
from tests.serving import MODEL, Api, Load, World, api_of, router_of, wait_for

ACTOR = "spiffe://ai-infra.local/person/dario"
CLIENTS = 4


class Served:
    """Two predictors of one version."""

    def __init__(self, world: World, api: Api) -> None:
        self._world, self._api = world, api
        spec = DeploymentSpec(model=MODEL, number=1, environment="staging", replicas=2)
        self._deployment = str(api.serving.deploy(spec, ACTOR)["id"])
        self.both()

    def pids(self) -> list[int]:
        """Of the healthy ones."""
        try:
            detail = self._api.serving.backend.health(self._deployment).detail
        except Unavailable:
            return []
        return [replica["pid"] for replica in detail if replica["pid"] and replica["healthy"]]

    def both(self) -> list[int]:
        found: list[int] = wait_for(lambda: self.pids() if len(self.pids()) == 2 else None, "both predictors are ready", 60)
        return found

    def load(self, clients: int = CLIENTS) -> Load:
        return Load(f"{self._api.router_url}/env/staging/v2/models/{MODEL}/infer", self._world.person, clients)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    world = World(tmp_path_factory.mktemp("world"))
    with api_of(world, world.version(1, passes=8)) as api, router_of(world, api):
        yield Served(world, api)


def answered(load: Load, more: int) -> None:
    """Waits for so many further answers."""
    target = sum(load.answered.statuses.values()) + more
    wait_for(lambda: sum(load.answered.statuses.values()) >= target, f"{more} more answers")


def test_a_predictor_killed_under_load_costs_no_client_its_answer(served: Served) -> None:
    victim = served.both()[0]
    with served.load() as load:
        answered(load, 40)
        os.kill(victim, signal.SIGKILL)
        answered(load, 40)
        wait_for(lambda: len(served.pids()) == 2 and victim not in served.pids(), "another predictor takes over")
        answered(load, 40)
    assert (set(load.answered.statuses), load.answered.wrong) == ({200}, 0)


def test_a_hung_predictor_harms_only_what_it_had_and_is_replaced(served: Served) -> None:
    victim = served.both()[0]
    with served.load() as load:
        answered(load, 40)
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda: len(served.pids()) == 1, "it is taken out")
        late = dict(load.answered.statuses)
        answered(load, 60)
        wait_for(lambda: len(served.pids()) == 2 and victim not in served.pids(), "it is replaced", 60)
        statuses = load.answered.statuses
    # Three failures take the predictor out; only what was in flight on it until then may still run into the limit.
    assert late.get(503, 0) <= 4 * CLIENTS
    assert statuses.get(503, 0) <= late.get(503, 0) + CLIENTS
    assert (set(statuses) <= {200, 503}, load.answered.wrong) == (True, 0)
    wait_for(lambda: not Path(f"/proc/{victim}").exists(), "the hung process ends")


def test_twice_the_load_is_refused_with_a_pause_and_breaks_nothing(served: Served) -> None:
    served.both()
    with served.load(60) as load:
        wait_for(lambda: set(load.answered.statuses) >= {200, 429}, "some are taken, some refused")
        time.sleep(1)
    assert (set(load.answered.statuses), load.answered.pauses) == ({200, 429}, {"1"})
    assert load.answered.wrong == 0
    with served.load() as calm:
        answered(calm, 40)
    assert set(calm.answered.statuses) == {200}
