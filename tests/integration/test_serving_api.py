"""Serving's HTTP calls in the API process, over mTLS and without a router."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from services.core.tls import client_context, person_id
from tests.serving import MODEL, Api, World, api_of

STAGING = {"model": MODEL, "number": 1, "environment": "staging"}


@pytest.fixture
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    world = World(tmp_path_factory.mktemp("world"))
    with api_of(world, world.version(1), world.version(2)) as found:
        yield found


@pytest.fixture
def person(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, verify=client_context(api.world.person)) as client:
        yield client


@pytest.fixture
def router(api: Api) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, verify=client_context(api.world.service("router"))) as client:
        yield client


def test_deploy_and_rollout_over_http(api: Api, person: httpx.Client) -> None:
    made = person.post("/v1/deployments", json=STAGING)
    assert (made.status_code, made.json()["state"]) == (201, "serving")
    body = {**STAGING, "number": 2, "steps": [5, 25, 100], "alpha": 0.05, "golden": {"dataset": "golden@1", "limit": 50},
            "margins": {"errors": 0.03}, "calibrationS": 1, "mirror": 0}
    started = person.post("/v1/rollouts", json=body)
    assert (started.status_code, started.json()["state"]) == (201, "starting"), started.text
    spec = started.json()["spec"]
    assert (spec["steps"], spec["golden"]["limit"], spec["margins"]["latency"]) == ([5, 25, 100], 50, 0.05)
    rollout = started.json()["id"]
    assert person.get(f"/v1/rollouts/{rollout}/explain").json()["verdict"] is None
    for act, order in (("complete", {"reason": "now"}), ("extend", {"requests": 10, "seconds": 60, "reason": "more"})):
        early = person.post(f"/v1/rollouts/{rollout}/{act}", json=order)
        assert (early.status_code, early.json()["title"]) == (409, "NotUndecided")
        assert person.post(f"/v1/rollouts/{rollout}/{act}", json=order | {"reason": " "}).status_code == 400
    ended = person.post(f"/v1/rollouts/{rollout}/abort", json={"reason": "changed my mind"})
    assert (ended.json()["state"], ended.json()["reason"]) == ("aborted", "changed my mind")
    assert {event["actor"] for event in api.events()} == {person_id("dario")}
    assert person.delete(f"/v1/deployments/{made.json()['id']}").json()["state"] == "stopped"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/deployments", {**STAGING, "number": "1"}, 400),
        ("/v1/deployments", {**STAGING, "color": "red"}, 400),
        ("/v1/deployments", {**STAGING, "number": 9}, 404),
        ("/v1/rollouts", {**STAGING, "golden": {"dataset": "d@1"}}, 404),
        ("/v1/rollouts", {**STAGING, "steps": [100], "golden": {"dataset": "d@1"}}, 400),
        ("/v1/rollouts", {**STAGING, "golden": None}, 400),
    ],
)
def test_bad_orders_change_nothing(api: Api, person: httpx.Client, path: str, body: dict[str, Any], status: int) -> None:
    answer = person.post(path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert (api.events(), api.serving.desired()) == ([], {"deployments": [], "routes": []})


def test_the_router_hears_of_changes_only(person: httpx.Client, router: httpx.Client) -> None:
    first = router.get("/v1/serving/desired")
    assert router.get("/v1/serving/desired", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    person.post("/v1/deployments", json=STAGING)
    second = router.get("/v1/serving/desired", headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, len(second.json()["deployments"])) == (200, 1)


def test_the_desired_state_is_for_services(person: httpx.Client) -> None:
    assert person.get("/v1/serving/desired").status_code == 403


def test_a_router_that_is_away_is_said_so(person: httpx.Client) -> None:
    made = person.post("/v1/deployments", json=STAGING).json()
    answer = person.get(f"/v1/deployments/{made['id']}")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    assert [item["id"] for item in person.get("/v1/deployments").json()] == [made["id"]]
