"""The cluster's and the state's configuration: dangerous values are refused, with the remedy."""

from typing import Any

import pytest
from pydantic import ValidationError

from stacks.config_cluster import ADDONS, ClusterConfig
from stacks.config_state import StateConfig, environment_faults

POOL = {"name": "train", "capacity": "spot", "instance_types": ["g5.xlarge"], "min": 0, "max": 4, "disk_gib": 200}
CLUSTER: dict[str, Any] = {
    "version": "1.32",
    "admin_role_arns": ["arn:aws:iam::111122223333:role/platform-admin"],
    "log_days": 30,
    "workload_identity": "pod-identity",
    "core": {"instance_types": ["m7i.large"], "min": 1, "max": 3, "desired": 2, "disk_gib": 50},
    "gpu_pools": [POOL],
    "addons": dict.fromkeys(sorted(ADDONS), "v1.32.0-eksbuild.1"),
}
DATABASE: dict[str, Any] = {
    "version": "17",
    "instance_class": "db.m7g.large",
    "storage_gib": 100,
    "max_storage_gib": 500,
    "backup_days": 35,
    "log_days": 365,
    "lasting": True,
}
STATE: dict[str, Any] = {
    "database": DATABASE,
    "backup": {"daily_days": 35, "monthly_days": 365, "lock_days": 35, "replica": True},
    "trail": {"log_days": 365},
    "alerts": {"emails": ["ops@example.com"]},
    "budget": {"monthly_usd": 500, "anomaly_usd": 50, "payer": False},
}


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"log_days": 31}, "take the next higher"),
        ({"admin_role_arns": []}, "at least 1"),
        ({"admin_role_arns": ["arn:aws:iam::111122223333:root"]}, "admin_role_arns"),
        ({"version": "latest"}, "version"),
        ({"workload_identity": "keys"}, "'pod-identity' or 'irsa'"),
        ({"addons": {}}, "pin a version of each"),
        ({"addons": CLUSTER["addons"] | {"coredns": "latest"}}, "coredns"),
        ({"addons": CLUSTER["addons"] | {"kube-proxy": "v1.33.0-eksbuild.1"}}, "kube-proxy is of 1.33, and the cluster is 1.32"),
        ({"addons": CLUSTER["addons"] | {"kube-proxy": "v1.28.1-eksbuild.1"}}, "at most 3 older"),
        ({"core": CLUSTER["core"] | {"min": 0}}, "core.min"),
        ({"core": CLUSTER["core"] | {"desired": 4}}, "must be within"),
        ({"core": CLUSTER["core"] | {"instance_types": ["m7g.large"]}}, "not Graviton"),
        ({"gpu_pools": [POOL, POOL]}, "rename one"),
        ({"gpu_pools": [POOL | {"efa": True}]}, "name it"),
        ({"gpu_pools": [POOL | {"instance_types": ["m7i.large"]}]}, "no NVIDIA GPU"),
        ({"gpu_pools": [POOL | {"min": 5}]}, "over max"),
        ({"gpu_pools": [POOL | {"zone": "eu-central-1a", "capacity_reservation_id": "cr-0123456789abcdef0"}]}, "on-demand"),
        ({"gpu_pools": [POOL | {"max": "4"}]}, "valid integer"),
        ({"public_endpoint": True}, "Extra inputs"),
    ],
)
def test_cluster_that_is_dangerous_or_could_not_start_is_refused(changes: dict[str, Any], remedy: str) -> None:
    ClusterConfig.model_validate(CLUSTER)
    with pytest.raises(ValidationError, match=remedy):
        ClusterConfig.model_validate(CLUSTER | changes)


@pytest.mark.parametrize(
    ("part", "changes", "remedy"),
    [
        ("database", {"backup_days": 0}, "backup_days"),
        ("database", {"max_storage_gib": 100}, "a tenth over"),
        ("database", {"password": "x"}, "Extra inputs"),
        ("backup", {"lock_days": 36}, "would take none"),
        ("backup", {"monthly_days": 30}, "must not be under"),
        ("alerts", {"emails": []}, "at least 1"),
        ("budget", {"monthly_usd": 0}, "monthly_usd"),
        ("trail", {"log_days": 1000}, "take the next higher"),
    ],
)
def test_state_that_could_be_lost_or_unwatched_is_refused(part: str, changes: dict[str, Any], remedy: str) -> None:
    StateConfig.model_validate(STATE)
    with pytest.raises(ValidationError, match=remedy):
        StateConfig.model_validate(STATE | {part: STATE[part] | changes})


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("database", {"lasting": False}),
        ("database", {"backup_days": 34}),
        ("backup", {"lock_days": 30}),
        ("backup", {"lock_days": None}),
        ("backup", {"replica": False}),
        ("trail", {"log_days": 180}),
    ],
)
def test_prod_may_not_go_without(part: str, changes: dict[str, Any]) -> None:
    state = StateConfig.model_validate(STATE | {part: STATE[part] | changes})
    [key] = changes
    assert [fault.split(" ")[0] for fault in environment_faults("prod", state)] == [f"{part}.{key}"]
    assert environment_faults("dev", state) == []


def test_prod_with_everything_has_no_faults() -> None:
    assert environment_faults("prod", StateConfig.model_validate(STATE)) == []
