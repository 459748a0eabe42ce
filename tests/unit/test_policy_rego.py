"""The embedded engine: what it may not run, and what it answers when a policy misbehaves."""

import json
from typing import Any

import pytest

from services.core import rego
from services.core.bundle import BadBundle, Bundle
from services.core.errors import BadJson
from services.core.rego_lint import problems
from tests.sentinelnet import BUNDLE, GOOD, NOW

RULE = "authz/operation/operation.rego"
PASS = '{"rule": "authz.operation", "verdict": "pass", "reasons": []}'
DENY = '{"rule": "authz.operation", "verdict": "deny", "reasons": ["no"]}'
HEAD = "package sentinelnet.authz.operation\n\nimport rego.v1\n\n"
DECISION = """package sentinelnet

import rego.v1

wanted := object.get(data.actions, input.action, [])

decision contains data.sentinelnet.authz.operation.report if "authz.operation" in wanted
"""


def _with(body: str, decision: str = DECISION, limits: str = "{}") -> Bundle:
    """A bundle of one rule, which compiles quickly."""
    data = f'{{"actions": {{"authz": ["authz.operation"]}}, "limits": {limits}}}'
    return Bundle({"data.json": data.encode(), "decision.rego": decision.encode(), RULE: (HEAD + body).encode()})


@pytest.mark.parametrize("action", sorted(GOOD))
def test_good_input_passes(action: str) -> None:
    assert rego.verdict_on(BUNDLE, {**GOOD[action], "action": action}).refusals == []


@pytest.mark.parametrize("action", ["dance", "", None, 7, ["train"]])
def test_unknown_action_is_denied(action: Any) -> None:
    assert rego.verdict_on(BUNDLE, {**GOOD["train"], "action": action}).verdict == "deny"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("report := rego.metadata.chain()\n", "the rule did not report"),
        (f'report := {PASS} if net.cidr_contains("0.0.0.0/0", "1.1.1.1")\n', "the rule did not report"),
        ("report := {} if false\n", "the rule did not report"),
        ("report := {1, 2}\n", "the rule did not report"),
        ('report := {"rule": "authz.operation", "verdict": "pass", "reasons": set()} if 1 / 0\n', "the rule did not report"),
        ('report := {"rule": "authz.operation", "verdict": "allow", "reasons": []}\n', "the rule's report is malformed"),
        ("report := no_such_function(1)\n", "the policy could not be evaluated"),
        ("report :=\n", "the policy could not be evaluated"),
        ("report := 1\n\nreport := 2\n", "the policy could not be evaluated"),
    ],
)
def test_rule_that_gives_nothing_or_breaks_denies(body: str, reason: str) -> None:
    found = rego.verdict_on(_with(body), {**GOOD["authz"], "action": "authz"})
    assert found.verdict == "deny"
    assert found.reports[0].rule == "authz.operation"
    assert found.reports[0].reasons[0].startswith(reason)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("report :=\n", "the policy could not be evaluated: the bundle does not compile: Invalid assignment operator"),
        ("report := 1\n\nreport := 2\n", "the policy could not be evaluated: data.sentinelnet.decision is undefined"),
        ("report := no_such_function(1)\n", "the policy could not be evaluated: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_why_the_engine_gave_nothing_is_said(body: str, reason: str) -> None:
    found = rego.verdict_on(_with(body), {**GOOD["authz"], "action": "authz"})
    assert found.reports[0].reasons == (reason,)


def test_what_the_engine_says_is_cut_and_never_empty() -> None:
    assert rego._first_line(ValueError("a\n b  c")) == "a b c"
    assert rego._first_line(ValueError("x" * 400)) == "x" * 300
    assert rego._first_line(KeyError()) == "KeyError"
    assert rego._first_line(ValueError("(errormsg 12:no such thing) (file)")) == "no such thing"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("report := time.now_ns()\n", "a decision must be repeatable"),
        ("report := time.now_ns()\n\nx := rand.intn(`x`, 2)\n", "repeatable (and 1 more: `ai-infra policy lint`)"),
        ("report := time.now_ns()\n\nx := rand.intn(`x`, 2)\n\ny := max([1])\n", "(and 2 more: `ai-infra policy lint`)"),
        ('report := {"rule": "authz.operation", "verdict": "allow", "reasons": []}\n',
         "['pass', 'remediate', 'quarantine', 'deny']"),
    ],
)  # fmt: skip
def test_a_refused_bundle_says_the_first_problem_and_how_many_more(body: str, told: str) -> None:
    with pytest.raises(BadBundle) as refused:
        rego.check_bundle(_with(body))
    assert str(refused.value).endswith(told)


def test_two_reports_of_one_rule_do_not_make_a_bundle() -> None:
    twice = f"{DECISION}\ndecision contains {DENY}\n"
    with pytest.raises(BadBundle, match="the rule reported 2 times"):
        rego.check_bundle(_with(f"report := {PASS}\n", twice))


@pytest.mark.parametrize("beside", [{}, {"share": 0.1}], ids=["without a fraction", "beside a fraction"])
@pytest.mark.parametrize("text", ["é\U0001f600", 'a"b\\c', "a\nb\u0001", "a\\nb"])
def test_texts_are_compared_as_written(text: str, beside: dict[str, Any]) -> None:
    written = json.dumps(text, ensure_ascii=False)
    bundle = _with(f"report := {PASS} if {{input.actor, input.roles[{written}]}} == {{{written}}}\n")
    given = {**GOOD["authz"], "action": "authz", **beside}
    assert rego.verdict_on(bundle, {**given, "actor": text, "roles": {text: text}}).passed
    assert not rego.verdict_on(bundle, {**given, "actor": text + "x", "roles": {text: text}}).passed


def test_the_bundles_used_last_stay_compiled() -> None:
    given = {**GOOD["authz"], "action": "authz"}
    bundles = [_with(f"report := {PASS}\n\nnumber := {number}\n") for number in range(rego.COMPILED_KEPT + 1)]
    for bundle in bundles[:-1]:
        rego.evaluate(bundle, given)
    kept = [bundle.revision for bundle in bundles[:-1]]
    assert list(rego._cache) == kept
    rego.evaluate(bundles[0], given)
    rego.evaluate(bundles[-1], given)
    assert list(rego._cache) == [*kept[2:], kept[0], bundles[-1].revision]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('report := net.cidr_contains("10.0.0.0/8", input.ip)\n', r"net\.cidr_contains can answer differently"),
        ("report := json.match_schema(input, {})\n", r"json\.match_schema is no built-in that"),
        ("report := time.now_ns()\n", "repeatable"),
        ('report := time.parse_rfc3339_ns("2026-01-01T00:00:00Z")\n', "repeatable"),
        ('report := http.send({"url": "http://x"})\n', "repeatable"),
        ("report := rand.intn(`x`, 2)\n", "repeatable"),
        ("report := max([input.now, 10])\n", "compares numbers as text"),
        ('report := sprintf("%q", [input.actor])\n', "not %q"),
        ("report := sprintf(`%s %v`, [input.actor, 1])\n", "not %v"),
        ("report := sprintf(input.format, [1])\n", "as a literal text"),
        ("x := 1 with input as {}\n\nreport := x\n", "with input as"),
        ("report := unheard_of(1)\n", "unheard_of is no built-in that"),
        ("report := lib.unheard_of(1)\n", r"lib\.unheard_of is no built-in that"),
        ("match_schema(x) := x\n\nreport := json.match_schema(1)\n", r"json\.match_schema is no built-in that"),
        ("report := {} if false\n", "did not report"),
        ("report :=\n", "could not be evaluated"),
    ],
)
def test_bundle_that_the_engines_would_not_agree_on_is_refused(body: str, reason: str) -> None:
    with pytest.raises(BadBundle, match=reason):
        rego.check_bundle(_with(body))


def test_every_problem_is_told_with_its_line() -> None:
    body = '# min(1)\nreport := {\n\t`x\ny`: min([1]),\n\t"z": sprintf("%d %x", [1, 2]),\n\t"t": trace("%q"),\n}\n'
    told = [(problem.line, problem.text.split(" ")[0]) for problem in problems(_with(body).modules)]
    assert told == [(8, "min"), (9, "sprintf"), (10, "trace")]


def test_words_in_comments_and_texts_are_no_calls() -> None:
    words = '\n# http.send("x") and `with input as`\nnote := "time.now_ns() with input as"\n\nraw := `rand.intn(1)`\n'
    rego.check_bundle(_with(f"report := {PASS}\n{words}"))


def test_bundle_without_one_of_its_rules_is_refused() -> None:
    files = dict(BUNDLE.files)
    del files[RULE]
    with pytest.raises(BadBundle, match=r"authz\.operation: the rule did not report"):
        rego.check_bundle(type(BUNDLE)(files))


def test_bundles_do_not_mix() -> None:
    body = f"report := {PASS} if data.limits.open\n\nreport := {DENY} if not data.limits.open\n"
    opened, closed = (_with(body, limits=f'{{"open": {value}}}') for value in ("true", "false"))
    for _ in range(2):
        assert [rego.verdict_on(bundle, {"action": "authz"}).passed for bundle in (opened, closed)] == [True, False]


def test_numbers_and_texts_reach_the_rules_exactly() -> None:
    below = {**GOOD["promote"]["evaluation"], "metrics": {"accuracy": 0.8999999999, "perClass": {"0": {"recall": 1}}}}
    found = rego.verdict_on(BUNDLE, {**GOOD["promote"], "action": "promote", "evaluation": below})
    assert [report["rule"] for report in found.refusals] == ["promotion.evaluation-thresholds"]
    name = 'a"b\\c\n\u0001é\U0001f600%s'
    for now in (NOW, NOW + 0.5):
        refused = rego.verdict_on(BUNDLE, {"action": "authz", "actor": name, "operation": "x", "roles": [], "now": now})
        assert refused.reports[0].reasons == (f"{name} may not x: no role may; the actor has none",)


def test_input_that_is_no_json_is_refused_before_the_engine() -> None:
    with pytest.raises(BadJson):
        rego.verdict_on(BUNDLE, {"action": "train", "now": float("nan")})
