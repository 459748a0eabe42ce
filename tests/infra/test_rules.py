"""The infra rules through `by_rules`: a whole environment passes, and each thing that breaks it is refused by its rule, by name."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from infra.check import by_rules
from infra.table import table
from tests.sentinelnet import BUNDLE, GOOD

FACTS = GOOD["provision"] | {"action": "provision"}
LOCK = "aws_s3_bucket_object_lock_configuration"

STATELESS = frozenset({
    "aws_backup_plan", "aws_backup_selection", "aws_budgets_budget", "aws_ce_anomaly_monitor", "aws_ce_anomaly_subscription",
    "aws_ce_cost_allocation_tag", "aws_cloudwatch_event_rule", "aws_cloudwatch_event_target", "aws_cloudwatch_log_metric_filter",
    "aws_cloudwatch_metric_alarm", "aws_db_parameter_group", "aws_db_subnet_group", "aws_default_security_group",
    "aws_efs_access_point", "aws_efs_file_system_policy", "aws_efs_mount_target", "aws_eip", "aws_eks_access_entry",
    "aws_eks_access_policy_association", "aws_eks_addon", "aws_eks_node_group", "aws_eks_pod_identity_association", "aws_flow_log",
    "aws_iam_instance_profile", "aws_iam_openid_connect_provider", "aws_iam_role", "aws_iam_role_policy",
    "aws_iam_role_policy_attachment", "aws_internet_gateway", "aws_kms_alias", "aws_launch_template", "aws_nat_gateway",
    "aws_placement_group", "aws_route", "aws_route_table", "aws_route_table_association", "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_logging", "aws_s3_bucket_ownership_controls", "aws_s3_bucket_policy", "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_replication_configuration", "aws_s3_bucket_server_side_encryption_configuration", "aws_security_group",
    "aws_sns_topic", "aws_sns_topic_policy", "aws_sns_topic_subscription", "aws_sqs_queue", "aws_sqs_queue_policy", "aws_subnet",
    "aws_vpc", "aws_vpc_endpoint", "aws_vpc_security_group_egress_rule", "aws_vpc_security_group_ingress_rule",
})  # fmt: skip
"""Made anew, a resource of these types is as it was: what it holds is in the program, or under way, as messages of a queue are.
Files behind an access point or a mount target are the file system's."""

Break = Callable[[dict[str, Any]], object]


def _set(kind: str, attribute: str, value: Any, place: int = 0) -> Break:
    return lambda given: given["resources"][kind][place].__setitem__(attribute, value)


def _stated(name: str, **changes: Any) -> Break:
    return lambda given: next(item for item in given["statements"] if item["id"] == name).update(changes)


def _changed(**row: Any) -> Break:
    base = {"address": "aws_db_instance.main", "type": "aws_db_instance", "actions": ["delete", "create"], "protect": True}
    return lambda given: given["changes"].append(base | {"before": {}, "after": {}} | row)


def _excepted(**changes: Any) -> Break:
    return lambda given: given["exceptions"][0].update(changes)


def _text(path: str, text: str) -> Break:
    return lambda given: given["texts"].append({"resource": "aws_db_instance.main", "path": path, "text": text})


BROKEN: list[tuple[str, str, Break]] = [
    ("infra.signing-keys", "aws_kms_key.audit", _set("aws_kms_key", "protect", False, 2)),
    ("infra.signing-keys", "aws_kms_key.audit", _stated("aws_kms_key.audit#Sign", principals=["arn:aws:iam::111122223333:root"])),
    ("infra.key-material", "aws_db_instance.main", _text("password", "correct horse")),
    ("infra.locked-buckets", "aws_s3_bucket.audit", _set("aws_s3_bucket", "object_lock_enabled", False, 1)),
    ("infra.locked-buckets", f"{LOCK}.x", _changed(address=f"{LOCK}.x", type=LOCK, actions=["update"])),
    ("infra.iam-wildcards", "aws_iam_role_policy.proxy", _stated("aws_iam_role_policy.proxy#Sign", resources=["*"])),
    ("infra.cluster", "aws_eks_cluster.main", _set("aws_eks_cluster", "vpc_config", [{"endpoint_public_access": True}])),
    ("infra.cluster", "aws_launch_template.gpu", _set("aws_launch_template", "metadata_options", [])),
    ("infra.encryption", "aws_db_instance.main", _set("aws_db_instance", "storage_encrypted", False)),
    ("infra.recovery", "aws_db_instance.main", _set("aws_db_instance", "multi_az", False)),
    ("infra.tags", "aws_vpc.main", _set("aws_vpc", "tags", {"team": "ml"})),
    ("infra.network", "aws_security_group.db", _set("aws_security_group", "ingress", [{"cidr_blocks": ["0.0.0.0/0"]}])),
    ("infra.destruction", "aws_db_instance.main", _changed()),
    ("infra.exceptions", "aws_iam_policy.node", _excepted(expires=FACTS["now"] - 1)),
    ("infra.exceptions", "aws_vpc.main", _excepted(resource="aws_vpc.main")),
]


def test_environment_that_keeps_every_rule_has_no_violation() -> None:
    assert by_rules(BUNDLE, FACTS) == []


@pytest.mark.parametrize(("rule", "resource", "broken"), BROKEN, ids=[f"{rule} of {resource}" for rule, resource, _ in BROKEN])
def test_what_breaks_a_rule_is_refused_by_its_name(rule: str, resource: str, broken: Break) -> None:
    given = copy.deepcopy(FACTS)
    broken(given)
    found = by_rules(BUNDLE, given)
    assert (rule, resource) in {(item.rule, item.resource) for item in found}


def test_somebody_said_of_every_type_whether_it_holds_what_cannot_be_made_anew() -> None:
    types, stateful = {row.type for row in table().values()}, set(BUNDLE.data["limits"]["stateful_types"])
    assert STATELESS.isdisjoint(stateful)
    assert types - stateful == STATELESS


def test_every_rule_is_broken_by_something() -> None:
    assert {rule for rule, *_ in BROKEN} == set(BUNDLE.rules_for("provision"))


def test_destruction_that_is_written_down_is_let_go() -> None:
    given = copy.deepcopy(FACTS)
    given["exceptions"] = [item for item in given["exceptions"] if item["rule"] != "infra.destruction"]
    assert [(item.rule, item.resource) for item in by_rules(BUNDLE, given)] == [("infra.destruction", "aws_kms_key.data")]


def test_statement_that_lost_its_exception_is_named_with_its_policy() -> None:
    given = copy.deepcopy(FACTS)
    given["exceptions"] = [item for item in given["exceptions"] if item["rule"] == "infra.destruction"]
    (found,) = by_rules(BUNDLE, given)
    assert (found.rule, found.resource) == ("infra.iam-wildcards", "aws_iam_policy.node")
