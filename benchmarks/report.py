"""Results as JSON, as a Markdown table and as a plot (SVG). Draws from the JSON only, so that a report can be drawn again."""

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.harness import Figure, Row

JSON_FILE, TABLE_FILE, PLOT_FILE = "benchmarks.json", "benchmarks.md", "benchmarks.svg"
BAR, LEFT, WIDTH, SPAN = 22, 330, 900, 20.0
"""Pixels of a bar's height, of the names' column and of the whole; a bar ends where the figure is 20 times off the target."""


def write(folder: Path, result: dict[str, Any]) -> None:
    """The three files. The table is written last: it names the others."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_FILE).write_text(json.dumps(result, indent=2) + "\n")
    rows = [Row.from_json(item) for item in result["rows"]]
    (folder / PLOT_FILE).write_text(plot([row for row in rows if row.target is not None]))
    (folder / TABLE_FILE).write_text(page(result, rows))


def page(result: dict[str, Any], rows: Sequence[Row]) -> str:
    """The Markdown page."""
    on = result["machine"]
    short = [row.work for row in rows if row.met is False]
    lines = [
        "# Benchmarks",
        "",
        "<!-- written by `make bench` -->",
        "",
        f"Measured with `make bench` on {on['cores']} cores ({on['cpu']}), {on['memory_gib']} GiB of memory, {on['system']}, "
        f"Python {on['python']}, in {result['seconds'] / 60:.0f} minutes. Clients, servers and databases share these cores.",
        "A figure is the median over rounds, with the lowest and the highest round in brackets; rounds of ours and of the peer",
        "take turns, and a ratio (ours to the peer's) is taken within a round.",
        "",
        f"{sum(row.met is True for row in rows)} of {sum(row.met is not None for row in rows)} targets are met"
        + (f"; short: {', '.join(short)}." if short else "."),
        "",
        f"![How far each figure is from its target]({PLOT_FILE})",
        "",
        *table(rows),
        "",
        *[f"- **{row.work}**: {row.note}." for row in rows if row.note],
    ]
    lines += [f"- **{name}** failed: {why}" for name, why in result["failed"].items()]
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Row]) -> list[str]:
    """One line for each row."""
    lines = ["| work | ours | peer | ratio | target | |", "|---|---|---|---|---|---|"]
    for row in rows:
        peer = f"{row.peer_name}: {figure(row.peer)} {row.unit}" if row.peer else "–"
        ratio = figure(row.ratio) if row.ratio else "–"
        lines.append(f"| {row.work} | {figure(row.ours)} {row.unit} | {peer} | {ratio} | {aim(row)} | {verdict(row)} |")
    return lines


def figure(value: Figure) -> str:
    """Median [lowest to highest], or the median alone where they are the same."""
    middle = number(value.median)
    return middle if value.low == value.high else f"{middle} [{number(value.low)}–{number(value.high)}]"


def number(value: float) -> str:
    """Three digits that count."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{digits}f}"


def aim(row: Row) -> str:
    if row.target is None:
        return "–"
    sign = "≤" if row.target.better == "lower" else "≥"
    return f"{sign} {row.target.limit:g}" + ("×" if row.target.of == "ratio" else f" {row.unit}")


def verdict(row: Row) -> str:
    return {None: "", True: "met", False: "**short**"}[row.met]


def reach(row: Row) -> float:
    """How often the target is reached: 2 is twice as good as it asks for, 0.5 half as good."""
    assert row.target is not None
    judged = row.ratio if row.target.of == "ratio" and row.ratio is not None else row.ours
    if judged.median <= 0:
        return SPAN
    found = row.target.limit / judged.median
    return found if row.target.better == "lower" else 1 / found


def plot(rows: Sequence[Row]) -> str:
    """Bars on a logarithmic axis around the target, to the right where it is met."""
    height, middle = BAR * len(rows) + 60, LEFT + (WIDTH - LEFT - 60) / 2
    half = (WIDTH - LEFT - 60) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{middle}" y="16" text-anchor="middle">target</text>',
        f'<text x="{middle - 8}" y="{height - 10}" text-anchor="end">← short of it</text>',
        f'<text x="{middle + 8}" y="{height - 10}">better than it →</text>',
    ]
    for index, row in enumerate(rows):
        y, value = 26 + BAR * index, reach(row)
        length = max(-1.0, min(1.0, math.log(value) / math.log(SPAN))) * half
        x, colour = min(middle, middle + length), "#2b7a4b" if row.met else "#b3392f"
        parts.append(f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(row.work)}</text>')
        parts.append(f'<rect x="{x:.1f}" y="{y + 2}" width="{max(abs(length), 1):.1f}" height="{BAR - 6}" fill="{colour}"/>')
        parts.append(f'<text x="{WIDTH - 8}" y="{y + 13}" text-anchor="end">{number(value)}×</text>')
    parts.append(f'<line x1="{middle}" y1="22" x2="{middle}" y2="{height - 26}" stroke="black"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
