"""The page of canary campaigns: a table and a plot, and beside them the results of every rollout that they are drawn from.

    python -m benchmarks.canary_page docs "On a quiet machine=quiet.json" "Beside other work=busy.json"
    python -m benchmarks.canary_page docs --add "Some scenarios again=again.json"
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

PAGE_FILE, PLOT_FILE, DATA_FILE = "canary.md", "canary.svg", "canary.json"
BAR, LEFT, WIDTH = 22, 190, 760
MOST = 10_000.0
"""Requests at the right end of the plot's logarithmic axis."""

TITLE = """# Canary campaign

<!-- written by `python -m benchmarks.canary_page` -->

Rollouts on real servers: controller, router, KServe predictors with planted faults, a load generator, all on the same two cores.
Each verdict is computed again from the sealed prediction records alone. *Canary requests*: those counted until the verdict, beyond
the 20 of the declared warm-up; golden probes need none. *Not claimed*: below what the test can see with so many requests; what came
out is shown, and is no promise. *same-cold* takes ten times as long for its first 20 requests, which are those of the warm-up:
hardly one is judged, and *cold-past-warm-up*, as slow for 40, shows what becomes of those that are. *latency-1.2x* lies within the
default tolerance of 1.25 times; *latency-1.2x-untolerated* is judged without one. The test itself is in
[ADR 11](adr/0011-sequential-canary-test.md); every rollout is in [canary.json](canary.json).
"""


def write(folder: Path, campaigns: Mapping[str, Mapping[str, Any]]) -> None:
    """Page, plot and data. campaigns: summary and results by title; the plot is of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DATA_FILE).write_text(json.dumps(campaigns, separators=(",", ":")) + "\n")
    first = next(iter(campaigns.values()))
    (folder / PLOT_FILE).write_text(plot(first["summary"]["scenarios"]))
    lines = [TITLE, f"![Canary requests until a planted fault was found]({PLOT_FILE})"]
    for title, campaign in campaigns.items():
        lines += ["", f"## {title}", "", *table(campaign["summary"])]
    (folder / PAGE_FILE).write_text("\n".join(lines) + "\n")


def table(summary: Mapping[str, Any]) -> list[str]:
    """One line for each scenario, and the sum of all."""
    head = ("scenario", "rollouts", "expected", "seen", "holds", "canary requests, median", "most", "golden pairs", "seconds")
    lines = [_line(head), _line(["---"] * len(head))]
    for name, found in summary["scenarios"].items():
        seen = ", ".join(f"{count} {state}" for state, count in found["states"].items())
        holds = "not claimed" if found["expect"] == "not detectable" else "yes" if found["holds"] else "**no**"
        numbers = [found[key] for key in ("medianCanaryRequests", "mostCanaryRequests", "medianPairs", "medianSeconds")]
        cells = ["" if number is None else f"{number:,.0f}" for number in numbers]
        lines.append(_line((name, found["rollouts"], found["expect"], seen, holds, *cells)))
    recomputed = "every verdict was" if summary["recomputed"] else "**not every verdict was**"
    false = f"{summary['falseRollbacks']} false rollbacks in {summary['same']} rollouts of a version without a fault"
    return [*lines, "", f"{false}; {recomputed} recomputed from the sealed records."]


def _line(cells: Sequence[Any]) -> str:
    return f"|{'|'.join(str(cell) for cell in cells)}|"


def plot(scenarios: Mapping[str, Mapping[str, Any]]) -> str:
    """Bars of the median on a logarithmic axis, with a line to the most."""
    shown = [(name, found) for name, found in scenarios.items() if found["expect"] == "rolled_back" and found["rollouts"]]
    height = BAR * len(shown) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="16">canary requests until the rollback: median (bar) and most (line)</text>',
    ]
    for index, (name, found) in enumerate(shown):
        y, median, most = 28 + BAR * index, found["medianCanaryRequests"] or 0, found["mostCanaryRequests"] or 0
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y + 2}" width="{max(_x(median) - LEFT, 1):.1f}" height="{BAR - 6}" fill="#2b7a4b"/>')
        parts.append(f'<line x1="{_x(median):.1f}" y1="{y + 10}" x2="{_x(most):.1f}" y2="{y + 10}" stroke="black"/>')
        parts.append(f'<text x="{_x(max(most, median)) + 6:.1f}" y="{y + 13}">{median:,.0f}</text>')
    bottom = 28 + BAR * len(shown)
    for mark in (1, 10, 100, 1000, 10_000):
        parts.append(f'<text x="{_x(mark):.1f}" y="{bottom + 18}" text-anchor="middle" fill="#666">{mark:,}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(requests: float) -> float:
    return LEFT + (WIDTH - LEFT - 60) * math.log(max(requests, 1)) / math.log(MOST)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("campaigns", nargs="+", help="TITLE=FILE, with what `benchmarks.canary --out FILE` wrote")
    parser.add_argument("--add", action="store_true", help="beside the campaigns that the folder's page is drawn from already")
    options = parser.parse_args()
    kept = json.loads((options.folder / DATA_FILE).read_text()) if options.add else {}
    pairs = [text.rpartition("=")[::2] for text in options.campaigns]
    write(options.folder, kept | {title: json.loads(Path(file).read_text()) for title, file in pairs})


if __name__ == "__main__":
    main()
