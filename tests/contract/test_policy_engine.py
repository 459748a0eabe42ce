"""What every policy engine owes, whichever it is."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core import backends as core_backends
from services.core.bundle import DATA, Bundle
from services.core.errors import BadSetting
from services.core.rego import EvaluationFailed
from services.core.verdict import decide
from services.sentinelnet import backends
from services.sentinelnet.backends import wasm
from services.sentinelnet.backends.wasm import PROGRAMS_KEPT
from services.sentinelnet.errors import PolicyUnavailable
from services.sentinelnet.ports import PolicyEngine
from services.sentinelnet.program import MOST_PAGES, PAGE
from tests.peers import need
from tests.sentinelnet import BUNDLE, GOOD, blocking, edited, opa_server

PROGRAM_BYTES = 4 << 30
"""What WebAssembly reserves for a memory, whose addresses have 32 bits."""

TRAIN = {**GOOD["train"], "action": "train"}


@pytest.fixture(scope="module", params=core_backends.names(backends))
def engine(request: pytest.FixtureRequest) -> Iterator[PolicyEngine]:
    module = core_backends.load(backends, request.param)
    if request.param == "opa":
        with opa_server(need("opa")) as url:
            yield module.open_engine(url)
    else:
        yield module.open_engine(need("opa") if request.param == "wasm" else "")


@pytest.mark.parametrize("action", sorted(GOOD))
def test_every_rule_of_the_action_reports_once(action: str, engine: PolicyEngine) -> None:
    raw = engine.evaluate(BUNDLE, {**GOOD[action], "action": action})
    assert sorted(report["rule"] for report in raw) == sorted(BUNDLE.rules_for(action))


def test_each_bundle_is_evaluated_by_itself(engine: PolicyEngine) -> None:
    blocked = blocking("sha256:" + "d" * 64)
    found = [decide(engine.evaluate(b, TRAIN), b.rules_for("train")).verdict for b in (BUNDLE, blocked, BUNDLE, blocked)]
    assert found == ["pass", "deny", "pass", "deny"]


def test_unknown_action_gets_no_report(engine: PolicyEngine) -> None:
    assert engine.evaluate(BUNDLE, {"action": "dance"}) == []


def test_bundle_that_does_not_compile_fails_and_the_next_one_works(engine: PolicyEngine) -> None:
    with pytest.raises(EvaluationFailed):
        engine.evaluate(edited({"lib/lib.rego": b"package sentinelnet.lib\n\nimport rego.v1\n\nreport :=\n"}), TRAIN)
    assert decide(engine.evaluate(BUNDLE, TRAIN), BUNDLE.rules_for("train")).passed


def test_rule_with_two_values_fails(engine: PolicyEngine) -> None:
    body = b"package sentinelnet.dataset.pii\n\nimport rego.v1\n\nreport := 1 if input.now\n\nreport := 2 if input.now\n"
    with pytest.raises(EvaluationFailed):
        engine.evaluate(edited({"dataset/pii/pii.rego": body}), TRAIN)


def test_undefined_entry_point_fails(engine: PolicyEngine) -> None:
    body = b"package sentinelnet\n\nimport rego.v1\n\ndecision := 1 if input.missing\n"
    with pytest.raises(EvaluationFailed):
        engine.evaluate(edited({"decision.rego": body}), TRAIN)


def test_opa_that_restarted_or_was_loaded_by_others_is_loaded_again() -> None:
    import httpx

    with opa_server(need("opa")) as url:
        engine = core_backends.load(backends, "opa").open_engine(url)
        assert decide(engine.evaluate(BUNDLE, TRAIN), BUNDLE.rules_for("train")).passed
        httpx.put(f"{url}/v1/data", json={}).raise_for_status()
        httpx.put(f"{url}/v1/policies/stray", content="package stray\n").raise_for_status()
        assert decide(engine.evaluate(BUNDLE, TRAIN), BUNDLE.rules_for("train")).passed
        kept = {item["id"] for item in httpx.get(f"{url}/v1/policies").json()["result"]}
        assert kept == {f"ai-infra/{path}" for path in BUNDLE.modules}
    with pytest.raises(PolicyUnavailable, match="did not answer"):
        engine.evaluate(BUNDLE, TRAIN)


@pytest.mark.parametrize("url", ["http://opa.example:8181", "ftp://127.0.0.1", "", "http://10.0.0.1:8181"])
def test_opa_in_the_clear_is_refused_beyond_loopback(url: str) -> None:
    with pytest.raises(BadSetting, match="want https"):
        core_backends.load(backends, "opa").open_engine(url)


def _asking(expression: str) -> Bundle:
    return Bundle({"decision.rego": f"package sentinelnet\n\nimport rego.v1\n\ndecision := {expression}\n".encode(), DATA: b"{}"})


def test_program_takes_large_inputs_and_refuses_those_beyond_its_memory() -> None:
    engine, length = wasm.open_engine(need("opa")), _asking("count(input.text)")
    for size in (10, 8 << 20, 10):
        assert engine.evaluate(length, {"text": "a" * size}) == size
    with pytest.raises(EvaluationFailed):
        engine.evaluate(length, {"text": "a" * (MOST_PAGES * PAGE)})
    assert engine.evaluate(length, {"text": "abc"}) == 3


def test_program_answers_however_often_it_is_asked() -> None:
    # 200 times 2 MiB: more than its memory, if an evaluation left something behind.
    engine, length, text = wasm.open_engine(need("opa")), _asking("count(input.text)"), "a" * (2 << 20)
    assert {engine.evaluate(length, {"text": text}) for _ in range(200)} == {2 << 20}


def test_programs_of_former_bundles_give_their_memory_back() -> None:
    engine, before = wasm.open_engine(need("opa")), _address_space()
    for number in range(12):
        assert engine.evaluate(_asking(f"{number} + input.one"), {"one": 1}) == number + 1
    for _ in range(12):
        with pytest.raises(EvaluationFailed):
            engine.evaluate(_asking('time.parse_rfc3339_ns("2026-01-01T00:00:00Z")'), {})
    assert (_address_space() - before) / PROGRAM_BYTES < PROGRAMS_KEPT + 2


def _address_space() -> int:
    """Bytes of this process (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@pytest.mark.parametrize(("expression", "why"), [
    ('time.parse_rfc3339_ns("2026-01-01T00:00:00Z")', "time.parse_rfc3339_ns, which is not here"),
    ('sprintf("%d", ["a"])', "no %d of 'a'"),
    ('sprintf("%s", ["a", "b"])', "too many values"),
])  # fmt: skip
def test_program_fails_where_it_would_not_answer_as_opa_does(expression: str, why: str) -> None:
    with pytest.raises(EvaluationFailed, match=why):
        wasm.open_engine(need("opa")).evaluate(_asking(expression), {})


def test_program_needs_the_compiler_at_the_start_and_for_each_new_bundle(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"/absent/opa is no program: .*AI_INFRA_POLICY_URL"):
        wasm.open_engine("/absent/opa")
    compiler = tmp_path / "opa"
    compiler.symlink_to(need("opa"))
    engine = wasm.open_engine(str(compiler))
    assert decide(engine.evaluate(BUNDLE, TRAIN), BUNDLE.rules_for("train")).passed
    compiler.unlink()
    assert decide(engine.evaluate(BUNDLE, TRAIN), BUNDLE.rules_for("train")).passed
    with pytest.raises(PolicyUnavailable, match="did not compile the policies: FileNotFoundError"):
        engine.evaluate(blocking("sha256:" + "d" * 64), TRAIN)


@pytest.mark.parametrize("name", ["regopy", "wasm"])
def test_embedded_engine_is_refused_in_production(name: str) -> None:
    with pytest.raises(BadSetting, match="for development"):
        core_backends.load(backends, name, env="prod")
    assert core_backends.load(backends, "opa", env="prod").PRODUCTION
