"""From raw reports to a verdict: silence and nonsense deny, by the rule's name."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import BadInput
from services.core.verdict import SEVERITY, Report, decide

GOOD = {"rule": "a.b", "verdict": "pass", "reasons": []}
MALFORMED = "the rule's report is malformed"
FIELDS = f"{MALFORMED}: a report has exactly the fields rule, verdict and reasons"
WORDS = f"{MALFORMED}: rule is a string and verdict one of ['pass', 'remediate', 'quarantine', 'deny']"
TEXTS = f"{MALFORMED}: reasons is a list of strings"
REASONED = f"{MALFORMED}: a pass has no reasons, everything else has one"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ([], "the rule did not report"),
        (None, "the rule did not report"),
        ({"a.b": GOOD}, "the rule did not report"),
        ("pass", "the rule did not report"),
        ([[GOOD]], "the rule did not report"),
        ([{"rule": "a.c", "verdict": "pass", "reasons": []}], "the rule did not report"),
        ([GOOD, GOOD], "the rule reported 2 times"),
        ([GOOD, {"rule": "a.b", "verdict": "deny", "reasons": ["x"]}], "the rule reported 2 times"),
        ([{"rule": "a.b", "verdict": "pass"}], FIELDS),
        ([GOOD | {"extra": 1}], FIELDS),
        ([GOOD | {"verdict": "allow"}], WORDS),
        ([GOOD | {"verdict": True}], WORDS),
        ([GOOD | {"verdict": []}], WORDS),
        ([GOOD | {"reasons": ["but"]}], REASONED),
        ([GOOD | {"reasons": "x"}], TEXTS),
        ([GOOD | {"reasons": [1]}], TEXTS),
        ([GOOD | {"verdict": "deny", "reasons": {"x": 1}}], TEXTS),
        ([GOOD | {"verdict": "deny"}], REASONED),
    ],
)
def test_doubt_is_a_deny_that_names_the_rule(raw: Any, reason: str) -> None:
    found = decide(raw, ["a.b"])
    assert (found.verdict, [report.rule for report in found.reports]) == ("deny", ["a.b"])
    assert found.reports[0].reasons == (reason,)


def test_failure_of_the_engine_denies_every_rule() -> None:
    found = decide([GOOD], ["a.b", "a.c"], "it broke")
    assert {report.rule: report.reasons for report in found.reports} == dict.fromkeys(
        ("a.b", "a.c"), ("the policy could not be evaluated: it broke",)
    )


@pytest.mark.parametrize("rule", [1, None, ["a.b"]])
def test_a_stored_report_without_a_rule_is_refused(rule: Any) -> None:
    with pytest.raises(BadInput, match="rule is a string"):
        Report.from_json(GOOD | {"rule": rule})


def test_a_stored_report_is_read_as_it_was_written() -> None:
    written = {"rule": "a.b", "verdict": "deny", "reasons": ["a", "b"]}
    assert Report.from_json(written) == Report("a.b", "deny", ("a", "b"))
    assert Report.from_json(written).to_json() == written


def test_unknown_action_denies() -> None:
    found = decide([GOOD], [])
    assert (found.verdict, found.passed) == ("deny", False)
    refusal = {"rule": "sentinelnet.action", "verdict": "deny", "reasons": ["no rule is stated for this action"]}
    assert (found.refusals, found.rules_json()) == ([refusal], [refusal])
    assert found.told == "sentinelnet.action: no rule is stated for this action"
    assert decide(None, [], "it broke").told == "sentinelnet.action: it broke"


def test_reports_that_nobody_asked_for_change_nothing() -> None:
    other = {"rule": "z.z", "verdict": "deny", "reasons": ["x"]}
    assert decide([GOOD, other], ["a.b"]).verdict == "pass"


@given(st.lists(st.sampled_from(SEVERITY), min_size=1, max_size=6))
def test_the_worst_report_is_the_verdict(verdicts: list[str]) -> None:
    raw = [
        {"rule": f"r.{number}", "verdict": verdict, "reasons": [] if verdict == "pass" else ["x"]}
        for number, verdict in enumerate(verdicts)
    ]
    found = decide(raw, [report["rule"] for report in raw])
    assert found.verdict == max(verdicts, key=SEVERITY.index)
    assert found.passed is (set(verdicts) == {"pass"})
    assert len(found.refusals) == sum(verdict != "pass" for verdict in verdicts)


@given(st.recursive(st.none() | st.booleans() | st.text() | st.sampled_from(["a.b", "pass", "deny"]),
                    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["rule", "verdict", "reasons", "x"]), inner)))
def test_nothing_but_one_exact_pass_passes(raw: Any) -> None:
    mine = [item for item in raw if isinstance(item, dict) and item.get("rule") == "a.b"] if isinstance(raw, list) else []
    assert decide(raw, ["a.b"]).passed is (mine == [GOOD])


def test_long_reasons_are_cut() -> None:
    found = decide([{"rule": "a.b", "verdict": "deny", "reasons": ["x" * 5000] * 500}], ["a.b"])
    assert sum(map(len, found.reports[0].reasons)) <= 100_000
