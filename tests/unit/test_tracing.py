"""Tracing within one process: nothing of it when it is off, what an error leaves in spans and log, which settings are refused."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.api.settings import Settings
from services.core.errors import BadSetting
from services.signing.settings import Settings as SigningSettings
from tests.traces import collector

OFF = """
import sys
import services.api.bootstrap, services.signing.bootstrap
from services.core import tracing

tracing.start("api", "dev", "")
app = object()
assert tracing.traced(app) is app and tracing.traced_store(app) is app
with tracing.step("policy decision", action="promote"):
    assert (tracing.headers(), tracing.trace_id()) == ({}, "")
print(sorted(name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))))
"""

FAILING = """
import asyncio, logging, sys
import httpx
from services.core import logs, tracing
from services.core.http import create_app

tracing.start("api", "dev", sys.argv[1])
logs.configure("api", logging.INFO)
app = create_app("test")

@app.get("/v1/things/{thing}")
def broken(thing: str) -> None:
    with tracing.step("signature", key="builder"):
        logging.getLogger("test").info("asked")
        raise RuntimeError("a secret")

async def run():
    asgi = tracing.traced(app)
    transport = httpx.ASGITransport(asgi, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/v1/things/private?who=somebody", headers={"tracestate": "vendor=private"})
    print(answer.status_code, answer.headers["x-request-id"])
    logging.getLogger("test").info("over")
    async def receive():
        return {"type": "lifespan.startup"} if not sent else {"type": "lifespan.shutdown"}
    sent = []
    async def send(message):
        sent.append(message)
    await asgi({"type": "lifespan"}, receive, send)

asyncio.run(run())
"""

NOT_INSTALLED = """
import sys
sys.modules["opentelemetry.sdk"] = None
from services.core import tracing
tracing.start("api", "dev", "http://collector.example:4318")
"""


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


def test_without_a_collector_no_sdk_is_loaded_and_nothing_is_wrapped() -> None:
    done = python(OFF)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_an_error_is_in_the_log_and_in_its_trace_and_its_message_in_no_span() -> None:
    with collector() as told:
        done = python(FAILING, told.url)
    status, request_id = done.stdout.split()
    [step, request] = told.spans
    assert (status, request.attributes["ai_infra.request_id"]) == ("500", request_id), done.stderr
    assert (request.name, request.failed, request.attributes["error.type"]) == ("GET /v1/things/{thing}", True, "500")
    assert (step.name, step.parent, step.failed) == ("signature", request.id, True)
    assert step.attributes == {"ai_infra.key": "builder", "error.type": "RuntimeError"}
    lines = [line.partition(" ")[2] for line in done.stderr.splitlines()]  # without the moment
    assert f"api: INFO asked trace_id={step.trace}" in lines
    told_error = f"api: ERROR unexpected error in GET '/v1/things/private', request {request_id} trace_id={step.trace}"
    assert told_error in lines
    assert "api: INFO over" in lines
    assert not [word for word in (b"secret", b"private", b"somebody") if word in b"".join(told.raw)]


def test_packages_that_are_missing_are_named_with_the_remedy() -> None:
    done = python(NOT_INSTALLED)
    assert "install ai-infra[traces], or take the variable away" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("settings", [Settings, SigningSettings])
@pytest.mark.parametrize("url", ["collector:4318", "grpc://collector:4317"])
def test_a_collector_is_a_url_of_http(settings: type[Settings] | type[SigningSettings], url: str, tmp_path: Path) -> None:
    environ = {"AI_INFRA_HOME": str(tmp_path)}
    assert settings.from_env(environ).collector == ""
    assert settings.from_env({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}).collector == "http://c:4318"
    with pytest.raises(BadSetting, match="OTEL_EXPORTER_OTLP_ENDPOINT"):
        settings.from_env({**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": url})
