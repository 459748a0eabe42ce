"""What stands around a predictor in a cluster: no answer leaves without its record."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from services.core.digests import sha256
from services.core.tls import service_id
from services.serving.predictor.order import Order
from services.serving.predictor.recording import Limits, Recorded
from services.serving.predictor.spool import Spool

ORDER = Order(
    deployment="dep-1", environment="staging", model="digits", number=3, artifact_id=sha256(b"artifact"), files=(),
    manifest=sha256(b"manifest"), bundle=sha256(b"bundle"),
)  # fmt: skip
API, GATEWAY = service_id("api"), service_id("gateway")
INFER = "/v2/models/digits/infer"


async def _infer(request: Request) -> Response:
    body = await request.body()
    match body:
        case b"bad":
            return JSONResponse({"error": "bad"}, 400)
        case b"broken":
            raise RuntimeError("out of order")
        case b"slow":
            await asyncio.sleep(0.05)
        case b"long":
            return StreamingResponse(iter([b"a" * 70_000, b"b" * 70_000]))
    return JSONResponse({"id": request.headers["x-request-id"], "echo": body.decode()})


async def _older(request: Request) -> Response:
    return JSONResponse({"predictions": []})


ROUTES = [Route(INFER, _infer, methods=["POST"]), Route("/v1/models/digits:predict", _older, methods=["POST"]), Route("/", _older)]
PREDICTOR = Starlette(routes=ROUTES)


class Pod:
    """A recorded predictor, asked as the gateway asks."""

    def __init__(self, folder: Path, limit: int = 1 << 20) -> None:
        self.spool = Spool(folder, lambda: 1_700_000_000_000, limit)
        limits = Limits(max_body=1000, max_in_flight=2, upload_s=0.2)
        self._app = Recorded(PREDICTOR, self.spool, ORDER, API, limits, lambda: 1_700_000_000_000)

    def ask_at_once(self, *bodies: bytes) -> list[httpx.Response]:
        async def run() -> list[httpx.Response]:
            async with self._client(GATEWAY) as client:
                return await asyncio.gather(*(client.post(INFER, content=body) for body in bodies))

        return asyncio.run(run())

    def ask(self, method: str, path: str, body: bytes = b"", caller: str = GATEWAY, headers: Any = None) -> httpx.Response:
        async def run() -> httpx.Response:
            async with self._client(caller) as client:
                return await client.request(method, path, content=body, headers=headers)

        return asyncio.run(run())

    def upload(self, *parts: Message | None) -> list[Message]:
        """What is answered to messages of a request; None: no more of them comes."""
        sent: list[Message] = []
        left = iter(parts)

        async def receive() -> Message:
            message = next(left)
            if message is None:
                await asyncio.Event().wait()
            assert message is not None
            return message

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": INFER, "query_string": b"", "headers": [], "spiffe_id": GATEWAY}
        asyncio.run(asyncio.wait_for(self._app(scope, receive, send), 5))
        return sent

    def _client(self, caller: str) -> httpx.AsyncClient:
        async def seen(scope: Scope, receive: Receive, send: Send) -> None:
            await self._app({**scope, "spiffe_id": caller}, receive, send)

        return httpx.AsyncClient(transport=httpx.ASGITransport(seen, raise_app_exceptions=False), base_url="http://pod")

    @property
    def records(self) -> list[dict[str, Any]]:
        return [item for name in self.spool.waiting(all_of_them=True) for item in self.spool.read(name).records]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_an_answer_has_a_record_that_its_receiver_can_claim(pod: Pod) -> None:
    answer = pod.ask("POST", INFER, b"one")
    (record,) = pod.records
    salt = bytes.fromhex(answer.headers["x-prediction-salt"])
    assert answer.headers["x-request-id"] == record["id"] == answer.json()["id"]
    assert (answer.headers["x-model-version"], answer.headers["x-deployment"]) == ("digits@3", "dep-1")
    assert (record["inputDigest"], record["outputDigest"]) == (sha256(salt + b"one"), sha256(answer.content))
    assert (record["deployment"], record["artifactId"], record["rollout"]) == ("dep-1", ORDER.artifact_id, None)
    assert (record["ts"], record["outcome"], record["status"]) == (1_700_000_000_000, "ok", 200)


def test_salts_and_ids_are_of_one_request(pod: Pod) -> None:
    first, second = pod.ask("POST", INFER, b"one"), pod.ask("POST", INFER, b"one")
    assert first.headers["x-prediction-salt"] != second.headers["x-prediction-salt"]
    assert len({record["id"] for record in pod.records}) == len({record["inputDigest"] for record in pod.records}) == 2


def test_nobody_outside_chooses_an_id(pod: Pod) -> None:
    answer = pod.ask("POST", INFER, b"one", headers={"x-request-id": "prd-mine"})
    assert pod.records[0]["id"] == answer.json()["id"] != "prd-mine"


@pytest.mark.parametrize(("body", "status"), [(b"bad", 400), (b"broken", 500)])
def test_an_error_is_recorded_too(pod: Pod, body: bytes, status: int) -> None:
    answer = pod.ask("POST", INFER, body)
    (record,) = pod.records
    assert (answer.status_code, record["status"], record["outcome"]) == (status, status, "error")
    assert record["outputDigest"] == sha256(answer.content)


def test_an_answer_in_parts_is_recorded_whole(pod: Pod) -> None:
    answer = pod.ask("POST", INFER, b"long")
    assert len(answer.content) == 140_000
    assert pod.records[0]["outputDigest"] == "sha256:" + hashlib.sha256(answer.content).hexdigest()


def test_an_answer_that_cannot_be_recorded_is_not_given(tmp_path: Path) -> None:
    answer = Pod(tmp_path, limit=10).ask("POST", INFER, b"one")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "echo" not in answer.text
    assert "could not be recorded" in answer.json()["error"]


def test_a_body_over_the_limit_is_refused_before_the_model_sees_it(pod: Pod) -> None:
    assert pod.ask("POST", INFER, b"x" * 1000).status_code == 200
    assert pod.ask("POST", INFER, b"x" * 1001).status_code == 413
    assert len(pod.records) == 1


FIRST = {"type": "http.request", "body": b"one", "more_body": True}


def test_a_body_that_stalls_is_refused_and_takes_no_place(pod: Pod) -> None:
    for _ in range(3):
        start, _body = pod.upload(FIRST, None)
        assert start["status"] == 400
    assert pod.ask("POST", INFER, b"one").status_code == 200
    assert len(pod.records) == 1


def test_half_a_body_is_no_prediction(pod: Pod) -> None:
    for _ in range(3):
        assert pod.upload(FIRST, {"type": "http.disconnect"}) == []
    assert pod.records == []


def test_more_requests_at_once_than_the_limit_are_told_to_come_later(pod: Pod) -> None:
    answers = pod.ask_at_once(b"slow", b"slow", b"slow")
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429]
    assert [answer.headers["retry-after"] for answer in answers if answer.status_code == 429] == ["1"]
    assert pod.ask("POST", INFER, b"one").status_code == 200
    assert len(pod.records) == 3


def test_a_way_to_predict_that_leaves_no_record_is_closed(pod: Pod) -> None:
    assert pod.ask("POST", "/v1/models/digits:predict", b"{}").status_code == 404
    assert pod.records == []


def test_reading_and_the_apis_probes_leave_no_record(pod: Pod) -> None:
    assert pod.ask("GET", "/").status_code == 200
    assert pod.ask("POST", INFER, b"probe", caller=API, headers={"x-request-id": "x"}).json() == {"id": "x", "echo": "probe"}
    assert pod.records == []
