"""Written exceptions and skips: read strictly, for exact stacks."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.written import exceptions, skips
from services.core.errors import BadInput

EXCEPTION = """\
exceptions:
  - rule: infra.iam-wildcards
    resource: aws_iam_role_policy.karpenter#Describe
    stacks: [dev-ground, prod-ground]
    reason: EC2 lets these calls name no resource.
    approved_by: security
    expires: 2027-03-31
"""
SKIP = """\
skips:
  - check: CKV_AWS_18
    resources: [aws_s3_bucket.a, aws_s3_bucket.b]
    stacks: [dev-ground]
    reason: These take the access logs of the others.
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "written.yaml"
    path.write_text(text)
    return path


def test_exception_holds_in_its_stacks_until_its_last_day_is_over(tmp_path: Path) -> None:
    path = _file(tmp_path, EXCEPTION)
    (found,) = exceptions(path, "prod-ground")
    assert found.to_fact() == {
        "rule": "infra.iam-wildcards",
        "resource": "aws_iam_role_policy.karpenter#Describe",
        "reason": "EC2 lets these calls name no resource.",
        "approvedBy": "security",
        "expires": int(datetime(2027, 3, 31, 23, 59, 59, tzinfo=UTC).timestamp()),
    }
    assert exceptions(path, "staging-ground") == []


def test_skip_holds_for_each_of_its_resources(tmp_path: Path) -> None:
    path = _file(tmp_path, SKIP)
    assert sorted(skips(path, "dev-ground")) == [("CKV_AWS_18", "aws_s3_bucket.a"), ("CKV_AWS_18", "aws_s3_bucket.b")]
    assert skips(path, "dev-platform") == {}


@pytest.mark.parametrize(
    ("was", "now", "named"),
    [
        ("    reason: EC2 lets these calls name no resource.\n", "", "exceptions.0.reason"),
        ("EC2 lets these calls name no resource.", "because", "exceptions.0.reason"),
        ("infra.iam-wildcards", "infra.signing-keys", "exceptions.0.rule"),
        ("[dev-ground, prod-ground]", "[]", "exceptions.0.stacks"),
        ("dev-ground", "moon-ground", "exceptions.0.stacks.0"),
        ("2027-03-31", "soon", "exceptions.0.expires"),
        ("expires", "until", "exceptions.0.expires"),
    ],
)
def test_exception_that_lacks_something_is_refused_by_name(was: str, now: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=named):
        exceptions(_file(tmp_path, EXCEPTION.replace(was, now)), "dev-ground")


@pytest.mark.parametrize(("was", "now"), [("CKV_AWS_18", "all"), ("[aws_s3_bucket.a, aws_s3_bucket.b]", "[]"), ("skips", "skip")])
def test_skip_that_is_not_exact_is_refused(was: str, now: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="skip"):
        skips(_file(tmp_path, SKIP.replace(was, now)), "dev-ground")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.yaml"):
        exceptions(tmp_path / "absent.yaml", "dev-ground")
