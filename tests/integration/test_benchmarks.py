"""Every benchmark still runs, at its smallest size; its figures say nothing then. MLflow's side needs an environment of its own."""

import asyncio
import json
import math
from pathlib import Path

import pytest

from benchmarks import footprint, registration, report
from benchmarks.__main__ import DOCS, joined
from benchmarks.harness import QUICK, Figure, Row, Target, against, alone, machine, p95
from benchmarks.one import MODULES, Failed, measured
from benchmarks.peers import postgres
from services.home import Home, create

WITHOUT_MLFLOW = sorted(set(MODULES) - {"registration", "footprint"})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", WITHOUT_MLFLOW)
def test_a_benchmark_gives_rows_with_figures_and_targets(name: str) -> None:
    rows = measured(name, QUICK)
    assert [row for row in rows if row.target is not None]
    assert all(math.isfinite(value) for row in rows for value in (row.ours.low, row.ours.median, row.ours.high))


def test_a_benchmark_that_fails_is_told_by_what_it_said_last() -> None:
    with pytest.raises(Failed, match="KeyError: 'absent'"):
        measured("absent", QUICK)


def test_registrations_are_measured_on_postgresql(tmp_path: Path) -> None:
    with postgres(tmp_path / "postgres") as server, registration.platform(tmp_path, server, runs=500) as ours:
        load = asyncio.run(ours.load(0.5))
    assert load.rate > 0
    assert load.p95_ms > 0


def test_the_platforms_memory_and_start_are_measured(tmp_path: Path) -> None:
    home = Home.at(tmp_path / "home")
    create(home)
    taken, idle = footprint.platform(home, settle=0)
    assert taken > 0
    assert idle > 0


def test_the_memory_of_a_served_model_is_measured() -> None:
    assert footprint.served(settle=0) > 0


def test_a_row_is_judged_by_its_median() -> None:
    target = Target(0.25, "lower", "ratio")
    row = against("tail", "ms", [1.0, 2.0, 9.0], [8.0, 8.0, 8.0], "peer", target)
    assert (row.ratio, row.met) == (Figure(0.25, 0.125, 1.125), True)
    assert alone("rate", "1/s", [3.0], Target(4.0, "higher", "figure")).met is False
    assert alone("no target", "s", [1.0]).met is None


def test_95_percent_do_not_exceed_the_p95() -> None:
    assert [p95(values) for values in ([1.0], list(range(1, 21)), list(range(1, 101)))] == [1.0, 19, 95]


def test_the_page_of_the_figures_is_what_they_give(tmp_path: Path) -> None:
    report.write(tmp_path, json.loads((DOCS / report.JSON_FILE).read_text()))
    for name in (report.JSON_FILE, report.TABLE_FILE, report.PLOT_FILE):
        assert (tmp_path / name).read_text() == (DOCS / name).read_text()


def test_the_report_is_drawn_from_the_json_alone(tmp_path: Path) -> None:
    rows = [
        against("rate", "1/s", [200.0], [40.0], "peer", Target(4.0, "higher", "ratio"), "8 clients"),
        alone("sign <key>", "ms", [7.0], Target(5.0, "lower", "figure")),
    ]
    result = {"machine": machine(), "seconds": 60.0, "failed": {"router": "no peer"}, "rows": [row.to_json() for row in rows]}
    report.write(tmp_path, result)
    read = json.loads((tmp_path / "benchmarks.json").read_text())
    assert [Row.from_json(item) for item in read["rows"]] == rows
    page = (tmp_path / "benchmarks.md").read_text()
    assert "| rate | 200 1/s | peer: 40.0 1/s | 5.00 | ≥ 4× | met |" in page
    assert "| sign <key> | 7.00 ms | – | – | ≤ 5 ms | **short** |" in page
    assert "1 of 2 targets are met; short: sign <key>." in page
    assert "- **router** failed: no peer" in page
    assert "sign &lt;key&gt;" in (tmp_path / "benchmarks.svg").read_text()


def test_a_part_that_is_measured_again_takes_the_place_of_its_rows_alone() -> None:
    rows = [{"of": "audit", "n": 1}, {"of": "infra", "n": 2}]
    last = {"machine": {"cpu": "a"}, "seconds": 10.0, "failed": {"infra": "no"}, "rows": rows}
    again = {"machine": {"cpu": "a"}, "seconds": 1.5, "failed": {}, "rows": [{"of": "infra", "n": 3}, {"of": "infra", "n": 4}]}
    found = joined(last, again, ["infra"])
    assert found["rows"] == [{"of": "audit", "n": 1}, {"of": "infra", "n": 3}, {"of": "infra", "n": 4}]
    assert (found["seconds"], found["failed"], found["machine"]) == (11.5, {}, last["machine"])
    with pytest.raises(SystemExit, match="another machine"):
        joined(last, again | {"machine": {"cpu": "b"}}, ["infra"])
