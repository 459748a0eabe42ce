"""checkov as a judge of plans: what fails is named, and a run that judged nothing is an error."""

from pathlib import Path
from typing import Any

import pytest

from infra.check import by_checkov
from infra.checkov import CheckovFailed, Failure, failures, find_checkov, read_report
from infra.written import Skip
from services.core.errors import MissingTool
from tests.peers import need

SKIP = Skip(check="CKV_AWS_20", resources=("aws_s3_bucket.b",), stacks=("dev-ground",), reason="A page for everybody.")
FAILURE = Failure("CKV_AWS_20", "aws_s3_bucket.b", "S3 Bucket has an ACL defined which allows public READ access.")


def _plan(acl: str) -> dict[str, Any]:
    """A plan as Terraform shows it, of a bucket and its ACL."""
    resources = [
        {"address": "aws_s3_bucket.b", "type": "aws_s3_bucket", "name": "b", "values": {"bucket": "b", "force_destroy": False}},
        {"address": "aws_s3_bucket_acl.b", "type": "aws_s3_bucket_acl", "name": "b", "values": {"bucket": "b", "acl": acl}},
    ]
    provider = {"mode": "managed", "provider_name": "registry.terraform.io/hashicorp/aws", "schema_version": 0}
    configured: list[dict[str, Any]] = [
        {"address": item["address"], "mode": "managed", "type": item["type"], "name": item["name"], "provider_config_key": "aws"}
        for item in resources
    ]
    configured[1]["expressions"] = {"bucket": {"references": ["aws_s3_bucket.b.id", "aws_s3_bucket.b"]}}
    return {
        "format_version": "1.2",
        "terraform_version": "1.11.4",
        "planned_values": {"root_module": {"resources": [provider | item for item in resources]}},
        "resource_changes": [
            {**provider, **item, "change": {"actions": ["create"], "before": None, "after": item["values"], "after_unknown": {}}}
            for item in resources
        ],
        "configuration": {"root_module": {"resources": configured}},
    }


def test_public_bucket_fails_in_whichever_plan_it_stands() -> None:
    program = need("checkov")
    assert FAILURE in failures(program, [_plan("private"), _plan("public-read")])
    assert "CKV_AWS_20" not in {item.check for item in failures(program, [_plan("private")])}


def test_plan_without_anything_to_judge_is_an_error() -> None:
    empty = {"format_version": "1.2", "terraform_version": "1.11.4", "planned_values": {"root_module": {}}, "resource_changes": []}
    with pytest.raises(CheckovFailed, match="no check at all"):
        failures(need("checkov"), [_plan("private"), empty])


def test_document_that_is_no_plan_is_an_error() -> None:
    with pytest.raises(CheckovFailed):
        failures(need("checkov"), [{"resource": {"aws_s3_bucket": {"b": {"bucket": "b"}}}}])


def test_report_that_does_not_add_up_is_an_error() -> None:
    with pytest.raises(CheckovFailed, match="names 0"):
        read_report({"summary": {"passed": 1, "failed": 1, "parsing_errors": 0}, "results": {"failed_checks": []}})
    with pytest.raises(CheckovFailed, match="could not read"):
        read_report({"passed": 0, "failed": 0, "parsing_errors": 1})


def test_program_that_answers_no_json_is_an_error(tmp_path: Path) -> None:
    program = tmp_path / "checkov"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 2\n")
    program.chmod(0o755)
    with pytest.raises(CheckovFailed, match="broken"):
        failures(str(program), [{}])


def test_failure_with_a_reason_is_none_and_a_reason_without_failure_is_one() -> None:
    skipped = {("CKV_AWS_20", "aws_s3_bucket.b"): SKIP}
    assert by_checkov([FAILURE], skipped) == []
    assert [item.rule for item in by_checkov([FAILURE], {})] == ["CKV_AWS_20"]
    (needless,) = by_checkov([], skipped)
    assert (needless.rule, needless.resource) == ("CKV_AWS_20", "aws_s3_bucket.b")
    assert "not needed" in needless.reason


def test_checkov_that_is_not_there_is_said_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match="make checkov"):
        find_checkov(tmp_path)
