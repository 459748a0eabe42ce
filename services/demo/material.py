"""What the demo works on: a repository with the example in it, and data sets that may not be used as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from services.core.errors import BadSetting

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "digits"
AUTHOR = {
    "GIT_AUTHOR_NAME": "ai-infra demo",
    "GIT_AUTHOR_EMAIL": "demo@ai-infra.local",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "ai-infra demo",
    "GIT_COMMITTER_EMAIL": "demo@ai-infra.local",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
}
"""Fixed, so that the commit is the same one everywhere."""


def make_repository(folder: Path) -> Path:
    """Commits the example into a fresh repository; its codeRef is real wherever the demo came from (tarball, dirty checkout)."""
    if shutil.which("git") is None:
        raise BadSetting("git is not on PATH: the demo records a commit; install git")
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "data"))
    for arguments in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "The digits example"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True, env=os.environ | AUTHOR)
    # The data is made from scikit-learn's copy; it is registered as a data set and is no part of the source.
    subprocess.run([sys.executable, "prepare.py"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def variant(dataset: Path, target: Path, **changes: Any) -> Path:
    """A data set description beside the original, with some fields changed."""
    value = yaml.safe_load(dataset.read_text()) | changes | {"directory": str((dataset.parent / "data").resolve())}
    target.write_text(yaml.safe_dump(value))
    return target


def job_on(job: Path, target: Path, dataset: str) -> Path:
    """A job description like another one, on another data set."""
    target.write_text(yaml.safe_dump(yaml.safe_load(job.read_text()) | {"datasets": [dataset]}))
    return target
