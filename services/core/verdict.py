"""From the raw reports of a policy engine to one verdict. Pure; every doubt is a deny that names the rule.

An engine can answer nothing, without an error, for a built-in that it lacks. So the caller knows which rules have to report, and
silence is never consent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.core.errors import BadInput

Word = Literal["pass", "remediate", "quarantine", "deny"]

SEVERITY: tuple[Word, ...] = ("pass", "remediate", "quarantine", "deny")
"""From harmless to worst; the worst report is the verdict."""

MAX_REASONS = 100
MAX_REASON = 1000


@dataclass(frozen=True)
class Report:
    """What one rule said. rule: `area.name`; reasons: sorted, empty only for pass."""

    rule: str
    verdict: Word
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"rule": self.rule, "verdict": self.verdict, "reasons": list(self.reasons)}

    @classmethod
    def from_json(cls, value: Any) -> "Report":
        """Raises BadInput unless it is exactly {rule, verdict, reasons} of the right types."""
        if not isinstance(value, dict) or set(value) != {"rule", "verdict", "reasons"}:
            raise BadInput("a report has exactly the fields rule, verdict and reasons")
        rule, verdict, reasons = value["rule"], value["verdict"], value["reasons"]
        if not isinstance(rule, str) or verdict not in SEVERITY:
            raise BadInput(f"rule is a string and verdict one of {list(SEVERITY)}")
        if not isinstance(reasons, list) or not all(isinstance(reason, str) for reason in reasons):
            raise BadInput("reasons is a list of strings")
        if (verdict == "pass") is not (reasons == []):
            raise BadInput("a pass has no reasons, everything else has one")
        return cls(rule, verdict, tuple(sorted(reason[:MAX_REASON] for reason in reasons)[:MAX_REASONS]))


@dataclass(frozen=True)
class Verdict:
    """The verdict and one report for every rule that applied, sorted by rule."""

    verdict: Word
    reports: tuple[Report, ...]

    @property
    def passed(self) -> bool:
        return self.verdict == "pass"

    @property
    def refusals(self) -> list[dict[str, Any]]:
        """The reports that did not pass, as JSON: what `Refused.rules` takes."""
        return [report.to_json() for report in self.reports if report.verdict != "pass"]

    @property
    def told(self) -> str:
        """The refusals as one line."""
        return "; ".join(f"{report['rule']}: {', '.join(report['reasons'])}" for report in self.refusals)

    def rules_json(self) -> list[dict[str, Any]]:
        return [report.to_json() for report in self.reports]


def decide(raw: Any, expected: Sequence[str], failure: str | None = None) -> Verdict:
    """The verdict on an engine's answer.

    Args:
        raw: what the entry point gave: a list of reports; anything else denies.
        expected: the rules that must report; none at all (an unknown action) denies.
        failure: why the engine gave nothing, if it said so.
    """
    rules = sorted(set(expected))
    if not rules:
        return Verdict("deny", (_deny("sentinelnet.action", failure or "no rule is stated for this action"),))
    found = raw if isinstance(raw, list) and failure is None else []
    reports = tuple(_report_of(rule, found, failure) for rule in rules)
    worst = max(SEVERITY.index(report.verdict) for report in reports)
    return Verdict(SEVERITY[worst], reports)


def _report_of(rule: str, found: list[Any], failure: str | None) -> Report:
    mine = [item for item in found if isinstance(item, dict) and item.get("rule") == rule]
    if failure is not None:
        return _deny(rule, f"the policy could not be evaluated: {failure}")
    if not mine:
        return _deny(rule, "the rule did not report")
    if len(mine) > 1:
        return _deny(rule, f"the rule reported {len(mine)} times")
    try:
        return Report.from_json(mine[0])
    except BadInput as error:
        return _deny(rule, f"the rule's report is malformed: {error}")


def _deny(rule: str, reason: str) -> Report:
    return Report(rule, "deny", (reason[:MAX_REASON],))
