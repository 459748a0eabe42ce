"""What is judged by which tests, how many changes they noticed, and where these figures are kept: docs/mutation.json and .md."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "docs" / "mutation.json"
PAGE = ROOT / "docs" / "mutation.md"

TESTS = {
    "core/canonical.py": ("unit/test_canonical.py",),
    "core/quorum.py": ("unit/test_quorum.py",),
    "core/logentry.py": ("unit/test_logentry.py",),
    "core/logfindings.py": ("unit/test_log_findings.py", "unit/test_audit_findings.py"),
    "core/logevents.py": ("unit/test_audit_findings.py",),
    "core/logtree.py": ("unit/test_audit_tree.py", "unit/test_audit_findings.py"),
    "core/logcheck.py": ("unit/test_log_checkpoints.py", "unit/test_audit_findings.py"),
    "core/merkle.py": ("unit/test_merkle.py",),
    "core/tlog.py": ("unit/test_tlog.py", "unit/test_tlog_tiles.py"),
    "core/verdict.py": ("unit/test_policy_verdict.py",),
    "core/facts.py": ("unit/test_facts.py",),
    "core/rego.py": ("unit/test_policy_rego.py",),
}
"""Module below services/ → the tests that it is judged by."""

HEAD = """# How many changes of the code behind verdicts its tests notice

Written by `make mutation RECORD=1`; one module anew: `make mutation RECORD=1 MODULES=core/merkle.py`.
[mutmut](https://mutmut.readthedocs.io) changes each function in small ways, one at a time; the tests named here, and no others, run
on each change. *Killed*: a test failed. *Hung*: the tests did not end within 15 times their own time. *Survived*: they passed, or
none runs the function. *Not judged*: mutmut gave no answer. The score is killed and hung of all; every module must reach 80 %.
`mutation.json` has the SHA-256 of the module that the figures are of.

"""


@dataclass(frozen=True)
class Score:
    """How the mutants of one module ended. sha256: of the module's file."""

    module: str
    sha256: str
    mutants: int
    killed: int
    hung: int
    survived: int
    not_judged: int

    @property
    def percent(self) -> float:
        return 100 * (self.killed + self.hung) / self.mutants


def count(module: str, source: bytes, words: Iterable[str]) -> Score:
    """words: how mutmut says that each mutant ended."""
    ended = list(words)
    killed = sum(word in ("killed", "segfault") for word in ended)
    hung = ended.count("timeout")
    survived = sum(word in ("survived", "no tests") for word in ended)
    not_judged = len(ended) - killed - hung - survived
    return Score(module, hashlib.sha256(source).hexdigest(), len(ended), killed, hung, survived, not_judged)


def read() -> dict[str, Score]:
    """Module → the figures that are kept."""
    return {item["module"]: Score(**item) for item in json.loads(KEPT.read_text())} if KEPT.exists() else {}


def record(scores: Mapping[str, Score]) -> None:
    """Keeps the figures, for machines and for people."""
    kept = [scores[module] for module in TESTS if module in scores]
    KEPT.write_text(json.dumps([asdict(found) for found in kept], indent=2) + "\n")
    PAGE.write_text(page(kept))


def page(scores: Iterable[Score]) -> str:
    """docs/mutation.md."""
    head = "| module | judged by | mutants | killed | hung | survived | not judged | score |\n|---|---|---|---|---|---|---|---|\n"
    return HEAD + head + table(scores) + "\n"


def table(scores: Iterable[Score]) -> str:
    """One row a module."""
    return "\n".join(_row(found) for found in scores)


def _row(found: Score) -> str:
    tests = ", ".join(f"`{name}`" for name in TESTS[found.module])
    figures = " | ".join(str(number) for number in (found.mutants, found.killed, found.hung, found.survived, found.not_judged))
    return f"| `{found.module}` | {tests} | {figures} | {found.percent:.1f} % |"
