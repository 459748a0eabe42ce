"""The router before KServe, as rows of the common report; measured by benchmarks.router."""

from benchmarks.harness import Figure, Row, Size, Target
from benchmarks.router import PASSES, compare

CLIENTS = 8


def measure(size: Size) -> list[Row]:
    """p95 and throughput of predictions, through the router against the same predictor asked directly."""
    found = compare(CLIENTS, size.of(5, 1), size.rounds, PASSES)
    peer, note = "KServe asked directly", f"{CLIENTS} clients, mutual TLS on both paths, a prediction record for each answer"
    limits = {"p95": Target(1.15, "lower", "ratio"), "rps": Target(0.97, "higher", "ratio")}
    names = {"p95": ("router, p95", "ms", "p95_ms"), "rps": ("router, throughput", "1/s", "rps")}
    rows = []
    for key, (work, unit, field) in names.items():
        ours, theirs = (Figure.of([found[side][field]]) for side in ("router", "direct"))
        ratio = Figure(*(found["router/direct"][key][name] for name in ("median", "least", "most")))
        rows.append(Row(work=work, unit=unit, ours=ours, peer=theirs, peer_name=peer, ratio=ratio, target=limits[key], note=note))
    return rows
