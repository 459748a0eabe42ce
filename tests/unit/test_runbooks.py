"""Runbooks: each is whole, in the table, and names commands that exist with options that they have."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from services.cli import app
from tests.peers import ROOT

FOLDER = ROOT / "runbooks"
BOOKS = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
PARTS = ("Symptom", "Check", "Act", "Verify", "Undo")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(text: str) -> Iterator[list[str]]:
    """Code in a runbook, in words; a line break within is a space."""
    for code in re.findall(r"`([^`]+)`", text):
        yield shlex.split(" ".join(code.split()).replace("…", ""))


def fault(words: list[str]) -> str | None:
    """What is wrong with a call of ours; nothing if the command takes it."""
    command: Any = get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word != "-" and word.split("=")[0] not in known | {"--help"}]
    return f"no option {unknown[0]}" if unknown else None


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_all_parts_in_order_and_stands_in_the_table(path: Path) -> None:
    text = path.read_text()
    places = [text.find(f"**{part}.**") for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)
    assert f"[{path.stem}]({path.name})" in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_the_commands_of_a_runbook_exist(path: Path) -> None:
    ours = [words for words in commands(path.read_text()) if words and words[0] == "ai-infra"]
    assert [(words, found) for words in ours if (found := fault(words[1:]))] == []
    made = [words[1] for words in commands(path.read_text()) if len(words) > 1 and words[0] == "make"]
    assert set(made) <= TARGETS


@pytest.mark.parametrize("page", ["README.md", "deployment.md", "CONTRIBUTING.md"])
def test_the_commands_of_a_page_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    lines = [part.strip() for line in blocks.splitlines() for part in re.split(r"&& | \| ", line.split("#")[0])]
    lines = [re.sub(r"^([A-Z_]+=\S+ )+", "", line) for line in lines]
    called = [shlex.split(line) for line in lines if line.startswith(("ai-infra ", "make "))]
    called += commands(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ours = [words for words in called if words[:1] == ["ai-infra"]]
    assert ours or page == "CONTRIBUTING.md"
    assert [(words, found) for words in ours if (found := fault(words[1:]))] == []
    # A file that only make knows is no task: it has a name in `make help`.
    assert {word for words in called if words[:1] == ["make"] for word in words[1:] if "=" not in word} <= TARGETS


@pytest.mark.parametrize("line", ["rollout shew ID", "rollout show ID --jsn", "nothing"])
def test_a_command_that_is_not_there_is_found(line: str) -> None:
    assert fault(line.split()) is not None
