"""The router before KServe, as rows of the common report; measured by benchmarks.router."""

from benchmarks.harness import Figure, Row, Size, Target
from benchmarks.router import PASSES, compare, overload

CLIENTS = 8
TIMES = 2
"""Rounds here for one of the other benchmarks, and shorter ones: all processes share the cores, and what else runs for a moment is
most of the difference between two p95s."""


def measure(size: Size) -> list[Row]:
    """p95 and throughput of predictions, through the router against the same predictor asked directly."""
    found = compare(CLIENTS, size.of(3, 1), TIMES * size.rounds, PASSES)
    peer, note = "KServe asked directly", f"{CLIENTS} clients, mutual TLS on both paths, a prediction record for each answer"
    limits = {"p95": Target(1.15, "lower", "ratio"), "rps": Target(0.97, "higher", "ratio")}
    names = {"p95": ("router, p95", "ms", "p95_ms"), "rps": ("router, throughput", "1/s", "rps")}
    rows = []
    for key, (work, unit, field) in names.items():
        ours, theirs = (Figure.of([found[side][field]]) for side in ("router", "direct"))
        ratio = Figure(*(found["router/direct"][key][name] for name in ("median", "least", "most")))
        rows.append(Row(work=work, unit=unit, ours=ours, peer=theirs, peer_name=peer, ratio=ratio, target=limits[key], note=note))
    return [*rows, _overloaded(size)]


def _overloaded(size: Size) -> Row:
    found = overload(CLIENTS, size.of(5, 1), size.rounds, PASSES)
    full, calm = (Figure.of([found[side]["p95_ms"]]) for side in ("overloaded", "unloaded"))
    rates = found["per second"]
    told = found["accepted p95, overloaded/unloaded"]
    return Row(
        work="router under twice its load, p95 of what it accepts", unit="ms", ours=full, peer=calm, peer_name="its own load",
        ratio=Figure(*(told[name] for name in ("median", "least", "most"))), target=Target(2.0, "lower", "ratio"),
        note=f"{CLIENTS} clients keep it busy; of twice as many, who ask again at once, it accepts {rates['200']:,.0f} requests a "
        f"second and answers {rates['429']:,.0f} with 429",
    )  # fmt: skip
