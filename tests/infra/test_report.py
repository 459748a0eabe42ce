"""What people read of a diff: every row, what is refused, and what a comment leaves out."""

from infra.differences import LATER, Property, properties
from infra.report import lines, markdown
from infra.rows import SCOPE, Diff, Row

FORCED = Property("bucket", "ai-infra-dev-audit", "ai-infra-dev-other", forces=True)
REPLACED = Row("replace", "aws_s3_bucket.audit", "urn:audit", True, (FORCED,))
UPDATED = Row("update", "aws_eks_node_group.gpu", "urn:gpu", False, (Property("scaling_config[0].max_size", 2, 5),))


def _diff(*rows: Row, notes: tuple[str, ...] = ()) -> Diff:
    return Diff("dev-ground", "main", "c" * 40, rows, notes, {}, frozenset())


def test_terminal_shows_each_row_what_forces_it_and_what_is_refused() -> None:
    assert [line.text for line in lines(_diff(REPLACED, UPDATED))][:6] == [
        "dev-ground against main (cccccccccccc): 1 to replace, 1 to update",
        SCOPE,
        "± aws_s3_bucket.audit  replace (protected)",
        '    bucket: "ai-infra-dev-audit" → "ai-infra-dev-other"  # forces replacement',
        "~ aws_eks_node_group.gpu  update",
        "    scaling_config[0].max_size: 2 → 5",
    ]


def test_refusal_names_the_resource_and_the_remedy() -> None:
    last = list(lines(_diff(REPLACED)))[-1]
    assert last.kind == "refused"
    assert last.text.startswith("refused: aws_s3_bucket.audit is protected and would be replaced: take the protection away")


def test_comment_has_a_marker_of_its_stack_and_says_what_it_compares() -> None:
    first, title, *rest = markdown(_diff(REPLACED, UPDATED)).splitlines()
    assert first == "<!-- ai-infra infra diff dev-ground -->"
    assert title == "### `dev-ground`: 1 to replace, 1 to update"
    assert f"Against `main`. {SCOPE}" in rest
    assert "| ± replace | `aws_s3_bucket.audit` | **protected**, `bucket` forces replacement |" in rest


def test_comment_that_is_too_long_says_how_many_rows_are_left_out() -> None:
    rows = [
        Row("update", f"aws_kms_key.key-{number}", "urn", False, (Property("tags_all.team", "a", "b"),)) for number in range(900)
    ]
    text = markdown(_diff(*rows), limit=20_000)
    shown = text.count("| ~ update |")
    assert 0 < shown < 900
    assert f"{900 - shown} of 900 rows are left out" in text
    assert len(text) <= 20_000


def test_value_cannot_end_the_fence_or_the_table() -> None:
    row = Row("update", "aws_vpc.a", "urn", False, (Property("tags.a|b`c", "```", "</details>"),))
    text = markdown(_diff(row))
    assert "\n````text\n" in text
    assert "| `tags.a\\|b c` |" in text


def test_sensitive_value_is_never_shown() -> None:
    change = {
        "before": {"password": "old"},
        "after": {"password": "new"},
        "before_sensitive": {"password": True},
        "after_sensitive": {},
    }
    assert properties(change, {"password": "x"}) == [Property("password", "(sensitive)", "(sensitive)")]


def test_policy_is_compared_statement_by_statement() -> None:
    old = '{"Statement": [{"Sid": "Sign", "Action": "kms:Sign"}, {"Sid": "Read", "Action": "kms:Get"}]}'
    new = '{"Statement": [{"Sid": "Read", "Action": "kms:Get"}, {"Sid": "Sign", "Action": "kms:*"}]}'
    found = properties({"before": {"policy": old}, "after": {"policy": new}}, {"policy": ""})
    assert found == [Property("policy.Statement[Sign].Action", "kms:Sign", "kms:*")]


def test_what_aws_will_know_is_shown_where_the_program_writes_it() -> None:
    change = {"before": {"a": "x", "b": "y"}, "after": {}, "after_unknown": {"a": True, "b": True}}
    assert properties(change, {"a": "${aws_vpc.v.id}"}) == [Property("a", "x", LATER)]
