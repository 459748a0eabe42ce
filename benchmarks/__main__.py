"""Measures the platform against its targets and its peers: `make bench`, or

    python -m benchmarks [--only registration,weights] [--quick] [--out FOLDER]

Progress goes to stderr, the table to stdout. A run of everything writes docs/benchmarks.{json,md,svg}; `--only` and `--quick` write
where --out says and nowhere else. Exit status 1 if a benchmark failed; a target that is not met is told and is no failure.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.harness import FULL, QUICK, Row, Size, machine, say
from benchmarks.one import MODULES, Failed, measured

DOCS = Path(__file__).resolve().parent.parent / "docs"


def run(names: list[str], size: Size) -> dict[str, Any]:
    """The result of each benchmark, one after the other; what fails is named and does not stop the others."""
    start, rows, failed = time.monotonic(), list[Row](), dict[str, str]()
    for position, name in enumerate(names, 1):
        begun = time.monotonic()
        say(f"{position}/{len(names)} {name}")
        try:
            rows += measured(name, size)
        except Failed as error:
            failed[name] = str(error)
            say(f"{name} failed: {failed[name]}")
        say(f"{name} took {time.monotonic() - begun:.0f} s")
    return {
        "version": 1,
        "quick": size.quick,
        "machine": machine(),
        "seconds": round(time.monotonic() - start, 1),
        "failed": failed,
        "rows": [row.to_json() for row in rows],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", default=",".join(MODULES), help="names, separated by commas; default: all of them")
    parser.add_argument("--quick", action="store_true", help="the smallest size: shows that a benchmark works, no figures")
    parser.add_argument("--out", type=Path, help="folder for JSON, table and plot")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(MODULES)}")
    result = run(names, QUICK if options.quick else FULL)
    out = options.out or (DOCS if names == list(MODULES) and not options.quick else None)
    if out is not None:
        report.write(out, result)
        say(f"written: {out}")
    print("\n".join(report.table([Row.from_json(item) for item in result["rows"]])))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
