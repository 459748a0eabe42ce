"""The platform over HTTP: every wrong call is a precise problem+json, a role decides, and a repeated write happens once."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter
from fastapi.testclient import TestClient
from sqlalchemy import event, insert, select
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.app import build_app
from services.api.idempotency import KEPT_MS, forget, table
from services.core import dsse
from services.core.database import begin
from services.core.digests import sha256
from services.core.http import MAX_BODY
from services.core.tls import person_id
from services.registry.http import routes
from tests import signing as world
from tests.registry import RITA, TOM, Rig, key_of, opened

PROBLEM = "application/problem+json"
ABSENT = sha256(b"absent")


class AsCaller:
    """Gives each request the identity that the TLS layer would: here from a header, which the app never looks at itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name = dict(scope["headers"]).get(b"x-test-caller", b"").decode()
            scope["spiffe_id"] = person_id(name) if name else None
        await self._app(scope, receive, send)


class Slow:
    """A route that waits until the test lets it go on."""

    def __init__(self) -> None:
        self.entered, self.go, self.calls = threading.Event(), threading.Event(), 0
        self.router = APIRouter()
        self.router.post("/v1/slow")(self.answer)

    def answer(self) -> dict[str, int]:
        self.calls += 1
        self.entered.set()
        self.go.wait(10)
        return {"calls": self.calls}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with opened(tmp_path) as rig:
        yield rig


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def client(rig: Rig, slow: Slow) -> Iterator[TestClient]:
    registry = routes(rig.registry(), rig.sentinelnet.authorise)
    app = build_app([registry, slow.router], [], rig.engine, rig.clock, lambda: None, lambda: None)
    with TestClient(AsCaller(app), raise_server_exceptions=False) as client:
        yield client


def as_(name: str, **more: str) -> dict[str, str]:
    return {"x-test-caller": name, **more}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, response.headers["content-type"], body["status"]) == (status, PROBLEM, status)
    assert set(body) >= {"type", "title", "status", "detail", "retryable"}
    assert response.headers["x-request-id"]
    return body


def test_no_page_with_script_is_served_beside_the_openapi_document(client: TestClient) -> None:
    """Script of others, in a page that a browser opened with a person's certificate, could call as that person."""
    for path in ("/docs", "/docs/oauth2-redirect", "/redoc"):
        problem(client.get(path, headers=as_("eve")), 404)
    assert client.get("/openapi.json", headers=as_("eve")).json()["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"kind":"model","kind":"model","target":"digits@1","reason":"r"}', b'{"a":NaN}', b'"\xff"',
        b'{"kind":"model","target":"digits@1","reason":"r","extra":1}', b'{"kind":"model","target":"digits@1"}',
        b'{"kind":"star","target":"digits@1","reason":"r"}', b'{"kind":"model","target":1,"reason":"r"}',
        b'{"kind":"model","target":"digits","reason":"r"}', b'{"kind":"model","target":"digits@1","reason":"\\ud800"}',
        b"[" * 100_000,
        b'{"kind":"model","target":"digits@1","reason":"' + b"x" * 2001 + b'"}',
    ],
    ids=lambda body: ascii(body[:60]),
)  # fmt: skip
@pytest.mark.parametrize("kind", ["application/json", "Application/JSON", "application/vnd.x+JSON; charset=utf-8"])
def test_a_malformed_body_is_refused_and_changes_nothing(rig: Rig, client: TestClient, body: bytes, kind: str) -> None:
    problem(client.post("/v1/flags", content=body, headers=as_("eve", **{"content-type": kind})), 400)
    assert rig.flags.active() == []


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_huge_body_is_refused(client: TestClient, method: str) -> None:
    answer = client.request(method, "/v1/flags", content=b" " * (MAX_BODY + 1), headers=as_("eve", **{"idempotency-key": "k"}))
    assert "over" in problem(answer, 413)["detail"]


def test_only_an_upload_may_be_huge(client: TestClient) -> None:
    data = bytes(MAX_BODY + 1)
    problem(client.post(f"/v1/objects/{sha256(data)}", content=data, headers=as_("tom")), 413)
    assert client.put(f"/v1/objects/{sha256(data)}", content=data, headers=as_("tom")).status_code == 201


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/nothing", 404), ("/v1/datasets/none@1", 404), (f"/v1/datasets/{ABSENT}", 404), (f"/v1/artifacts/{ABSENT}", 404),
        ("/v1/models/digits/versions/9", 404), ("/v1/models/none/versions/1", 404), ("/v1/promotions/none", 404),
        (f"/v1/objects/{ABSENT}", 404), ("/v1/objects/none", 400), ("/v1/objects/..%2f..%2fetc%2fpasswd", 404),
        ("/v1/models/digits/versions/x", 400), ("/v1/models/digits/versions/0", 400), (f"/v1/models/digits/versions/{10**30}", 400),
        ("/v1/models/digits/versions/1/lineage?direction=left", 400), ("/v1/models/digits/versions/1/evidence", 404),
    ],
)  # fmt: skip
def test_unknown_and_impossible_things_are_told_apart(client: TestClient, path: str, status: int) -> None:
    problem(client.get(path, headers=as_("tom")), status)


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/models"), ("POST", "/v1/flags"), ("PUT", f"/v1/objects/{ABSENT}")])
def test_without_an_identity_nothing_is_told_or_done(client: TestClient, method: str, path: str) -> None:
    body = {"kind": "model", "target": "digits@1", "reason": "r"}
    problem(client.request(method, path, json=body), 401)


@pytest.mark.parametrize("name", ["tom", "ada", "stranger"])
def test_a_role_that_may_not_is_refused_by_the_rule(rig: Rig, client: TestClient, name: str) -> None:
    answer = client.post("/v1/flags", json={"kind": "model", "target": "digits@1", "reason": "r"}, headers=as_(name))
    assert [rule["rule"] for rule in problem(answer, 403)["rules"]] == ["authz.operation"]
    assert rig.flags.active() == []
    assert rig.events("policyCheck")[-1]["actor"] == person_id(name)


def test_objects_are_stored_under_their_own_digest_alone(client: TestClient) -> None:
    assert client.put(f"/v1/objects/{sha256(b'x')}", content=b"x", headers=as_("tom")).json() == {"digest": sha256(b"x"), "size": 1}
    problem(client.put(f"/v1/objects/{ABSENT}", content=b"x", headers=as_("tom")), 400)
    assert client.get(f"/v1/objects/{sha256(b'x')}", headers=as_("tom")).content == b"x"
    problem(client.get(f"/v1/objects/{ABSENT}", headers=as_("tom")), 404)


def test_the_whole_way_to_a_stage_goes_over_http(rig: Rig, client: TestClient) -> None:
    request = world.envelope(rig.request_for().to_statement(), key_of("rita"))
    made = client.post("/v1/promotions", json=request.to_json(), headers=as_("rita"))
    promotion = made.json()["id"]
    assert (made.status_code, made.json()["requestedBy"]) == (201, RITA)
    refused = client.post(f"/v1/promotions/{promotion}/execution", headers=as_("rita"))
    assert [rule["rule"] for rule in problem(refused, 403)["rules"]] == ["promotion.quorum"]
    for name in ("ada", "ben", "cyd"):
        shown = client.get(f"/v1/promotions/{promotion}", headers=as_(name)).json()["requestEnvelope"]
        approval = world.envelope(dsse.from_json(shown).payload, key_of(name)).to_json()
        assert client.post(f"/v1/promotions/{promotion}/approvals", json=approval, headers=as_(name)).status_code == 201
    assert client.post(f"/v1/promotions/{promotion}/execution", headers=as_("rita")).json()["state"] == "completed"
    shown = client.get("/v1/models/digits/versions/1", headers=as_("tom")).json()
    assert (shown["stage"], [item["environment"] for item in shown["manifests"]], shown["flags"]) == ("staging", ["staging"], [])
    archive = client.get("/v1/models/digits/versions/1/evidence", headers=as_("rita"))
    assert archive.content[:2] == b"PK"


def test_lineage_goes_up_to_the_data_and_down_from_it(rig: Rig, client: TestClient) -> None:
    up = client.get("/v1/models/digits/versions/1/lineage", headers=as_("tom")).json()
    assert sorted(node["kind"] for node in up["nodes"]) == ["dataset", "dataset", "model", "run"]
    down = client.get("/v1/models/digits/versions/1/lineage?direction=down", headers=as_("tom")).json()
    assert [node["id"] for node in down["nodes"]] == ["digits@1"]
    dot = client.get("/v1/models/digits/versions/1/lineage?form=dot", headers=as_("tom")).text
    assert dot.startswith("digraph lineage {")
    assert '"model:digits@1" [shape=box, label="digits@1"]' in dot


def test_lines_of_a_lineage_label_are_lines_in_json_and_escapes_in_graphviz(client: TestClient) -> None:
    path = "/v1/models/digits/versions/1/lineage"
    nodes = client.get(path, headers=as_("tom")).json()["nodes"]
    (label,) = {node["label"] for node in nodes if node["label"].startswith("raw@1")}
    assert label == "raw@1\nCC-BY-4.0"
    assert 'label="raw@1\\nCC-BY-4.0"' in client.get(f"{path}?form=dot", headers=as_("tom")).text


FLAG = {"kind": "model", "target": "digits@1", "reason": "biased"}


def test_a_repeated_write_gets_the_first_answer_and_happens_once(rig: Rig, client: TestClient) -> None:
    headers = as_("eve", **{"idempotency-key": "k1"})
    first, again = (client.post("/v1/flags", json=FLAG, headers=headers) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(rig.events("quarantine.set")) == 1


@pytest.mark.parametrize(
    ("name", "path", "body", "status"),
    [
        ("tom", "/v1/flags", FLAG, 403), ("eve", "/v1/flags", {}, 400), ("eve", "/v1/flags", FLAG | {"target": "none@1"}, 404),
        ("stranger", "/v1/x", {}, 404), ("stranger", "/v1/flags", {"pad": "x" * MAX_BODY}, 413),
    ],
)  # fmt: skip
def test_who_is_refused_leaves_no_row(rig: Rig, client: TestClient, name: str, path: str, body: Any, status: int) -> None:
    for _ in range(2):
        answer = client.post(path, json=body, headers=as_(name, **{"idempotency-key": "k"}))
        problem(answer, status)
        assert "idempotency-replayed" not in answer.headers
    assert remembered(rig) == []


def test_a_refused_write_runs_again_once_it_may(rig: Rig, client: TestClient) -> None:
    headers, body = as_("eve", **{"idempotency-key": "k"}), FLAG | {"target": "digits@2"}
    problem(client.post("/v1/flags", json=body, headers=headers), 404)
    run = rig.train("run-2", [rig.datasets.get("raw@1")["id"]], {"w": b"2"})
    rig.register(run)
    assert client.post("/v1/flags", json=body, headers=headers).status_code == 201
    assert remembered(rig) == ["k"]


def test_an_answer_is_remembered_for_a_week(rig: Rig, client: TestClient, slow: Slow) -> None:
    slow.go.set()
    begun, week = rig.now, KEPT_MS // 1000
    for key, seconds in (("old", 0), ("young", 1)):
        rig.now = begun + seconds
        assert client.post("/v1/slow", headers=as_("eve", **{"idempotency-key": key})).status_code == 200
    rig.now = begun + week
    forget(rig.engine, rig.clock)
    assert remembered(rig) == ["old", "young"]
    rig.now = begun + week + 1
    forget(rig.engine, rig.clock)
    assert remembered(rig) == ["young"]
    calls = [client.post("/v1/slow", headers=as_("eve", **{"idempotency-key": key})).json()["calls"] for key in ("young", "old")]
    assert calls == [2, 3]


def remembered(rig: Rig) -> list[str]:
    """The keys whose answers are kept."""
    with rig.engine.connect() as connection:
        return list(connection.execute(select(table.c.key).order_by(table.c.key)).scalars())


@pytest.mark.parametrize("path", ["/v1/flags", "/v1/flags?x=1", "/v1/promotions"])
def test_a_key_used_for_another_request_is_refused(rig: Rig, client: TestClient, path: str) -> None:
    headers = as_("eve", **{"idempotency-key": "k1"})
    client.post("/v1/flags", json=FLAG, headers=headers)
    other = FLAG if "?" in path else FLAG | {"reason": "another"}
    assert "another request" in problem(client.post(path, json=other, headers=headers), 409)["detail"]
    assert len(rig.flags.active()) == 1


def test_keys_of_different_callers_are_different_keys(client: TestClient) -> None:
    key = {"idempotency-key": "k"}
    assert [client.post("/v1/flags", json=FLAG, headers=as_(name, **key)).status_code for name in ("tom", "eve")] == [403, 201]


def test_of_two_writes_with_one_key_at_once_one_waits_its_turn(client: TestClient, slow: Slow) -> None:
    headers, found = as_("eve", **{"idempotency-key": "k"}), list[httpx.Response]()
    first = threading.Thread(target=lambda: found.append(client.post("/v1/slow", headers=headers)))
    first.start()
    assert slow.entered.wait(10)
    busy = problem(client.post("/v1/slow", headers=headers), 409)
    slow.go.set()
    first.join()
    assert (busy["retryable"], found[0].json()) == (True, {"calls": 1})
    assert client.post("/v1/slow", headers=headers).json() == {"calls": 1}


def test_answers_that_end_while_others_are_stored_are_stored_together(rig: Rig, client: TestClient, slow: Slow) -> None:
    slow.go.set()
    inserts = list[int]()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if statement.startswith("INSERT INTO idempotency"):
            inserts.append(len(parameters) if many else 1)

    event.listen(rig.engine, "before_cursor_execute", note)
    keys = [f"k{number}" for number in range(6)]
    with ThreadPoolExecutor(len(keys)) as pool:
        with begin(rig.engine):
            answers = [pool.submit(client.post, "/v1/slow", headers=as_("eve", **{"idempotency-key": key})) for key in keys]
            while slow.calls < len(keys):
                time.sleep(0.01)
            time.sleep(0.3)  # until the last of them waits to be stored
        calls = {key: answer.result().json() for key, answer in zip(keys, answers, strict=True)}
    assert (remembered(rig), sum(inserts), len(inserts)) == (keys, len(keys), 2)
    assert {key: client.post("/v1/slow", headers=as_("eve", **{"idempotency-key": key})).json() for key in keys} == calls


def test_an_answer_that_cannot_be_stored_is_not_in_the_way_of_others(rig: Rig, client: TestClient, slow: Slow) -> None:
    row = {"actor": person_id("eve"), "key": "k1", "request": "another process", "status": 200, "body": b"", "at": 0}
    keys = [f"k{number}" for number in range(4)]
    with ThreadPoolExecutor(len(keys)) as pool:
        answers = [pool.submit(client.post, "/v1/slow", headers=as_("eve", **{"idempotency-key": key})) for key in keys]
        while slow.calls < len(keys):
            time.sleep(0.01)
        with begin(rig.engine) as connection:
            connection.execute(insert(table), row)
            slow.go.set()
            time.sleep(0.3)  # until the last of them waits to be stored
        assert [answer.result().status_code for answer in answers] == [200] * len(keys)
    assert remembered(rig) == keys
    for key in ("k0", "k2", "k3"):
        assert client.post("/v1/slow", headers=as_("eve", **{"idempotency-key": key})).headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_of_a_wrong_length_is_refused(client: TestClient, key: str) -> None:
    problem(client.post("/v1/flags", json=FLAG, headers=as_("eve", **{"idempotency-key": key})), 400)


def test_a_stranger_leaves_no_remembered_answer(client: TestClient) -> None:
    first, again = (client.post("/v1/flags", json=FLAG, headers={"idempotency-key": "k"}) for _ in range(2))
    problem(first, 401)
    assert "idempotency-replayed" not in again.headers


def test_a_failure_of_the_signer_is_retryable_and_not_remembered(rig: Rig, client: TestClient) -> None:
    rig.train("run-2", [rig.datasets.get("raw@1")["id"]], {"w": b"2"})
    rig.signers["builder"].faults = {rig.signers["builder"].calls: "fails"}
    headers, body = as_("tom", **{"idempotency-key": "k"}), {"run": "run-2", "riskClass": "high"}
    answer = client.post("/v1/models/digits/versions", json=body, headers=headers)
    assert (problem(answer, 503)["retryable"], answer.headers["retry-after"]) == (True, "1")
    assert client.post("/v1/models/digits/versions", json=body, headers=headers).status_code == 201
    assert rig.models.get("digits", 2)["registered_by"] == TOM


def test_a_conflict_is_not_remembered(rig: Rig, client: TestClient) -> None:
    headers, body = as_("tom", **{"idempotency-key": "k"}), {"run": "run-9", "riskClass": "high"}
    rig.runs.running.add("run-9")
    problem(client.post("/v1/models/digits/versions", json=body, headers=headers), 409)
    again = client.post("/v1/models/digits/versions", json=body, headers=headers)
    assert "idempotency-replayed" not in again.headers
