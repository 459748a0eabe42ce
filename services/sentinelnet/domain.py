"""Decisions as values, and what can be said about them. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from services.core.bundle import Bundle
from services.core.events import EventDraft, Subject
from services.core.verdict import Report, Verdict
from services.sentinelnet.errors import Denied

EVENT_REASONS, EVENT_REASON = 3, 200
"""An event is a leaf of the log, at most 65,535 bytes: it holds the first reasons, shortened; the decision holds all."""

CUSTOM = ("owner", "runbook", "severity", "reads", "limits")
"""Fields of our own in a rule's METADATA. severity: its worst verdict; reads: paths of the input; limits: paths of data.json."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A recorded answer. at: epoch milliseconds; input_digest: object that holds the input's canonical bytes."""

    id: str
    action: str
    verdict: Verdict
    policy_revision: str
    input_digest: str
    subject: Subject
    actor: str
    at: int
    event_id: str

    @property
    def passed(self) -> bool:
        return self.verdict.passed

    def require_pass(self) -> "Decision":
        """The decision itself, if it passed.

        Raises:
            Denied: names every rule that refused, with its reasons.
        """
        if self.passed:
            return self
        verdict = self.verdict
        raise Denied(
            f"{self.action} of {self.subject.id}: {verdict.verdict} by {verdict.told} (decision {self.id})", verdict.refusals
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "action": self.action,
            "verdict": self.verdict.verdict,
            "rules": self.verdict.rules_json(),
            "policyRevision": self.policy_revision,
            "inputDigest": self.input_digest,
            "subject": self.subject.to_json(),
            "actor": self.actor,
            "at": self.at,
            "eventId": self.event_id,
        }


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published bundle. bundle, envelope: objects in the store; at: epoch milliseconds."""

    version: int
    revision: str
    bundle: str
    envelope: str
    actor: str
    at: int
    event_id: str

    def to_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "revision": self.revision,
            "bundle": self.bundle,
            "envelope": self.envelope,
            "actor": self.actor,
            "at": self.at,
            "eventId": self.event_id,
        }


@dataclass(frozen=True)
class Replay:
    """A decision computed again from its stored input. policy_revision: of the bundle used now."""

    decision: str
    policy_revision: str
    was: Verdict
    now: Verdict

    @property
    def changes(self) -> list[dict[str, Any]]:
        """Rules whose report differs; a rule that only one of the two bundles has is null on the other side."""
        was = {report.rule: report for report in self.was.reports}
        now = {report.rule: report for report in self.now.reports}
        return [
            {"rule": rule, **_side("was", was.get(rule)), **_side("now", now.get(rule))}
            for rule in sorted(was.keys() | now.keys())
            if was.get(rule) != now.get(rule)
        ]

    @property
    def refused_anew(self) -> list[str]:
        """Rules that do not pass now and did before, or were not asked before."""
        passed = {report.rule for report in self.was.reports if report.verdict == "pass"}
        asked = {report.rule for report in self.was.reports}
        return [report.rule for report in self.now.reports if report.verdict != "pass" and report.rule not in asked - passed]

    @property
    def same(self) -> bool:
        return self.was.verdict == self.now.verdict and not self.changes

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "policyRevision": self.policy_revision,
            "same": self.same,
            "was": self.was.verdict,
            "now": self.now.verdict,
            "changes": self.changes,
        }


def check_event(
    decision_id: str, action: str, verdict: Verdict, revision: str, input_digest: str, subject: Subject, actor: str,
    suppressed: int = 0,
) -> EventDraft:  # fmt: skip
    """The policyCheck event of a decision. suppressed: see refusals."""
    payload: dict[str, Any] = {
        "decision": decision_id,
        "action": action,
        "verdict": verdict.verdict,
        "rules": [brief(report) for report in verdict.reports],
        "policyRevision": revision,
        "inputDigest": input_digest,
    }
    if suppressed:
        payload["suppressed"] = suppressed
    return EventDraft("policyCheck", actor, subject, payload)


def published_event(published: Mapping[str, Any], decision_id: str, actor: str) -> EventDraft:
    """The policy.published event. published: version, revision, bundle and envelope."""
    subject = Subject("policy", f"policies@{published['version']}", published["revision"])
    payload = {key: published[key] for key in ("version", "revision", "bundle", "envelope")} | {"decision": decision_id}
    return EventDraft("policy.published", actor, subject, payload, signature_ref=published["envelope"])


def describe(bundle: Bundle, rule: str) -> dict[str, Any]:
    """Title, description and what `custom` says (owner, runbook, severity, reads, limits) of a rule, from the METADATA of its
    module; empty when it has none."""
    folder = rule.replace(".", "/").replace("-", "_")
    text = bundle.modules.get(f"{folder}/{folder.rsplit('/', 1)[-1]}.rego", "")
    lines = text.splitlines()
    if "# METADATA" not in lines:
        return {}
    comment = []
    for line in lines[lines.index("# METADATA") + 1 :]:
        if not line.startswith("#"):
            break
        comment.append(line[2:])
    try:
        found = yaml.safe_load("\n".join(comment))
    except yaml.YAMLError:
        return {}
    if not isinstance(found, dict):
        return {}
    custom = found.get("custom")
    known = {key: custom.get(key) for key in CUSTOM} if isinstance(custom, dict) else {}
    return {"title": found.get("title"), "description": found.get("description"), **known}


def brief(report: Report) -> dict[str, Any]:
    """A report as an event holds it."""
    reasons = [reason[:EVENT_REASON] for reason in report.reasons[:EVENT_REASONS]]
    return {"rule": report.rule, "verdict": report.verdict, "reasons": reasons}


def _side(name: str, report: Report | None) -> dict[str, Any]:
    reasons = [] if report is None else list(report.reasons)
    return {name: None if report is None else report.verdict, f"{name}Reasons": reasons}
