"""Changes the code in small ways (mutmut) and counts how many of the changes the tests notice.

    python -m tests.mutation [MODULE…] [--out FOLDER] [--least PERCENT]

Works on a copy of the tree, so no checkout changes meanwhile. Each module is judged by its own quick tests only: what those do not
notice counts as survived, even if a slow test elsewhere would notice it. A change that makes the tests hang (a loop that no longer
ends) counts as noticed. mutmut changes the bodies of functions; constants of a module and most decorated functions it leaves alone.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("services", "tests", "policies", "requirements", "examples")

TESTS = {
    "core/canonical.py": ("unit/test_canonical.py",),
    "core/quorum.py": ("unit/test_quorum.py",),
    "core/logentry.py": ("unit/test_logentry.py",),
    "core/logcheck.py": ("unit/test_audit_check.py", "unit/test_audit_findings.py", "unit/test_audit_tree.py"),
    "core/merkle.py": ("unit/test_merkle.py",),
    "core/verdict.py": ("unit/test_policy_verdict.py",),
    "core/facts.py": ("unit/test_facts.py",),
    "core/rego.py": ("unit/test_policy_rego.py",),
}
"""Module below services/ → the tests that it is judged by."""

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

NOTICED = ("killed", "timeout", "segfault")
MUTMUT = (sys.executable, "-m", "mutmut")


@dataclass(frozen=True)
class Score:
    """How the mutants of one module ended. survivors: the changes, as diffs."""

    module: str
    noticed: int
    total: int
    seconds: float
    survivors: tuple[str, ...]

    @property
    def percent(self) -> float:
        return 100 * self.noticed / self.total


def main() -> int:
    """Exit status 1 if a module's score is below --least."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TESTS)}; default: all")
    parser.add_argument("--out", type=Path, help="folder for mutation.json, mutation.md and the survivors' diffs")
    parser.add_argument("--least", type=float, default=80.0, help="percent that each module must reach")
    options = parser.parse_args()
    if unknown := set(options.modules) - set(TESTS):
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    scores = []
    for module in options.modules or TESTS:
        scores.append(score(module))
        print(_row(scores[-1]), flush=True)
        if options.out is not None:
            write(options.out, scores)
    return int(any(found.percent < options.least for found in scores))


def score(module: str) -> Score:
    """Changes one module and runs its tests on each change."""
    begun = time.monotonic()
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
        survivors = tuple(
            subprocess.run([*MUTMUT, "show", name], cwd=tree, env=environ, capture_output=True, text=True, check=True).stdout
            for name, word in sorted(words.items())
            if word not in NOTICED
        )
    noticed = sum(word in NOTICED for word in words.values())
    return Score(module, noticed, len(words), time.monotonic() - begun, survivors)


def write(folder: Path, scores: list[Score]) -> None:
    """The results for machines, for people, and what to write tests for."""
    folder.mkdir(parents=True, exist_ok=True)
    values = [asdict(found) | {"percent": round(found.percent, 1)} for found in scores]
    (folder / "mutation.json").write_text(json.dumps(values, indent=2) + "\n")
    lines = ["| module | tests | mutants | noticed | score |", "|---|---|---|---|---|", *map(_row, scores)]
    (folder / "mutation.md").write_text("\n".join(lines) + "\n")
    for found in scores:
        (folder / f"{Path(found.module).stem}.diff").write_text("\n".join(found.survivors))


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


def _row(found: Score) -> str:
    tests = ", ".join(f"`{name}`" for name in TESTS[found.module])
    return f"| `{found.module}` | {tests} | {found.total} | {found.noticed} | {found.percent:.1f} % |"


if __name__ == "__main__":
    sys.exit(main())
