"""Training's routes: who may, what comes back, what a bad body gets."""

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from services.core.errors import Refused
from services.core.http import create_app
from services.training.http import routes
from tests.training import TARA, Stage, repository


def refuse_auditor(actor: str, operation: str) -> None:
    if not actor.endswith("/tara"):
        raise Refused(f"{actor} may not {operation}", [{"rule": "authz.operation", "verdict": "deny", "reasons": [operation]}])


def client(stage: Stage, actor: str | None = TARA) -> TestClient:
    app = create_app("test")
    app.include_router(routes(stage.service, refuse_auditor))

    async def with_identity(scope: Scope, receive: Receive, send: Send) -> None:
        scope["spiffe_id"] = actor
        await app(scope, receive, send)

    return TestClient(with_identity, raise_server_exceptions=False)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    made.add_dataset()
    return made


@pytest.fixture
def body(stage: Stage, tmp_path: Path) -> dict[str, Any]:
    return stage.order(repository(tmp_path / "repo")).to_json()


def test_a_run_goes_from_start_to_its_record(stage: Stage, body: dict[str, Any]) -> None:
    caller = client(stage)
    answer = caller.post("/v1/runs", json=body)
    assert answer.status_code == 201
    run_id = answer.json()["id"]
    stage.compute.reported[run_id] = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.4}]
    events = caller.get(f"/v1/runs/{run_id}/events", params={"after": 1}).json()
    assert events == {"state": "running", "progress": [{"epoch": 2, "metrics": {"epoch": 2, "loss": 0.4}}]}
    stage.compute.finish(run_id)
    stage.service.step()
    assert caller.get(f"/v1/runs/{run_id}").json()["state"] == "completed"
    assert [run["id"] for run in caller.get("/v1/runs").json()] == [run_id]
    assert caller.post(f"/v1/runs/{run_id}/rerun").json()["rerunOf"] == run_id
    assert caller.post(f"/v1/runs/{run_id}/retry").status_code == 409


def test_a_run_is_cancelled(stage: Stage, body: dict[str, Any]) -> None:
    run_id = client(stage).post("/v1/runs", json=body).json()["id"]
    assert client(stage).post(f"/v1/runs/{run_id}/cancel").json()["state"] == "cancelled"


@pytest.mark.parametrize("path", ["", "/run-1/rerun", "/run-1/retry", "/run-1/cancel"])
def test_a_caller_without_the_role_is_refused(stage: Stage, body: dict[str, Any], path: str) -> None:
    answer = client(stage, "spiffe://ai-infra.local/person/paul").post(f"/v1/runs{path}", json=body)
    assert (answer.status_code, answer.json()["rules"][0]["rule"]) == (403, "authz.operation")
    assert stage.states() == []


def test_a_caller_without_a_certificate_is_not_known(stage: Stage) -> None:
    assert client(stage, None).get("/v1/runs").status_code == 401


@pytest.mark.parametrize(
    "change",
    [{"extra": 1}, {"job": {}}, {"code": {"commit": "x"}}, {"directory": "../x"}, {"commitObject": "*"}, {"job": None}],
    ids=str,
)
def test_a_malformed_start_is_a_precise_problem(stage: Stage, body: dict[str, Any], change: dict[str, Any]) -> None:
    answer = client(stage).post("/v1/runs", json=body | change)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert next(iter(change)).lower() in answer.json()["detail"].lower() or "path" in answer.json()["detail"]
    assert stage.states() == []


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/events"), ("POST", "/rerun"), ("POST", "/retry"), ("POST", "/cancel")]
)
def test_an_unknown_run_is_a_404(stage: Stage, method: str, path: str) -> None:
    answer = client(stage).request(method, f"/v1/runs/run-unknown{path}")
    assert (answer.status_code, answer.json()["title"]) == (404, "UnknownRun")
