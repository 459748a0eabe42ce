"""What `ai-infra rollout` tells people: a row of the list, the lines of one rollout, the table of a verdict. It asks nobody."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from services.commands.common import moment
from services.serving.canary import CLEAR_AT, SLOW_BIN, Counts, Rule, Verdict

LISTED = ("id", "versions", "environment", "state", "traffic", "requests in this step", "since (UTC)")
JUDGED = ("measure", "counted", "stable", "canary", "margin", "log E", "log clear", "verdict")

Numbers = Mapping[str, int]
"""Id of a deployment → number of its version."""


def row(found: Mapping[str, Any], numbers: Numbers) -> tuple[str, ...]:
    """Of the list; columns as LISTED."""
    traffic = f"{found['weight']:.0%}"
    return (
        found["id"], versions(found, numbers), found["environment"], found["state"],
        f"{traffic}, {_step(found)}" if _splits(found) else traffic,
        f"{found['requests'] or 0:,} of {found['spec']['minRequestsPerStep']:,}" if _splits(found) else "",
        moment(found["since"]),
    )  # fmt: skip


def lines(found: Mapping[str, Any], numbers: Numbers) -> Iterator[str]:
    """One rollout: where it is, what it waits for, why it ended."""
    spec = found["spec"]
    yield f"{found['id']}  {versions(found, numbers)} in {found['environment']}"
    at = f"{found['weight']:.0%} of the traffic to the new version"
    yield f"  {found['state']} since {moment(found['since'])} UTC: {at}{f' ({_step(found)})' if _splits(found) else ''}"
    if found["reason"]:
        yield f"  {found['reason']}"
    if "log E" in found["reason"]:
        bound = math.log(1 / spec["alpha"])
        yield f"  log E: evidence against the new version, 0 is none; from {bound:.1f} on it is rolled back"
    if _splits(found):
        seen, least, most = found["requests"] or 0, spec["minRequestsPerStep"], spec["maxRequestsPerStep"]
        yield f"  requests in this step: {seen:,}; it needs {least:,}, and sees {most:,} at most"
        if seen < least:
            where = f"{found['model']} in {found['environment']}"
            yield f"  it waits for traffic to {where}; the new version's first {spec['warmUp']} answers do not count"
    if found["state"] == "running":
        yield f"  undecided if this step still lasts at {moment(found['since'] + int(spec['maxStepS'] * 1000))} UTC"
    if found["state"] == "calibrating":
        yield f"  it waits for {spec['calibrationRequests']:,} requests to the present version, {spec['calibrationS']:g} s at most"


def versions(found: Mapping[str, Any], numbers: Numbers) -> str:
    """From which version to which."""
    return f"{found['model']}@{numbers[found['stable']]} → {found['model']}@{found['spec']['number']}"


def judged(rule: Rule, counts: Counts, verdict: Verdict) -> list[tuple[str, ...]]:
    """A row for each measure, columns as JUDGED, and one for all: E's mean over the measures is what rolls back."""
    rows = [
        (name, *_counted(name, rule, counts), _points(rule.margins[name]), _log(verdict.log_e.get(name)),
         _log(verdict.log_clear[name]), _verdict(name, verdict))
        for name in rule.measures
    ]  # fmt: skip
    outcome = "roll back" if verdict.rollback else "cleared" if verdict.cleared else "open"
    return [*rows, ("all: mean of E", "", "", "", "", _log(verdict.log_mean), "", outcome)]


def bounds(rule: Rule) -> str:
    """What the numbers of `judged` are held against."""
    return (
        f"log E: evidence against the new version, 0 is none; it is rolled back when the mean reaches {-math.log(rule.alpha):.1f}. "
        f"log clear: evidence that it is worse by less than the margin; a measure is cleared from {math.log(CLEAR_AT):.1f} on"
    )


def _step(found: Mapping[str, Any]) -> str:
    return f"step {found['step'] + 1} of {len(found['spec']['steps'])}"


def _splits(found: Mapping[str, Any]) -> bool:
    """Both versions answer, and are compared."""
    return found["state"] in ("running", "undecided")


def _counted(name: str, rule: Rule, counts: Counts) -> tuple[str, str, str]:
    """What is counted, at the stable version and at the new one."""
    if name == "quality":
        return _quality(rule, counts)
    canary = sum(phase.canary_requests for phase in counts.phases)
    stable = sum(phase.requests for phase in counts.phases) - canary
    if name == "errors":
        failed = [phase.errors for phase in counts.phases]
        what = "failed requests"
    elif rule.edges:
        failed = [cell for phase in counts.phases for cell in phase.latency[SLOW_BIN:]]
        limit = rule.edges[SLOW_BIN - 1] / 1000
        what = f"over {limit:.3g} ms (new: {limit * rule.tolerance:.3g})"
    else:
        return "too few stable answers to compare with", "-", "-"
    return what, _share(sum(b for _, b in failed), stable), _share(sum(a for a, _ in failed), canary)


def _quality(rule: Rule, counts: Counts) -> tuple[str, str, str]:
    if not rule.labelled:
        pairs, differ = counts.mirrored
        return "mirrored requests with another label", "-", _share(differ, pairs)
    total = sum(n for _, n, _, _ in counts.pairs)
    only_stable, only_canary = sum(b for _, _, b, _ in counts.pairs), sum(c for _, _, _, c in counts.pairs)
    return "probes that it alone got right", _share(only_stable, total), _share(only_canary, total)


def _verdict(name: str, verdict: Verdict) -> str:
    if verdict.rollback and name == verdict.cause:
        return "speaks against it"
    return "cleared" if verdict.log_clear[name] >= math.log(CLEAR_AT) else "not cleared"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}" + (f" ({part / whole:.2%})" if whole else "")


def _points(margin: float) -> str:
    return f"{margin * 100:g} points"


def _log(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
