"""Real KServe predictors from the real fork server: what they load, what they refuse, and that they die with their parent."""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.core import keys
from services.core.tls import Identity, client_context
from services.serving.predictor.order import Order
from tests.serving import JSON, MODEL, Api, World, api_of, order_of, request_of, wait_for

QUIET_S = 60.0


class ForkServer:
    """The process, its events, and orders to it."""

    def __init__(self, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.serving.predictor"], env=environ,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )
        self.events: list[dict[str, Any]] = []
        self._count = 0
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(lambda: {"event": "idle"} in self.events, "the imports are done", QUIET_S)

    def start(self, order: Order) -> str:
        self._count += 1
        replica = f"rep-{self._count}"
        self._send({"op": "start", "replica": replica, "order": order.to_json()})
        return replica

    def stop(self, replica: str) -> None:
        self._send({"op": "stop", "replica": replica})

    def event(self, replica: str, *kinds: str) -> dict[str, Any]:
        """The first event of these kinds that a replica tells."""
        found: dict[str, Any] = wait_for(
            lambda: next((e for e in list(self.events) if e.get("replica") == replica and e["event"] in kinds), None),
            f"{kinds} of {replica}",
        )
        return found

    def _send(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def api(world: World) -> Iterator[Api]:
    with api_of(world, world.version(1), world.version(2)) as found:
        yield found


@pytest.fixture(scope="module")
def predictors(world: World, api: Api) -> Iterator[ForkServer]:
    server = ForkServer(world.environ(api.url))
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(timeout=10)


@pytest.fixture(scope="module")
def deployment(api: Api) -> str:
    from services.serving.domain import DeploymentSpec

    found = api.serving.deploy(DeploymentSpec(model=MODEL, number=1, environment="staging"), "spiffe://ai-infra.local/person/dario")
    return str(found["id"])


def ask(port: int, path: str, identity: Identity, data: bytes | None = None) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", data=data, headers=JSON)
    try:
        with urllib.request.urlopen(request, context=client_context(identity), timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_verified_model_answers_open_inference_protocol(world: World, predictors: ForkServer, deployment: str) -> None:
    replica = predictors.start(order_of(world.version(1), deployment))
    port = predictors.event(replica, "ready", "refused")["port"]
    rows = [[0.0] * 9, [0.0] * 9]
    rows[0][4] = rows[1][7] = 1.0
    status, answer = ask(port, f"/v2/models/{MODEL}/infer", world.service("router"), request_of(*rows))
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert (status, answer["model_name"], answer["model_version"]) == (200, MODEL, "1")
    assert answer["parameters"] == {"deployment": deployment, "artifact_id": world.version(1).artifact_id}
    assert (outputs["label"]["datatype"], outputs["label"]["data"]) == ("BYTES", ["4", "7"])
    assert (outputs["scores"]["shape"], len(outputs["scores"]["data"])) == ([2, 9], 18)
    status, metadata = ask(port, f"/v2/models/{MODEL}", world.service("router"))
    assert (status, metadata["inputs"]) == (200, [{"name": "input", "datatype": "FP32", "shape": [-1, 9]}])
    predictors.stop(replica)
    # uvicorn ends in order and then raises the signal again.
    assert predictors.event(replica, "exited")["status"] == -signal.SIGTERM


@pytest.mark.parametrize(
    "body",
    [{"inputs": []}, {"inputs": [{"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
     {"inputs": [{"name": "input", "shape": [1, 9], "datatype": "FP32", "data": [1, 2]}]}, {"rows": 1}],
    ids=["no input", "wrong width", "short data", "another protocol"],
)
def test_a_bad_request_is_400(world: World, predictors: ForkServer, deployment: str, body: dict[str, Any]) -> None:
    replica = predictors.start(order_of(world.version(1), deployment))
    port = predictors.event(replica, "ready")["port"]
    status, _ = ask(port, f"/v2/models/{MODEL}/infer", world.service("router"), json.dumps(body).encode())
    assert status in (400, 422)
    predictors.stop(replica)


def test_only_the_router_may_call_a_predictor(world: World, predictors: ForkServer, deployment: str) -> None:
    replica = predictors.start(order_of(world.version(1), deployment))
    port = predictors.event(replica, "ready")["port"]
    assert ask(port, "/v2/health/ready", world.person)[0] == 403
    assert ask(port, "/v2/health/ready", world.service("router"))[0] == 200
    bare = ssl.create_default_context(cafile=str(world.person.ca))
    # TLS 1.3: the server refuses a client without certificate when the handshake is over for the client.
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        urllib.request.urlopen(f"https://127.0.0.1:{port}/v2/health/ready", context=bare, timeout=10)
    predictors.stop(replica)


def unsigned(world: World, order: Order) -> Order:
    stranger = world.version(1, key=keys.generate_p256())
    return replace(order, manifest=stranger.manifest, bundle=stranger.bundle)


def wrong_environment(world: World, order: Order) -> Order:
    other = world.version(1, environment="prod")
    return replace(order, manifest=other.manifest, bundle=other.bundle)


def another_model(world: World, order: Order) -> Order:
    other = world.version(2, passes=3)
    return replace(order, files=other.files)


def swapped_signature(world: World, order: Order) -> Order:
    return replace(order, bundle=world.version(2, passes=3).bundle)


def missing_file(world: World, order: Order) -> Order:
    return replace(order, files=order.files[:1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unsigned, "not signed by a trusted manifest key"),
        (wrong_environment, "the manifest is for prod"),
        (another_model, "the artifact's bytes have id"),
        (swapped_signature, "the tree is not the signed one"),
        (missing_file, "the artifact's bytes have id"),
    ],
)
def test_what_does_not_verify_is_not_loaded(
    world: World, predictors: ForkServer, deployment: str, change: Any, message: str
) -> None:
    replica = predictors.start(change(world, order_of(world.version(1), deployment)))
    event = predictors.event(replica, "refused", "ready")
    assert (event["event"], event["retryable"], message in event["message"]) == ("refused", False, True), event


def test_edited_bytes_in_the_store_are_not_loaded(world: World, predictors: ForkServer, deployment: str) -> None:
    version = world.version(7, passes=7)
    entry = next(entry for entry in version.files if entry.path == "config.json")
    digits = entry.sha256.removeprefix("sha256:")
    path: Path = world.objects / digits[:2] / digits[2:]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"7", b"9"))
    replica = predictors.start(order_of(version, deployment))
    event = predictors.event(replica, "refused", "ready")
    assert (event["event"], event["retryable"], entry.sha256 in event["message"]) == ("refused", False, True)


def test_a_quarantined_model_is_not_loaded(world: World, api: Api, predictors: ForkServer, deployment: str) -> None:
    api.versions.flagged[MODEL, 1] = ["flag-1: biased"]
    replica = predictors.start(order_of(world.version(1), deployment))
    event = predictors.event(replica, "refused", "ready")
    api.versions.flagged.clear()
    assert (event["event"], event["retryable"], "flag-1: biased" in event["message"]) == ("refused", False, True)


def test_while_the_api_is_away_nothing_is_loaded(world: World, api: Api, predictors: ForkServer, deployment: str) -> None:
    api.stop()
    replica = predictors.start(order_of(world.version(1), deployment))
    event = predictors.event(replica, "refused", "ready")
    api.start()
    assert (event["event"], event["retryable"]) == ("refused", True)
    again = predictors.start(order_of(world.version(1), deployment))
    assert predictors.event(again, "refused", "ready")["event"] == "ready"
    predictors.stop(again)


def test_predictors_die_with_the_fork_server(world: World, api: Api, deployment: str) -> None:
    server = ForkServer(world.environ(api.url))
    replica = server.start(order_of(world.version(1), deployment))
    pid = server.event(replica, "ready")["pid"]
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2], "it dies")
