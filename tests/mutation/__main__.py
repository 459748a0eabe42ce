"""Changes the code in small ways (mutmut) and counts how many of the changes the tests notice.

    python -m tests.mutation [MODULE…] [--out FOLDER] [--record]

Works on a copy of the tree, so no checkout changes meanwhile. Each module is judged by its own quick tests only: what those do not
notice counts as survived, even if a slow test elsewhere would notice it. A change that makes the tests hang (a loop that no longer
ends) counts as noticed; one that mutmut did not get to judge does not. mutmut changes the bodies of functions; constants of a
module and most decorated functions it leaves alone.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutation.scores import ROOT, TESTS, Score, count, read, record, table

COPIED = ("services", "tests", "policies", "requirements", "examples")

CONFTEST = """
from hypothesis import Phase, settings

# The same examples each time, and no search for the smallest failing one: that a test fails is all that is asked.
settings.register_profile("mutation", database=None, derandomize=True, deadline=None, phases=[Phase.explicit, Phase.generate])
settings.load_profile("mutation")
"""

MEMORY = 4 << 30
"""Bytes of address space of one process: a loop that no longer ends may append to a list."""

UNLIMITED = ("core/rego.py",)
"""The policy engine's allocator reserves more address space than that before it starts."""

MUTMUT = (sys.executable, "-m", "mutmut")


def main() -> int:
    """Exit status 1 if a module's score is below --least."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TESTS)}; default: all")
    parser.add_argument("--out", type=Path, help="folder for the survivors' diffs: what to write tests for")
    parser.add_argument("--record", action="store_true", help="write the figures into docs/mutation.json and docs/mutation.md")
    parser.add_argument("--least", type=float, default=80.0, help="percent that each module must reach")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(TESTS):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    scores = []
    for module in options.modules or TESTS:
        scores.append(score(module, options.out))
        print(table(scores[-1:]), flush=True)
        if options.record:
            # Read again each time: runs over other modules may go on beside this one.
            record(read() | {module: scores[-1]})
    return int(any(found.percent < options.least for found in scores))


def score(module: str, out: Path | None) -> Score:
    """Changes one module and runs its tests on each change."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder)
        _prepare(tree, module)
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        run = [*MUTMUT, "run", "--max-children", "2"]
        limit = None if module in UNLIMITED else _limit
        done = subprocess.run(run, cwd=tree, env=environ, capture_output=True, check=False, preexec_fn=limit)
        meta = tree / "mutants" / "services" / f"{module}.meta"
        if not meta.exists():
            raise SystemExit(f"{module}: mutmut made no mutants:\n{done.stdout.decode()[-4000:]}{done.stderr.decode()[-2000:]}")
        words = _results(tree, environ)
        if set(words.values()) == {"not checked"}:
            raise SystemExit(f"{module}: its tests do not pass without a change:\n{done.stdout.decode()[-4000:]}")
        found = count(module, (tree / "services" / module).read_bytes(), words.values())
        if out is not None:
            _write_diffs(out / f"{Path(module).stem}.diff", tree, environ, words)
    return found


def _write_diffs(path: Path, tree: Path, environ: dict[str, str], words: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        for name, word in sorted(words.items()):
            if word not in ("killed", "segfault"):
                show = [*MUTMUT, "show", name]
                shown = subprocess.run(show, cwd=tree, env=environ, capture_output=True, text=True, check=True)
                file.write(f"# {word}\n{shown.stdout}\n")


def _prepare(tree: Path, module: str) -> None:
    for name in COPIED:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
    (tree / "tests" / "conftest.py").write_text(CONFTEST)
    (tree / "tests" / "__init__.py").write_text("")  # the whole suite's loads torch first; these tests need none
    tests = [f"tests/{name}" for name in TESTS[module]]
    lines = {
        "source_paths": ["services"],
        "only_mutate": [f"services/{module}"],
        "also_copy": ["policies", "requirements", "examples"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:schemathesis"],
        "pytest_add_cli_args_test_selection": tests,
    }
    config = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    (tree / "pyproject.toml").write_text(f"[tool.mutmut]\n{config}")


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _results(tree: Path, environ: dict[str, str]) -> dict[str, str]:
    """Mutant → the word for how it ended."""
    done = subprocess.run([*MUTMUT, "results", "--all", "true"], cwd=tree, env=environ, capture_output=True, text=True, check=True)
    pairs = [line.strip().rpartition(": ") for line in done.stdout.splitlines() if ": " in line]
    return {name: word for name, _, word in pairs}


if __name__ == "__main__":
    sys.exit(main())
