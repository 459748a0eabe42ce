"""What runbooks and the deployment page do with kubectl: read-only commands run on a real API server, others exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.kube.apiserver import ApiServer
from tests.peers import ROOT, need
from tests.unit.test_runbooks import commands

PAGES = [*sorted((ROOT / "runbooks").glob("*.md")), ROOT / "deployment.md"]
PLACES = {"NAMESPACE": "default", "ENV": "dev", "MODEL": "digits", "POD": "pod", "NAME": "name", "NODE": "node"}
READING = ("get", "describe")
FINE = ("No resources found", "NotFound")
"""What kubectl says when it has understood."""


def calls(page: Path) -> list[list[str]]:
    """Of kubectl, with names in place of capitals."""
    text = page.read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [_piped(shlex.split(line.split("#")[0])) for line in blocks.splitlines() if line.startswith("kubectl ")]
    plain = [words for words in commands(re.sub(r"```.*?```", "", text, flags=re.DOTALL)) if words[:1] == ["kubectl"]]
    known = re.compile("|".join(PLACES))
    return [[known.sub(lambda found: PLACES[found.group()], word) for word in words[1:]] for words in lines + plain]


def _piped(words: list[str]) -> list[str]:
    """The first command of a pipe."""
    return words[: words.index("|")] if "|" in words else words


def run(cluster: ApiServer, folder: Path, words: list[str]) -> subprocess.CompletedProcess[str]:
    command = [need("kubectl"), f"--kubeconfig={cluster.kubeconfig(folder)}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def verb(words: list[str]) -> str:
    rest = words[2:] if words[0] in ("-n", "--namespace") else words
    return rest[0]


CALLS = sorted({shlex.join(words) for page in PAGES for words in calls(page) if words})


@pytest.mark.parametrize("line", CALLS)
def test_kubectl_understands(cluster: ApiServer, tmp_path: Path, line: str) -> None:
    words = shlex.split(line)
    if verb(words) in READING:
        done = run(cluster, tmp_path, words)
        assert done.returncode == 0 or any(fine in done.stderr for fine in FINE), done.stderr
    else:
        ours = words[: words.index("--")] if "--" in words else words
        flags = [word.split("=")[0] for word in ours if word.startswith("--")]
        told = run(cluster, tmp_path, [*(word for word in ours if not word.startswith("--")), "--help"])
        assert told.returncode == 0, told.stderr
        assert [flag for flag in flags if flag not in told.stdout] == []


def test_some_commands_were_found() -> None:
    assert len(CALLS) > 10


@pytest.mark.parametrize("line", ["get nodepoools", "-n ai-infra get pod --outptu=json"])
def test_a_mistake_is_found(cluster: ApiServer, tmp_path: Path, line: str) -> None:
    done = run(cluster, tmp_path, shlex.split(line))
    assert done.returncode != 0
    assert not any(fine in done.stderr for fine in FINE)
