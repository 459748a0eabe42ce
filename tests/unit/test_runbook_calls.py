"""Calls in runbooks can be typed as they stand: ours with all that they require, other tools with what they are known to take."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import botocore.session
import pytest
from botocore import xform_name
from typer.main import get_command

from services.cli import app
from tests.peers import ROOT
from tests.unit.test_runbooks import BOOKS, commands

OTHERS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "aws": {
        "cloudtrail validate-logs": (),
        "ec2 terminate-instances": ("--instance-ids",),
        "eks describe-addon-versions": (),
        "eks describe-cluster": ("--name",),
        "eks describe-cluster-versions": (),
        "eks update-nodegroup-config": ("--cluster-name", "--nodegroup-name", "--scaling-config"),
        "elbv2 create-listener": ("--load-balancer-arn", "--default-actions", "--protocol", "--port"),
        "elbv2 delete-listener": ("--listener-arn",),
        "elbv2 describe-listeners": ("--load-balancer-arn",),
        "elbv2 describe-load-balancers": (),
        "kms cancel-key-deletion": ("--key-id",),
        "kms describe-key": ("--key-id",),
        "kms enable-key": ("--key-id",),
        "s3api copy-object": ("--bucket", "--key", "--copy-source"),
        "s3api list-object-versions": ("--bucket", "--prefix"),
        "service-quotas list-service-quotas": ("--service-code",),
        "service-quotas request-service-quota-increase": ("--service-code", "--quota-code", "--desired-value"),
        "ssm get-parameter": ("--name",),
    },
    "cmctl": {"renew": ("-n",)},
    "helm": {"history": ("-n",)},
    # Without --stack it acts on whichever stack was chosen last.
    "pulumi": {
        "cancel": ("--stack",),
        "import": (),
        "preview": ("--refresh",),
        "refresh": ("--stack", "--config-file"),
        "stack change-secrets-provider": ("--stack",),
        "stack output": ("--stack",),
        "state unprotect": ("--stack",),
    },
}
"""Tool → what we call of it → what it needs each time, by its own manual and for what we want of it."""

NAMED: Final = ([], ["up"], ["stack", "export"])
PAGES: Final = [*BOOKS, ROOT / "deployment.md"]
AWS: Final = botocore.session.get_session()
OF_THE_CLI: Final = {"--output", "--query", "--region"}
"""Options of each command of the AWS CLI."""
NO_OPERATIONS: Final = {("cloudtrail", "validate-logs"), ("eks", "update-kubeconfig")}
"""What the AWS CLI has beside the operations of services, and no model tells."""


def missing(words: Sequence[str], typed: bool) -> str | None:
    """What a call of ours lacks. typed: a command by itself is a call too, unless it takes arguments: then it is named only."""
    command: Any = get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    options = {name: found for found in command.params for name in (*found.opts, *found.secondary_opts)}
    arguments = [found for found in command.params if found.param_type_name == "argument"]
    if hasattr(command, "commands") or "--help" in words or (not words and (arguments or not typed)):
        return None
    given, values = _parted(words, options)
    lacking = [name for name, found in options.items() if found.required and found.name not in given and found not in arguments]
    if lacking:
        return f"lacks {lacking[0]}"
    if len(values) < sum(found.required for found in arguments):
        return f"lacks one of {[found.name for found in arguments]}"
    return f"takes no {values[-1]}" if len(values) > len(arguments) and all(found.nargs == 1 for found in arguments) else None


def _parted(words: Sequence[str], options: Mapping[str, Any]) -> tuple[set[str], list[str]]:
    """Names of the options that a call gives, and its arguments."""
    given: set[str] = set()
    values: list[str] = []
    rest = iter(words)
    for word in rest:
        name, _, value = word.partition("=")
        if name not in options:
            values.append(word)
            continue
        given.add(options[name].name)
        if not options[name].is_flag and not value:
            next(rest, None)
    return given, values


def called_of(words: Sequence[str]) -> tuple[str, str | None]:
    """The tool, and the name in the table of what is called of it; none if it is not there."""
    plain = " ".join(word for word in words[1:] if not word.startswith("-"))
    return words[0], next((name for name in OTHERS[words[0]] if f" {name} " in f" {plain} "), None)


def misused(words: Sequence[str]) -> str | None:
    """What is wrong with a call of another tool."""
    tool, name = called_of(words)
    if name is None:
        return f"nobody said how {' '.join(words[:3])} is called: add it to the table"
    given = {word.split("=")[0] for word in words}
    lacking = [option for option in OTHERS[tool][name] if option not in given]
    return f"{tool} {name} lacks {lacking[0]}" if lacking else None


def others(text: str) -> list[list[str]]:
    """Calls of other tools, in the text. What is named only, to say of what something is true, is none."""
    found = commands(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [words for words in found if words and words[0] in OTHERS and words[1:] not in NAMED]


def calls_of_aws(text: str) -> Iterator[tuple[str, str, list[str]]]:
    """Service, operation and options of each call of the AWS CLI in a page's code."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    plain = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line for code in blocks for line in code.replace("\\\n", " ").splitlines()]
    for line in (*lines, *(" ".join(code.split()) for code in plain)):
        for service, operation, rest in re.findall(r"\baws ([a-z0-9-]+) ([a-z0-9-]+)([^|)]*)", line):
            yield service, operation, re.findall(r"(?<= )--[a-z0-9-]+", rest)


def fault_of_aws(service: str, operation: str, options: list[str]) -> str | None:
    """What AWS's own model of the service does not have; nothing if the CLI takes the call."""
    if (service, operation) in NO_OPERATIONS:
        return None
    model = AWS.get_service_model("s3" if service == "s3api" else service)
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    if operation not in operations:
        return f"no operation {operation}"
    shape = model.operation_model(operations[operation]).input_shape
    known = OF_THE_CLI | {f"--{xform_name(name, '-')}" for name in (shape.members if shape else ())}
    return next((f"no option {option}" for option in options if option not in known), None)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_call_in_a_runbook_is_whole(path: Path) -> None:
    ours = [words[1:] for words in commands(path.read_text()) if words and words[0] == "ai-infra"]
    assert [(words, found) for words in ours if (found := missing(words, typed=True))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_calls_other_tools_with_what_they_need(path: Path) -> None:
    assert [found for words in others(path.read_text()) if (found := misused(words))] == []


def test_every_line_of_the_table_is_of_a_call_that_a_page_has() -> None:
    called = {called_of(words) for path in PAGES for words in others(path.read_text())}
    assert called == {(tool, name) for tool, known in OTHERS.items() for name in known}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("rollout abort ID", "lacks --reason"),
        ("rollout abort --reason TEXT", "lacks one of ['rollout']"),
        ("rollout show ID OTHER", "takes no OTHER"),
        ("infra check", "lacks --env"),
        ("infra check --layer=platform --json", "lacks --env"),
        ("rollout abort ID --reason=TEXT", None),
        ("infra check --env ENV", None),
        ("quarantine set model NAME@N --reason TEXT", None),
        ("quarantine lift", None),
        ("rollout", None),
        ("rollout abort --help", None),
    ],
)
def test_what_a_call_lacks_is_named(line: str, fault: str | None) -> None:
    assert missing(line.split(), typed=True) == fault


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("pulumi cancel", "pulumi cancel lacks --stack"),
        ("aws service-quotas request-service-quota-increase --service-code ec2", "lacks --quota-code"),
        ("aws eks remove-cluster --name a", "add it to the table"),
        ("pulumi refresh --stack dev-apps --config-file=a.yaml", None),
        ("helm -n NAMESPACE history NAME", None),
    ],
)
def test_what_is_wrong_with_a_call_of_another_tool_is_named(line: str, fault: str | None) -> None:
    found = misused(line.split())
    assert found == fault if fault is None else fault in str(found)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_aws_knows_the_operations_and_options_of_a_page(path: Path) -> None:
    assert [(call, found) for call in calls_of_aws(path.read_text()) if (found := fault_of_aws(*call))] == []


@pytest.mark.parametrize(
    "line", ["aws eks describe-clusters --name x", "aws kms get-public-key --key x", "x=$(aws elbv2 delete-listener --arn x) | jq"]
)
def test_a_mistake_in_a_call_of_aws_is_found(line: str) -> None:
    (call,) = calls_of_aws(f"```sh\n{line}\n```")
    assert fault_of_aws(*call) is not None
