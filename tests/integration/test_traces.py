"""A real collector sees one promotion as one trace through both processes; one that is away or stalled costs spans only."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.client import Client
from services.core.errors import NotFound
from services.supervisor import Platform, free_ports
from tests import signing as world
from tests.chaos import home as homes
from tests.chaos.clients import APPROVERS
from tests.integration.test_signing_proxy import PERSON, make_home, start_world
from tests.ports import free_port
from tests.serving import wait_for
from tests.traces import Collector, Span, collector

TRACE, OTHER = "ab" * 16, "12" * 16
CALLER = "cd" * 8
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
"""Milliseconds between batches."""


def traceparent(trace: str) -> str:
    return f"00-{trace}-{CALLER}-01"


@dataclass
class Traced:
    """A promotion that a client with a trace of its own carried out."""

    platform: Platform
    collector: Collector
    promotion: str

    def spans(self, trace: str = TRACE) -> list[Span]:
        """All of a trace, once the parents of all are there and no more come: each process tells its own spans when it likes, and
        those of a request after its steps."""
        wait_for(lambda: [span for span in self.collector.trace(trace) if span.name == EXECUTION], "the promotion's span")
        wait_for(lambda: self._whole(trace), "the spans that others are within")
        told = 0
        while told < (told := len(self.collector.trace(trace))):
            time.sleep(1)
        return self.collector.trace(trace)

    def _whole(self, trace: str) -> bool:
        found = self.collector.trace(trace)
        return {span.parent for span in found} <= {span.id for span in found} | {CALLER, ""}


EXECUTION = "POST /v1/promotions/{promotion_id}/execution"


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    home = homes.make(tmp_path_factory.mktemp("traced"), "sqlite").home
    with collector() as told, Platform(home, free_ports(), {"OTEL_EXPORTER_OTLP_ENDPOINT": told.url} | SOON) as platform:
        with Client.connect(home, "petra", traceparent=traceparent(TRACE)) as petra:
            asked = petra.request_promotion("warm@1", "staging")["id"]
            for name in APPROVERS:
                with Client.connect(home, name) as approver:
                    approver.approve(asked)
            petra.promote(asked)
        yield Traced(platform, told, asked)


def edges(spans: list[Span]) -> set[tuple[str, str, str]]:
    """(service, span, what it is within)."""
    names = {span.id: span.name for span in spans}
    return {(span.service, span.name, names.get(span.parent, span.parent)) for span in spans}


def below(spans: list[Span], top: Span) -> list[Span]:
    own = [span for span in spans if span.parent == top.id]
    return [top, *(found for span in own for found in below(spans, span))]


def test_one_promotion_is_one_trace_through_api_proxy_and_log(traced: Traced) -> None:
    spans = traced.spans()
    [top] = [span for span in spans if span.name == EXECUTION]
    model, statement = "POST /v1/sign/model", "POST /v1/sign/statement"
    assert edges(below(spans, top)) == {
        ("api", EXECUTION, CALLER),
        ("api", "policy evaluation", EXECUTION),
        ("api", "object store read", EXECUTION),
        ("api", "object store write", EXECUTION),
        ("api", "policy decision", EXECUTION),
        ("api", "policy evaluation", "policy decision"),
        ("api", "object store write", "policy decision"),
        ("api", "audit append", "policy decision"),
        ("api", "audit append", EXECUTION),
        *(
            edge
            for request in (statement, model)
            for edge in (
                ("signing-proxy", request, EXECUTION),
                ("signing-proxy", "audit append", request),
                ("signing-proxy", "signature", request),
            )
        ),
        ("api", "POST /v1/audit/events", "audit append"),
    }
    keys = [span.attributes["ai_infra.key"] for span in below(spans, top) if span.name == "signature"]
    assert sorted(map(str, keys)) == ["manifest", "manifest", "sentinelnet"]


def test_a_span_of_a_request_says_route_method_status_and_its_id(traced: Traced) -> None:
    [top] = [span for span in traced.spans() if span.name == EXECUTION]
    request_id = top.attributes["ai_infra.request_id"]
    assert re.fullmatch(r"req-[0-9a-f]{32}", str(request_id))
    assert top.attributes == {
        "http.request.method": "POST",
        "http.route": EXECUTION.split()[1],
        "http.response.status_code": 200,
        "ai_infra.request_id": request_id,
    }


def test_no_span_tells_who_asked_for_what(traced: Traced) -> None:
    traced.spans()
    told = b"".join(traced.collector.raw)
    for private in (b"petra", *(name.encode() for name in APPROVERS), b"warm", b"spiffe", b"127.0.0.1", traced.promotion.encode()):
        assert private not in told
    keys = {key for span in traced.collector.spans for key in span.attributes}
    assert keys - {"error.type"} == {
        "http.request.method",
        "http.route",
        "http.response.status_code",
        "ai_infra.request_id",
        "ai_infra.action",
        "ai_infra.key",
    }


def test_events_say_which_request_caused_them(traced: Traced) -> None:
    with Client.connect(traced.platform.home, "aude") as auditor:
        events = auditor.events(tail=100)
        found = {entry["event"]["type"] for entry in events if entry["event"]["traceId"] == TRACE}
        assert found == {"promotion.requested", "policyCheck", "signature.requested", "signature.made", "promotion.completed"}
        assert auditor.audit_verify()["problems"] == []


def test_what_machines_ask_every_few_seconds_is_not_traced(traced: Traced) -> None:
    traced.spans()
    assert not {span.name for span in traced.collector.spans} & {"GET /healthz", "GET /metrics"}


def test_steps_outside_of_a_request_are_not_told(traced: Traced) -> None:
    traced.spans()
    assert {span.name.split()[0] for span in traced.collector.spans if not span.parent} <= {"GET", "POST", "PUT", "DELETE"}


@pytest.mark.parametrize(("given", "parents"), [(traceparent(OTHER), {CALLER}), ("00-no-trace", {""})], ids=["a trace", "none"])
def test_a_command_belongs_to_the_trace_of_its_pipeline(given: str, parents: set[str], traced: Traced) -> None:
    home, route = traced.platform.home, "GET /v1/promotions/{promotion_id}"
    before = len(traced.collector.spans)
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "promotion", "show", traced.promotion, "--as", "petra"],
        env=os.environ | {"AI_INFRA_HOME": str(home.root), "AI_INFRA_PEOPLE": str(home.people), "TRACEPARENT": given},
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: [span for span in traced.collector.spans[before:] if span.name == route], "the command's span")
    assert {span.parent for span in traced.collector.spans[before:] if span.name == route} == parents


def test_a_refusal_is_no_failure_of_the_service(traced: Traced) -> None:
    with Client.connect(traced.platform.home, "petra", traceparent=traceparent("34" * 16)) as petra, pytest.raises(NotFound):
        petra.promotion("prm-absent")
    [span] = [span for span in wait_for(lambda: traced.collector.trace("34" * 16), "its spans") if span.parent == CALLER]
    assert (span.attributes["http.response.status_code"], span.failed) == (404, False)


proxy_world = contextmanager(start_world)


def sign(proxy: Any, samples: int) -> bytes:
    signed: bytes = proxy.sign_statement("evaluator", world.evaluation(samples=samples).to_statement(), {}, PERSON)
    return signed


def test_a_signature_needs_no_collector(tmp_path: Path) -> None:
    with proxy_world(make_home(tmp_path), {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"} | SOON) as running:
        with closing(running.client()) as proxy:
            assert all(sign(proxy, samples) for samples in range(1, 6))
        running.processes[-1].terminate()
        _, errors = running.processes[-1].communicate(timeout=15)
        # A line for each batch that was lost, at most.
        assert running.processes[-1].returncode == -signal.SIGTERM
        assert all(" signing-proxy: ERROR Failed to export spans batch" in line for line in errors.splitlines())


def test_a_stalled_collector_loses_spans_and_later_ones_arrive(tmp_path: Path) -> None:
    few = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    with collector() as told:
        told.answers.clear()
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": told.url} | SOON | few
        with proxy_world(make_home(tmp_path), settings) as running, closing(running.client()) as proxy:
            assert all(sign(proxy, samples) for samples in range(1, 21))
            told.answers.set()
            wait_for(lambda: told.spans, "what was not lost")
            before, more = len(told.spans), itertools.count(21)
            wait_for(lambda: sign(proxy, next(more)) and _whole(told.spans[before:]), "a whole request")
    assert len([span for span in told.spans if span.name == "POST /v1/sign/statement"]) < next(more) - 1


def _whole(spans: list[Span]) -> bool:
    served = {span.trace for span in spans if span.name == "POST /v1/sign/statement"}
    return any({span.name for span in spans if span.trace == trace} >= {"signature", "audit append"} for trace in served)


def test_an_orderly_end_sends_what_is_left(tmp_path: Path) -> None:
    late = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
    with collector() as told:
        with proxy_world(make_home(tmp_path), {"OTEL_EXPORTER_OTLP_ENDPOINT": told.url} | late) as running:
            with closing(running.client()) as proxy:
                sign(proxy, 1)
            assert told.spans == []
            running.processes[-1].terminate()
            running.processes[-1].communicate(timeout=15)
        assert {"POST /v1/sign/statement", "signature", "audit append"} <= {span.name for span in told.spans}
