"""Requests that were made to stop a process, or to write into its log."""

import logging
import time
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from services.core.errors import BadInput
from services.core.http import create_app
from services.sentinelnet.http import router
from services.serving.errors import UnknownDeployment
from services.serving.ports import DeploymentHealth
from tests.fakes.serving import ScriptedBackend
from tests.sentinelnet import SAM, Platform
from tests.unit.test_serving_service import Bench


def test_a_large_check_does_not_keep_everybody_waiting(tmp_path: Path) -> None:
    platform = Platform(tmp_path)
    platform.publish()
    app = create_app("test")
    app.include_router(router(platform.net, platform.oversight, list))

    async def by(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "spiffe_id": SAM}, receive, send)

    datasets = [{"id": f"sha256:{number:064x}", "licence": "MIT", "pii": "none", "approvedBy": []} for number in range(2000)]
    with TestClient(by) as client:
        begun = time.monotonic()
        answer = client.post("/v1/policy/check", json={"action": "train", "input": {"datasets": datasets}})
        assert (answer.status_code, answer.json()["title"]) == (413, "TooLarge")
        assert time.monotonic() - begun < 5


def test_a_path_does_not_steer_the_terminal_that_shows_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = create_app("test")

    @app.get("/{name}")
    def broken(name: str) -> None:
        raise RuntimeError("a fault of ours")

    with caplog.at_level(logging.ERROR), TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/x%1b%5b2Jall%20is%20well")
    assert answer.status_code == 500
    told = [record.getMessage() for record in caplog.records if record.name == "services.core.http"]
    assert told == [rf"unexpected error in GET '/x\x1b[2Jall is well', request {answer.headers['x-request-id']}"]


class NeverAsked(ScriptedBackend):
    def health(self, deployment: str) -> DeploymentHealth:
        raise AssertionError(f"the router was asked for {deployment!r}")


@pytest.mark.parametrize("name", ["\x00", "x\r\ny", "../../healthz#", "?", "%2e%2e"])
def test_only_known_ids_go_into_the_routers_url(tmp_path: Path, name: str) -> None:
    bench = Bench(tmp_path)
    with pytest.raises((UnknownDeployment, BadInput)):  # PostgreSQL cannot even be asked for a NUL
        replace(bench.serving, backend=NeverAsked()).status(name)
