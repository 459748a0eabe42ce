"""Verdicts on a rollout: counts in, e-values out. Pure, and complete: who holds the rule and the counts recomputes the verdict.

The test: each request's arm is a coin with probability `w`, so under "the canary is no different" the arm of an *event* (a
failure, a latency in one bin) is that coin, whatever the load or the hour. E bets against it; its mean over the measures
reaches 1/alpha with probability at most alpha over the whole rollout, however often one looks (Ville's inequality; game-theoretic
testing, arXiv 2210.13027). Clearing is a test of its own, against "worse by the margin or more".

It draws no coin, keeps no count and knows no HTTP.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

ERROR_RATIOS = (3.0, 9.0, 27.0)
"""Canary/stable ratios of failure rates that are bet on, with equal weight."""
PAIR_RATIOS = (1.5, 3.0, 9.0)
SHIFTS = ((1.2, 1.0), (1.5, 1.0), (2.0, 1.0), (4.0, 1.0), (5.0, 0.1))
"""Latency alternatives: (factor, share of the requests that are slowed by it)."""
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SLOW_BIN = 5
"""First bin beyond the 95th percentile: the events that latency is cleared on."""
FRACTIONS = (0.1, 0.3, 0.6, 0.95)
"""Bets for clearing, as shares of the largest safe bet."""
RATIO_LIMITS = (0.05, 50.0)
CLEAR_AT = 20.0
MIN_REFERENCE = 50
"""Fewer stable latencies than this give no edges worth betting on: latency then stays at E = 1 and cannot clear."""

Cell = tuple[float, int, int, int]
"""(weight, bin, canary events, stable events)"""


def log_mean_exp(logs: Sequence[float]) -> float:
    """log of the mean of exp(x), without overflow."""
    top = max(logs)
    return top + math.log(sum(math.exp(x - top) for x in logs) / len(logs))


def harm_log_e(cells: Sequence[Cell], ratios: Sequence[Sequence[float]]) -> float:
    """log E against "the canary is no worse". ratios: for each alternative, the canary/stable ratio of each bin."""
    return log_mean_exp([sum(_bet(w, r[j], a, b) for w, j, a, b in cells) for r in ratios])


def _bet(w: float, ratio: float, canary: int, stable: int) -> float:
    return canary * math.log(ratio) - (canary + stable) * math.log(1 - w + w * ratio)


def quantile(ordered: Sequence[float], share: float) -> float:
    """By linear interpolation between the neighbours (numpy's default)."""
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def latency_edges(reference: Sequence[float]) -> list[float]:
    """Bin edges from stable latencies before the rollout, in their unit. An edge belongs to the bin below it."""
    ordered = sorted(reference)
    return [quantile(ordered, share) for share in QUANTILES]


def latency_bin(edges: Sequence[float], latency: float) -> int:
    """0 … len(edges)"""
    return bisect_left(edges, latency)


def latency_ratios(edges: Sequence[float], reference: Sequence[float]) -> list[list[float]]:
    """For each alternative the canary/stable density ratio of each bin: scale the reference, bin it again, add one."""
    base = _histogram(edges, reference, 1.0)
    low, high = RATIO_LIMITS
    result = []
    for factor, share in SHIFTS:
        moved = _histogram(edges, reference, factor)
        result.append([min(max(share * m / b + (1 - share), low), high) for m, b in zip(moved, base, strict=True)])
    return result


def _histogram(edges: Sequence[float], reference: Sequence[float], factor: float) -> list[float]:
    counts = [1.0] * (len(edges) + 1)
    for latency in reference:
        counts[latency_bin(edges, latency * factor)] += 1
    return counts


def dispersion(blocks: Sequence[tuple[int, int]], w: float = 0.5) -> float:
    """How much more the arm of slow requests clusters than coins, from two replicas of stable; 1 when calm.

    blocks: (slow requests, those on the first replica) of each block of consecutive requests. log E of latency is divided by it,
    against the canary and for it: a server that is slow for a while by itself would look like a regression (17% false alarms
    without, 0.8% with), or hide one.
    """
    used = [(m, a) for m, a in blocks if m > 0]
    index = sum((a - w * m) ** 2 / (w * (1 - w) * m) for m, a in used) / max(1, len(used))
    # 1.5: the index is itself an estimate.
    return 1 + 1.5 * max(0.0, index - 1)


def slow_blocks(latencies: Sequence[tuple[float, int]], size: int = 50) -> list[tuple[int, int]]:
    """Blocks for `dispersion`. latencies: (latency, replica 0 or 1) in order; slow: over the 75th percentile."""
    if not latencies:
        return []
    limit = quantile(sorted(latency for latency, _ in latencies), 0.75)
    result = []
    for start in range(0, len(latencies) - size + 1, size):
        slow = [replica for latency, replica in latencies[start : start + size] if latency > limit]
        result.append((len(slow), slow.count(0)))
    return result


def quality_log_e(pairs: Sequence[tuple[int, int]]) -> float:
    """log E of paired answers: half of it pooled, half the mean over classes, so that one broken class is seen too.

    pairs: for each class (pairs where only stable was right, pairs where only the canary was right).
    """
    if not pairs:
        return 0.0
    pooled = _pairs_log_e(sum(b for b, _ in pairs), sum(c for _, c in pairs))
    by_class = log_mean_exp([_pairs_log_e(b, c) for b, c in pairs])
    return log_mean_exp([pooled, by_class])


def _pairs_log_e(against: int, favour: int) -> float:
    """Of pairs that tell the two apart: those that speak against the canary, and those in its favour."""
    return harm_log_e([(0.5, 0, against, favour)], [[ratio] for ratio in PAIR_RATIOS])


def clear_log_e(phases: Sequence[tuple[float, int, int, int]], margin: float) -> float:
    """log E against "the canary's rate is stable's plus the margin or more".

    phases: (weight, requests, canary events, stable events). A weight of 0 or 1 compares nothing and is left out.
    """
    used = [phase for phase in phases if 0 < phase[0] < 1]
    return log_mean_exp([sum(_clear_bet(f, *phase, margin) for phase in used) for f in FRACTIONS])


def _clear_bet(f: float, w: float, requests: int, canary: int, stable: int, margin: float) -> float:
    bet = f * w / (1 - w * margin)
    return (
        (requests - canary - stable) * math.log1p(bet * margin)
        + canary * math.log1p(bet * (margin - 1 / w))
        + stable * math.log1p(bet * (margin + 1 / (1 - w)))
    )


def clear_pairs_log_e(pairs: int, only_stable: int, only_canary: int, margin: float) -> float:
    """log E against "accuracy drops by the margin or more"."""
    logs = []
    for f in FRACTIONS:
        bet = f / (1 - margin)
        logs.append(
            (pairs - only_stable - only_canary) * math.log1p(bet * margin)
            + only_stable * math.log1p(bet * (margin - 1))
            + only_canary * math.log1p(bet * (margin + 1))
        )
    return log_mean_exp(logs)


@dataclass(frozen=True)
class Rule:
    """What was fixed before the first canary request.

    measures: which of errors, latency, quality are compared; alpha: probability of a false rollback over the whole rollout;
    margins: measure to δ, the regression that clearing rules out (shares: 0.02 is 2 percentage points);
    edges: microseconds; tolerance: canary latencies are divided by it before they are binned, so that slower by up to that factor
    is "no different"; labelled: quality pairs have labels (else disagreement alone can clear, and quality has no say in rollback);
    mirrored: half of the bet on errors is on mirrored pairs, which see differences that few requests by coin do not.
    """

    measures: tuple[str, ...]
    alpha: float
    margins: dict[str, float]
    edges: tuple[float, ...]
    ratios: tuple[tuple[float, ...], ...]
    dispersion: float
    tolerance: float
    labelled: bool
    mirrored: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "measures": list(self.measures),
            "alpha": self.alpha,
            "clearAt": CLEAR_AT,
            "margins": dict(self.margins),
            "edges": list(self.edges),
            "ratios": [list(row) for row in self.ratios],
            "dispersion": self.dispersion,
            "tolerance": self.tolerance,
            "labelled": self.labelled,
            "mirrored": self.mirrored,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Rule":
        return cls(
            measures=tuple(value["measures"]),
            alpha=value["alpha"],
            margins=dict(value["margins"]),
            edges=tuple(value["edges"]),
            ratios=tuple(tuple(row) for row in value["ratios"]),
            dispersion=value["dispersion"],
            tolerance=value["tolerance"],
            labelled=value["labelled"],
            mirrored=value.get("mirrored", False),  # rules before mirrored errors have none
        )


@dataclass(frozen=True)
class Phase:
    """Counts at one weight. errors, latency[bin]: (canary events, stable events). requests: both arms, finished."""

    weight: float
    requests: int
    canary_requests: int
    errors: tuple[int, int]
    latency: tuple[tuple[int, int], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "requests": self.requests,
            "canaryRequests": self.canary_requests,
            "errors": list(self.errors),
            "latency": [list(cell) for cell in self.latency],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Phase":
        return cls(
            value["weight"],
            value["requests"],
            value["canaryRequests"],
            (value["errors"][0], value["errors"][1]),
            tuple((canary, stable) for canary, stable in value["latency"]),
        )


@dataclass(frozen=True)
class Counts:
    """All that a verdict looks at.

    phases: never pooled over weights (Simpson's paradox); pairs: (class, pairs, only stable right, only canary right), each
    golden probe once; mirrored: (mirrored requests that both answered, those with different labels); mirrored_errors: of mirrored
    requests, whether answered or not, (those where only the canary failed, those where only stable failed).
    """

    phases: tuple[Phase, ...] = ()
    pairs: tuple[tuple[str, int, int, int], ...] = ()
    mirrored: tuple[int, int] = (0, 0)
    mirrored_errors: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, Any]:
        return {
            "phases": [phase.to_json() for phase in self.phases],
            "pairs": {label: [n, b, c] for label, n, b, c in self.pairs},
            "mirrored": list(self.mirrored),
            "mirroredErrors": list(self.mirrored_errors),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Counts":
        only_canary, only_stable = value.get("mirroredErrors", (0, 0))
        return cls(
            tuple(Phase.from_json(phase) for phase in value["phases"]),
            tuple((label, n, b, c) for label, (n, b, c) in sorted(value["pairs"].items())),
            (value["mirrored"][0], value["mirrored"][1]),
            (only_canary, only_stable),
        )


@dataclass(frozen=True)
class Verdict:
    """rollback: the mean E reached 1/alpha; cleared: every measure reached 20 against its margin. Both may be false: undecided.

    log_e, log_clear: natural logarithms, by measure; log_mean: of the mean E; cause: the measure with the largest E.
    """

    rollback: bool
    cleared: bool
    cause: str
    log_mean: float
    log_e: dict[str, float]
    log_clear: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "rollback": self.rollback,
            "cleared": self.cleared,
            "cause": self.cause,
            "logMeanE": self.log_mean,
            "logE": dict(self.log_e),
            "logClear": dict(self.log_clear),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Verdict":
        return cls(
            value["rollback"], value["cleared"], value["cause"], value["logMeanE"], dict(value["logE"]), dict(value["logClear"])
        )


def judge(rule: Rule, counts: Counts) -> Verdict:
    """The verdict on these counts. May be asked after every request: looking often costs nothing."""
    log_e = {name: _HARM[name](rule, counts) for name in rule.measures if name != "quality" or rule.labelled}
    log_clear = {name: _CLEAR[name](rule, counts) for name in rule.measures}
    log_mean = log_mean_exp(list(log_e.values())) if log_e else 0.0
    rollback = log_mean >= -math.log(rule.alpha)
    cleared = not rollback and all(value >= math.log(CLEAR_AT) for value in log_clear.values())
    cause = max(log_e, key=lambda name: log_e[name]) if log_e else ""
    return Verdict(rollback, cleared, cause, log_mean, log_e, log_clear)


def _harm_errors(rule: Rule, counts: Counts) -> float:
    cells = [(phase.weight, 0, *phase.errors) for phase in counts.phases]
    by_coin = harm_log_e(cells, [[ratio] for ratio in ERROR_RATIOS])
    # An average of e-processes is one, under any dependence: what the mirror adds costs by_coin a factor of two at most.
    return log_mean_exp([by_coin, _pairs_log_e(*counts.mirrored_errors)]) if rule.mirrored else by_coin


def _harm_latency(rule: Rule, counts: Counts) -> float:
    if not rule.ratios:
        return 0.0
    cells = [(phase.weight, j, a, b) for phase in counts.phases for j, (a, b) in enumerate(phase.latency)]
    return harm_log_e(cells, rule.ratios) / rule.dispersion


def _harm_quality(rule: Rule, counts: Counts) -> float:
    return quality_log_e([(b, c) for _, _, b, c in counts.pairs])


def _clear_errors(rule: Rule, counts: Counts) -> float:
    return clear_log_e([(phase.weight, phase.requests, *phase.errors) for phase in counts.phases], rule.margins["errors"])


def _clear_latency(rule: Rule, counts: Counts) -> float:
    if not rule.edges:
        return 0.0
    phases = []
    for phase in counts.phases:
        slow = phase.latency[SLOW_BIN:]
        phases.append((phase.weight, phase.requests, sum(a for a, _ in slow), sum(b for _, b in slow)))
    # What comes in spells is as few independent observations for the one verdict as for the other.
    return clear_log_e(phases, rule.margins["latency"]) / rule.dispersion


def _clear_quality(rule: Rule, counts: Counts) -> float:
    if not rule.labelled:
        # Each disagreement is taken as an error of the canary: it bounds the drop without a label.
        return clear_pairs_log_e(counts.mirrored[0], counts.mirrored[1], 0, rule.margins["quality"])
    totals = [sum(column) for column in zip(*(row[1:] for row in counts.pairs), strict=True)] or [0, 0, 0]
    return clear_pairs_log_e(totals[0], totals[1], totals[2], rule.margins["quality"])


_HARM = {"errors": _harm_errors, "latency": _harm_latency, "quality": _harm_quality}
_CLEAR = {"errors": _clear_errors, "latency": _clear_latency, "quality": _clear_quality}


def explain(payload: dict[str, Any]) -> dict[str, Any]:
    """The verdict recomputed from an event's own rule and counts.

    Args:
        payload: of a `rollout.step`, `rollback` or `rollout.completed` event that carries rule, counts and verdict.
    Returns:
        {"verdict": recomputed, "recorded": the event's, "agrees": bool}: logarithms are compared to nine digits, as
        mathematical libraries differ in the last ones.
    """
    verdict = judge(Rule.from_json(payload["rule"]), Counts.from_json(payload["counts"])).to_json()
    return {"verdict": verdict, "recorded": payload["verdict"], "agrees": _same(verdict, payload["verdict"])}


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return set(left) == set(right) and all(_same(left[key], right[key]) for key in left)
    if isinstance(left, bool) or isinstance(right, bool) or not isinstance(left, int | float):
        return bool(left == right)
    return isinstance(right, int | float) and math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
