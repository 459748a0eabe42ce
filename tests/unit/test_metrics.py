"""What a service tells Prometheus: which requests are counted under which names, and that no value breaks a scrape."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from services.core.errors import NotFound, Unavailable
from services.core.http import create_app
from services.core.metrics import Gauge

SCRAPER = "spiffe://ai-infra.local/service/prometheus"


def away() -> float:
    raise Unavailable("the database is away")


@pytest.fixture
def app() -> FastAPI:
    app = create_app("test", gauges=[Gauge("tests_now", "A value.", lambda: 7), Gauge("tests_away", "None.", away)])

    @app.get("/things/{thing}")
    def get(thing: str) -> dict[str, Any]:
        if thing == "absent":
            raise NotFound("no such thing")
        return {"odd": 1 / int(thing)}

    return app


def call(app: FastAPI, *requests: tuple[str, str], caller: str | None = SCRAPER) -> list[httpx.Response]:
    """In order, as a client whose certificate says so."""
    async def known(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"spiffe_id": caller}, receive, send)

    async def run() -> list[httpx.Response]:
        transport = httpx.ASGITransport(known, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [await client.request(method, path) for method, path in requests]

    return asyncio.run(run())


def samples(text: str) -> Iterator[tuple[tuple[str, ...], float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = [sample.labels[key] for key in ("method", "route", "status") if key in sample.labels]
            yield (sample.name, *labels), sample.value


def scraped(app: FastAPI) -> dict[tuple[str, ...], float]:
    [response] = call(app, ("GET", "/metrics"))
    assert response.status_code == 200
    return dict(samples(response.text))


def test_requests_are_counted_by_route_and_never_by_path(app: FastAPI) -> None:
    before = scraped(app)
    things = ("1", "2", "absent", "0")
    call(app, *(("GET", f"/things/{thing}") for thing in things), ("BREW", "/nothing/here"))
    after = scraped(app)
    rose = {key: value - before.get(key, 0) for key, value in after.items() if key[0] == "ai_infra_http_requests_total"}
    assert {key[1:]: value for key, value in rose.items() if value} == {
        ("GET", "/things/{thing}", "200"): 2,
        ("GET", "/things/{thing}", "404"): 1,
        ("GET", "/things/{thing}", "500"): 1,
        ("other", "unmatched", "404"): 1,
        ("GET", "/metrics", "200"): 1,
    }
    timed = ("ai_infra_http_request_seconds_count", "GET", "/things/{thing}")
    assert after[timed] - before.get(timed, 0) == 4


def test_a_value_that_cannot_be_read_is_left_out_and_the_others_are_told(app: FastAPI) -> None:
    found = scraped(app)
    assert found[("tests_now",)] == 7
    assert ("tests_away",) not in found


def test_without_a_certificate_nothing_is_told(app: FastAPI) -> None:
    [response] = call(app, ("GET", "/metrics"), caller=None)
    assert response.status_code == 401
    assert "ai_infra" not in response.text
