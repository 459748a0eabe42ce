"""The log over HTTP: who may append, what is answered, and that `/v1/audit` is a tlog-tiles prefix."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from services.audit.http import create_router
from services.core import logcheck, tlog
from services.core.errors import NotFound, Refused
from services.core.http import create_app
from tests.audit import API, PROXY, Home, chained, event, events

ADA, STRANGER = (f"spiffe://ai-infra.local/person/{name}" for name in ("ada", "stranger"))


class As:
    """What the TLS layer does: it tells the app who the client is."""

    def __init__(self, app: ASGIApp, who: str | None) -> None:
        self._app, self.who = app, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "spiffe_id": self.who}, receive, send)


class Rig:
    def __init__(self, home: Home) -> None:
        self.home, self.asked = home, list[tuple[str, str]]()
        self.audit = home.open()
        app = create_app("test")
        app.include_router(create_router(self.audit, self.authorise))
        self._client_is = As(app, API)
        self.client = TestClient(self._client_is, raise_server_exceptions=False)

    def authorise(self, actor: str, operation: str) -> None:
        self.asked.append((actor, operation))
        if actor == STRANGER:
            raise Refused("no role")

    def by(self, who: str | None) -> TestClient:
        self._client_is.who = who
        return self.client


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(Home(tmp_path))
    yield made
    made.client.close()


def test_a_service_appends_its_own_events(rig: Rig) -> None:
    assert rig.by(API).post("/v1/audit/events", json={"events": events(3)}).json() == {"indexes": [0, 1, 2]}
    made = event(1, PROXY, type="signature.made")
    assert rig.by(PROXY).post("/v1/audit/events", json={"events": [made]}).json() == {"indexes": [3]}


@pytest.mark.parametrize(
    ("who", "body", "status", "title"),
    [
        (ADA, {"events": [event(1, ADA)]}, 403, "Refused"),
        (None, {"events": events(1)}, 401, "Unauthenticated"),
        (PROXY, {"events": events(1)}, 403, "Refused"),
        (API, {"events": [event(1), event(1, PROXY)]}, 403, "Refused"),
        (API, {"events": [event(2)]}, 409, "Gap"),
        (API, {"events": [{"source": API}]}, 400, "BadInput"),
        (API, {"events": []}, 400, "BadInput"),
        (API, {"events": ["x"]}, 400, "BadInput"),
        (API, {"events": events(1), "more": 1}, 400, "BadInput"),
        (API, {}, 400, "BadInput"),
        (API, {"events": [event(1, payload={"text": "x" * 65_535})]}, 413, "TooLarge"),
    ],
)
def test_what_may_not_be_appended_is_refused_by_name(rig: Rig, who: str, body: object, status: int, title: str) -> None:
    answer = rig.by(who).post("/v1/audit/events", json=body)
    assert (answer.status_code, answer.json()["title"], rig.audit.size()) == (status, title, 0)


def test_a_known_id_with_another_body_is_a_conflict(rig: Rig) -> None:
    rig.audit.append(events(1))
    answer = rig.by(API).post("/v1/audit/events", json={"events": [event(1, payload={})]})
    assert (answer.status_code, answer.json()["title"], answer.json()["retryable"]) == (409, "KnownEvent", False)


def test_people_read_entries(rig: Rig) -> None:
    rig.audit.append([*events(4), event(5, type="rollback")])
    client = rig.by(ADA)
    indexes = [
        [entry["index"] for entry in client.get(f"/v1/audit/events{query}").json()["entries"]]
        for query in ("", "?tail=2", "?type=rollback", "?subjectKind=model&subjectId=digits@2", "?after=1&limit=2", "?type=none")
    ]
    assert indexes == [[0, 1, 2, 3, 4], [3, 4], [4], [1], [2, 3], []]
    assert client.get("/v1/audit/events/2").json()["event"]["id"] == event(3)["id"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("events/7", 404),
        ("events/-1", 400),
        ("events/x", 400),
        ("events?tail=0", 400),
        ("events?limit=1001", 400),
        ("proof/7", 404),
        ("proof/0", 503),
        ("checkpoint", 503),
        ("tile/0/007", 404),
        ("tile/0/7", 400),
        ("tile/0/%2e%2e/checkpoint", 400),
    ],
)
def test_what_is_not_there_is_told_by_its_status(rig: Rig, path: str, status: int) -> None:
    rig.audit.append(events(1))
    assert rig.by(ADA).get(f"/v1/audit/{path}").status_code == status


@pytest.mark.parametrize("path", ["events", "events/0", "proof/0", "checkpoint", "tile/0/000"])
def test_nobody_reads_without_an_identity(rig: Rig, path: str) -> None:
    rig.home.filled(1)
    assert rig.by(None).get(f"/v1/audit/{path}").status_code == 401


def test_a_proof_fetched_over_http_verifies(rig: Rig) -> None:
    rig.home.filled(20)
    answer = rig.by(ADA).get("/v1/audit/proof/7")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert tlog.verify_proof(answer.text, chained(events(20))[7], rig.home.vkey)[0] == 7


def test_the_whole_log_is_checked_through_its_urls(rig: Rig) -> None:
    rig.home.filled(300)
    client = rig.by(ADA)

    class Reader:
        def read(self, path: str, limit: int) -> bytes:
            answer = client.get(f"/v1/audit/{path}")
            if answer.status_code == 404:
                raise NotFound(path)
            return bytes(answer.content)

    report = logcheck.check_log(Reader(), rig.home.vkey)
    assert (report.size, report.problems) == (300, ())


@pytest.mark.parametrize("path", ["events", "events/0", "proof/0", "tile/0/000.p/3", "tile/entries/000.p/3"])
def test_reading_takes_a_role_and_keeping_a_checkpoint_a_certificate(rig: Rig, path: str) -> None:
    rig.home.filled(3)
    assert [rig.by(who).get(f"/v1/audit/{path}").status_code for who in (ADA, STRANGER)] == [200, 403]
    assert rig.asked == [(ADA, "audit.read"), (STRANGER, "audit.read")]
    assert [rig.by(who).get("/v1/audit/checkpoint").status_code for who in (STRANGER, None)] == [200, 401]
