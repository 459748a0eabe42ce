"""Policy routes: identity from the certificate, problem+json for refusals."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from services.core.bundle import to_tar
from services.core.dsse import encode64
from services.core.errors import Unavailable
from services.core.events import Subject
from services.core.http import create_app
from services.core.tls import person_id
from services.sentinelnet.http import router
from tests.sentinelnet import BUNDLE, GOOD, SAM, Platform, blocking, signed

BLOCKED = blocking("sha256:" + "d" * 64)


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    made = Platform(tmp_path)
    made.publish()
    return made


def _client(platform: Platform, actor: str | None = SAM) -> TestClient:
    app = create_app("test")
    app.include_router(router(platform.net, platform.oversight, list))

    async def with_identity(scope: Scope, receive: Receive, send: Send) -> None:
        scope["spiffe_id"] = actor
        await app(scope, receive, send)

    return TestClient(with_identity, raise_server_exceptions=False)


def _publication(version: int) -> dict[str, Any]:
    return {"bundle": encode64(to_tar(BLOCKED)), "envelope": encode64(signed(BLOCKED, version))}


def test_check_answers_and_records_nothing(platform: Platform) -> None:
    before = platform.events()
    answer = _client(platform).post("/v1/policy/check", json={"action": "train", "input": GOOD["train"]})
    assert (answer.status_code, answer.json()["verdict"], answer.json()["policyRevision"]) == (200, "pass", BUNDLE.revision)
    assert platform.events() == before


def test_check_of_an_action_that_there_is_not_names_those_there_are(platform: Platform) -> None:
    answer = _client(platform).post("/v1/policy/check", json={"action": "promte", "input": {}})
    assert answer.status_code == 400
    assert answer.json()["detail"] == f"no action 'promte': want one of {', '.join(sorted(BUNDLE.actions))}"


def test_publish_makes_the_bundle_active(platform: Platform) -> None:
    client = _client(platform)
    made = client.post("/v1/policy/bundles", json=_publication(2))
    assert (made.status_code, made.json()["revision"], made.json()["quarantined"]) == (201, BLOCKED.revision, [])
    told = client.get("/v1/policy/bundles").json()
    assert told | {"quarantined": []} == made.json() | {"actions": BLOCKED.data["actions"]}


def test_refused_publication_names_the_rule(platform: Platform) -> None:
    answer = _client(platform).post("/v1/policy/bundles", json=_publication(1))
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert [rule["rule"] for rule in answer.json()["rules"]] == ["signing.bundle"]


def test_decisions_are_listed_explained_and_replayed(platform: Platform) -> None:
    client = _client(platform)
    listed = client.get("/v1/policy/decisions", params={"limit": 1}).json()
    told = client.get(f"/v1/policy/decisions/{listed[0]['id']}").json()
    again = client.get(f"/v1/policy/decisions/{listed[0]['id']}/replay").json()
    assert (told["action"], told["input"]["action"], again["same"]) == ("publish", "publish", True)


def test_simulation_and_replays_come_in_pages(platform: Platform) -> None:
    platform.net.decide("train", GOOD["train"], Subject("run", "run-1"), SAM)
    client = _client(platform)
    found = client.post("/v1/policy/simulations", json={"bundle": encode64(to_tar(BLOCKED))}).json()
    assert (found["counts"], found["after"], found["total"]) == ({"unchanged": 1, "changed": 1, "failed": 0}, None, 2)
    again = client.post("/v1/policy/replays", json={}).json()
    assert (again["counts"], again["decisions"]) == ({"unchanged": 2, "changed": 0, "failed": 0}, [])


@pytest.mark.parametrize(("actor", "status"), [(person_id("tom"), 403), (None, 401), (SAM, 200)])
def test_simulation_needs_the_role_auditor_or_security(actor: str | None, status: int, platform: Platform) -> None:
    body = {"bundle": encode64(to_tar(BLOCKED))}
    assert _client(platform, actor).post("/v1/policy/simulations", json=body).status_code == status


def test_publication_stands_when_the_review_has_to_wait(platform: Platform) -> None:
    def away() -> list[dict[str, Any]]:
        raise Unavailable("the log is away")

    app = create_app("test")
    app.include_router(router(platform.net, platform.oversight, away))

    async def as_sam(scope: Scope, receive: Receive, send: Send) -> None:
        scope["spiffe_id"] = SAM
        await app(scope, receive, send)

    answer = TestClient(as_sam).post("/v1/policy/bundles", json=_publication(2))
    assert (answer.status_code, answer.json()["quarantined"]) == (201, None)
    assert platform.net.active().version == 2


@pytest.mark.parametrize(
    ("actor", "status"),
    [(None, 401), (person_id("tom"), 403), (person_id("stranger"), 403), ("spiffe://elsewhere/person/eve", 403)],
)
def test_only_security_publishes(actor: str | None, status: int, platform: Platform) -> None:
    assert _client(platform, actor).post("/v1/policy/bundles", json=_publication(2)).status_code == status
    assert platform.net.active().version == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/policy/check", {"action": "train"}, 400),
        ("POST", "/v1/policy/check", {"action": "train", "input": {}, "extra": 1}, 400),
        ("POST", "/v1/policy/check", {"action": "train", "input": []}, 400),
        ("POST", "/v1/policy/check", {"action": "train", "input": {"action": "deploy"}}, 400),
        ("POST", "/v1/policy/bundles", {"bundle": "!", "envelope": ""}, 400),
        ("POST", "/v1/policy/bundles", {"bundle": encode64(b"no tar"), "envelope": ""}, 400),
        ("GET", "/v1/policy/decisions/dec-0", None, 404),
        ("GET", "/v1/policy/decisions/dec-0/replay", None, 404),
        ("GET", "/v1/policy/decisions?limit=0", None, 400),
        ("POST", "/v1/policy/simulations", {"bundle": encode64(b"no tar")}, 400),
        ("POST", "/v1/policy/simulations", {"bundle": encode64(to_tar(BLOCKED)), "since": -1}, 400),
        ("POST", "/v1/policy/replays", {"after": "x" * 81}, 400),
    ],
)
def test_bad_calls_are_told_apart(method: str, path: str, body: Any, status: int, platform: Platform) -> None:
    answer = _client(platform).request(method, path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_without_a_bundle_the_answer_is_retryable(tmp_path: Path) -> None:
    answer = _client(Platform(tmp_path)).get("/v1/policy/bundles")
    assert (answer.status_code, answer.json()["retryable"], answer.headers["retry-after"]) == (503, True, "1")
