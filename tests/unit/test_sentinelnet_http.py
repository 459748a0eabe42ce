"""Policy routes: identity from the certificate, problem+json for refusals."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from services.core.bundle import to_tar
from services.core.dsse import encode64
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
    app.include_router(router(platform.net))

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


def test_publish_makes_the_bundle_active(platform: Platform) -> None:
    client = _client(platform)
    made = client.post("/v1/policy/bundles", json=_publication(2))
    assert (made.status_code, made.json()["revision"]) == (201, BLOCKED.revision)
    assert client.get("/v1/policy/bundles").json() == made.json() | {"actions": BLOCKED.data["actions"]}


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
    ],
)
def test_bad_calls_are_told_apart(method: str, path: str, body: Any, status: int, platform: Platform) -> None:
    answer = _client(platform).request(method, path, json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_without_a_bundle_the_answer_is_retryable(tmp_path: Path) -> None:
    answer = _client(Platform(tmp_path)).get("/v1/policy/bundles")
    assert (answer.status_code, answer.json()["retryable"], answer.headers["retry-after"]) == (503, True, "1")
