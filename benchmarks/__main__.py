"""Measures the platform against its targets and its peers: `make bench`, or

    python -m benchmarks [--only registration,weights] [--quick] [--out FOLDER] [--again]

Progress goes to stderr, the table to stdout. A run of everything writes docs/benchmarks.{json,md,svg}; `--only` and `--quick` write
where --out says and nowhere else. `--only NAME --again` puts what is measured into docs/, in place of what is there of it and is of
the same machine. Exit status 1 if a benchmark failed; a target that is not met is told and is no failure.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.harness import FULL, QUICK, Row, Size, machine, say
from benchmarks.one import MODULES, Failed, measured

DOCS = Path(__file__).resolve().parent.parent / "docs"


def run(names: list[str], size: Size) -> dict[str, Any]:
    """The result of each benchmark, one after the other; what fails is named and does not stop the others."""
    start, rows, failed = time.monotonic(), list[dict[str, Any]](), dict[str, str]()
    for position, name in enumerate(names, 1):
        begun = time.monotonic()
        say(f"{position}/{len(names)} {name}")
        try:
            rows += [row.to_json() | {"of": name} for row in measured(name, size)]
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
        "rows": rows,
    }


def joined(last: dict[str, Any], again: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The last run with a part of it measured again. Raises SystemExit: that was on another machine."""
    if last["machine"] != again["machine"]:
        raise SystemExit(f"docs/ has figures of another machine ({last['machine']}): measure all of them")
    rows = [*again["rows"], *(row for row in last["rows"] if row["of"] not in names)]
    return last | {
        "seconds": round(last["seconds"] + again["seconds"], 1),
        "failed": {name: why for name, why in last["failed"].items() if name not in names} | again["failed"],
        "rows": sorted(rows, key=lambda row: list(MODULES).index(row["of"])),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", default=",".join(MODULES), help="names, separated by commas; default: all of them")
    parser.add_argument("--quick", action="store_true", help="the smallest size: shows that a benchmark works, no figures")
    parser.add_argument("--out", type=Path, help="folder for JSON, table and plot")
    parser.add_argument("--again", action="store_true", help="measure a part of the last run again, and write docs/ with it")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := [name for name in names if name not in MODULES]:
        parser.error(f"no benchmark {unknown[0]!r}: there are {', '.join(MODULES)}")
    result = run(names, QUICK if options.quick else FULL)
    if options.again:
        result = joined(json.loads((DOCS / report.JSON_FILE).read_text()), result, names)
    out = options.out or (DOCS if (names == list(MODULES) or options.again) and not options.quick else None)
    if out is not None:
        report.write(out, result)
        say(f"written: {out}")
    print("\n".join(report.table([Row.from_json(item) for item in result["rows"]])))
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
