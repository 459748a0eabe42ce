"""Node pools and queues: what a component makes of its arguments, and what a configuration may not ask."""

from dataclasses import replace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from components.platform.kueue import Kueue, KueueArgs
from components.platform.node_pools import Launch, NodePool, NodePoolArgs, Quiet
from components.platform.queues import FLAVOURS, Queues, QueuesArgs, Quota
from stacks.config_capacity import CapacityConfig, holds_worker
from tests.infra.recorded import Graph, recorded

GPU = {"key": "nvidia.com/gpu", "value": "true", "effect": "NoSchedule"}
SPOT = {"key": "ai-infra/spot", "value": "true", "effect": "NoSchedule"}
LAUNCH = Launch(
    ami="al2023@v20260930",
    subnet_ids=["subnet-a", "subnet-b"],
    security_group_id="sg-nodes",
    disks_key_arn="arn:disks",
    instance_profile_name="ai-infra-dev-karpenter-node",
    tags={"team": "ml", "environment": "dev", "cost_centre": "42"},
)
CORE = NodePoolArgs(
    launch=LAUNCH,
    capacity="on-demand",
    instance_types=["m7i.xlarge"],
    cpu=64,
    memory_gib=256,
    gpus=0,
    disk_gib=100,
    expire_hours=336,
    grace_hours=1,
    quiet=Quiet(schedule="0 6 * * 1-5", hours=14),
)
GPUS = replace(CORE, instance_types=["g5.2xlarge", "g6.2xlarge"], gpus=8, disk_gib=300, grace_hours=12)
QUOTAS = {
    "core": Quota(cpu=16, memory_gib=64),
    "gpu-spot": Quota(cpu=32, memory_gib=128, gpus=4, borrow_gpus=4),
    "gpu-on-demand": Quota(cpu=16, memory_gib=64, gpus=2),
}
QUEUES = QueuesArgs(
    namespace="training-dev", teams={"vision": QUOTAS, "speech": QUOTAS}, priorities={"research": 10, "urgent": 100}
)


def pool(args: NodePoolArgs) -> Graph:
    return recorded(lambda: NodePool("some", args))


def template(args: NodePoolArgs) -> dict[str, Any]:
    found: dict[str, Any] = pool(args)["NodePool", "some"].inputs["spec"]["template"]
    return found


def queues(args: QueuesArgs = QUEUES) -> Graph:
    return recorded(lambda: Queues("queues", args))


def test_nodes_start_from_a_pinned_image_with_encrypted_disks_and_imds_one_hop_away() -> None:
    spec = pool(CORE)["EC2NodeClass", "some-class"].inputs["spec"]
    assert spec["amiSelectorTerms"] == [{"alias": "al2023@v20260930"}]
    assert spec["metadataOptions"] == {"httpEndpoint": "enabled", "httpTokens": "required", "httpPutResponseHopLimit": 1}
    (disk,) = spec["blockDeviceMappings"]
    assert (disk["ebs"]["encrypted"], disk["ebs"]["kmsKeyID"], disk["ebs"]["volumeSize"]) == (True, "arn:disks", "100Gi")
    assert spec["associatePublicIPAddress"] is False


def test_nodes_start_where_the_ground_says_and_carry_its_tags() -> None:
    spec = pool(CORE)["EC2NodeClass", "some-class"].inputs["spec"]
    assert spec["subnetSelectorTerms"] == [{"id": "subnet-a"}, {"id": "subnet-b"}]
    assert spec["securityGroupSelectorTerms"] == [{"id": "sg-nodes"}]
    assert spec["instanceProfile"] == "ai-infra-dev-karpenter-node"
    assert spec["tags"] == {"team": "ml", "environment": "dev", "cost_centre": "42", "Name": "some"}


def test_pool_takes_its_own_class_which_is_there_first() -> None:
    made = pool(CORE)["NodePool", "some"]
    named = made.inputs["spec"]["template"]["spec"]["nodeClassRef"]
    assert named == {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "some"}
    assert "some-class" in made.depends


@pytest.mark.parametrize(
    ("args", "taints", "labels"),
    [
        (CORE, [], {"ai-infra/capacity": "on-demand"}),
        (GPUS, [GPU], {"ai-infra/capacity": "on-demand", "nvidia.com/gpu.present": "true"}),
        (replace(GPUS, capacity="spot"), [GPU, SPOT], {"ai-infra/capacity": "spot", "nvidia.com/gpu.present": "true"}),
    ],
    ids=["core", "gpu", "gpu-spot"],
)
def test_nodes_are_told_apart_by_taints_and_labels(args: NodePoolArgs, taints: list[Any], labels: dict[str, str]) -> None:
    found = template(args)
    assert found["spec"]["taints"] == taints
    assert found["metadata"]["labels"] == labels | {"ai-infra/pool": "some"}


def test_pool_starts_the_types_and_the_capacity_that_it_names() -> None:
    found = {item["key"]: item["values"] for item in template(replace(GPUS, capacity="spot"))["spec"]["requirements"]}
    assert found == {
        "karpenter.sh/capacity-type": ["spot"],
        "kubernetes.io/arch": ["amd64"],
        "kubernetes.io/os": ["linux"],
        "node.kubernetes.io/instance-type": ["g5.2xlarge", "g6.2xlarge"],
    }


def test_pool_has_limits_and_nodes_an_end() -> None:
    assert pool(CORE)["NodePool", "some"].inputs["spec"]["limits"] == {"cpu": "64", "memory": "256Gi"}
    assert pool(GPUS)["NodePool", "some"].inputs["spec"]["limits"]["nvidia.com/gpu"] == "8"
    found = template(GPUS)["spec"]
    assert (found["expireAfter"], found["terminationGracePeriod"]) == ("336h", "12h")


def test_gpu_nodes_are_ended_when_empty_only_and_others_when_their_pods_fit_elsewhere() -> None:
    quiet = {"nodes": "0", "reasons": ["Drifted"], "schedule": "0 6 * * 1-5", "duration": "14h"}
    core, gpus = (pool(args)["NodePool", "some"].inputs["spec"]["disruption"] for args in (CORE, GPUS))
    assert (core["consolidationPolicy"], gpus["consolidationPolicy"]) == ("WhenEmptyOrUnderutilized", "WhenEmpty")
    assert core["budgets"] == [{"nodes": "20%"}, quiet]
    assert gpus["budgets"] == [{"nodes": "1"}, quiet]


def test_spot_without_gpus_is_refused() -> None:
    with pytest.raises(ValueError, match="on-demand"):
        replace(CORE, capacity="spot")
    with pytest.raises(ValueError, match="instance_types"):
        replace(CORE, instance_types=[])


def test_flavours_have_the_taints_and_labels_of_the_nodes_that_they_stand_for() -> None:
    made = queues()
    for flavour, args in (("gpu-spot", replace(GPUS, capacity="spot")), ("gpu-on-demand", GPUS)):
        spec, node = made["ResourceFlavor", flavour].inputs["spec"], template(args)
        assert spec["nodeTaints"] == node["spec"]["taints"]
        assert spec["nodeLabels"].items() <= node["metadata"]["labels"].items()
    assert made["ResourceFlavor", "core"].inputs["spec"] == {}


def test_team_has_a_queue_of_its_name_in_the_jobs_namespace() -> None:
    made = queues()
    local = made["LocalQueue", "vision"]
    assert local.inputs["metadata"] == {"name": "vision", "namespace": "training-dev"}
    assert local.inputs["spec"] == {"clusterQueue": "vision"}
    assert "vision" in local.depends
    assert made["ClusterQueue", "vision"].depends == set(FLAVOURS)


def test_quotas_are_by_flavour_and_gpus_are_borrowed_up_to_a_limit() -> None:
    (group,) = queues()["ClusterQueue", "vision"].inputs["spec"]["resourceGroups"]
    assert [flavour["name"] for flavour in group["flavors"]] == ["core", "gpu-spot", "gpu-on-demand"]
    spot = {item["name"]: item for item in group["flavors"][1]["resources"]}
    assert spot == {
        "cpu": {"name": "cpu", "nominalQuota": "32"},
        "memory": {"name": "memory", "nominalQuota": "128Gi"},
        "nvidia.com/gpu": {"name": "nvidia.com/gpu", "nominalQuota": "4", "borrowingLimit": "4"},
    }
    assert group["flavors"][0]["resources"][2] == {"name": "nvidia.com/gpu", "nominalQuota": "0", "borrowingLimit": "0"}


def test_teams_share_a_cohort_take_back_what_is_theirs_and_admit_their_namespace_only() -> None:
    specs = [queues()["ClusterQueue", team].inputs["spec"] for team in ("vision", "speech")]
    assert {spec["cohortName"] for spec in specs} == {"teams"}
    assert specs[0]["preemption"]["reclaimWithinCohort"] == "Any"
    assert specs[0]["preemption"]["withinClusterQueue"] == "LowerPriority"
    assert specs[0]["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "training-dev"}}


def test_priority_has_its_value_at_the_top() -> None:
    made = queues()["WorkloadPriorityClass", "urgent"].inputs
    assert (made["apiVersion"], made["kind"], made["value"]) == ("kueue.x-k8s.io/v1beta2", "WorkloadPriorityClass", 100)


def test_team_without_a_quota_for_a_flavour_is_refused() -> None:
    with pytest.raises(ValueError, match="vision"):
        replace(QUEUES, teams={"vision": {"core": QUOTAS["core"]}})


def test_a_job_that_never_gets_ready_is_not_requeued_for_ever() -> None:
    made = recorded(lambda: Kueue("kueue", KueueArgs(namespace="kueue-system", version="1", replicas=1)))
    text = made["Release", "kueue"].inputs["values"]["managerConfig"]["controllerManagerConfigYaml"]
    strategy = yaml.safe_load(text)["waitForPodsReady"]["requeuingStrategy"]
    assert (strategy["backoffLimitCount"], strategy["backoffMaxSeconds"]) == (10, 3600)


POOL: dict[str, Any] = {
    "name": "core", "capacity": "on-demand", "instance_types": ["m7i.2xlarge"], "cpu": 64, "memory_gib": 256, "gpus": 0,
    "disk_gib": 100, "expire_hours": 336, "grace_hours": 1,
}  # fmt: skip
GPU_POOL = POOL | {"name": "gpu", "instance_types": ["g5.2xlarge"], "gpus": 4, "disk_gib": 200}
SPOT_POOL = GPU_POOL | {"name": "gpu-spot", "capacity": "spot", "instance_types": ["g5.xlarge", "g6.2xlarge"]}
NONE = {"cpu": 0, "memory_gib": 0}
TEAM: dict[str, Any] = {
    "name": "vision",
    "quotas": {"core": {"cpu": 8, "memory_gib": 32}, "gpu-spot": NONE | {"gpus": 4}, "gpu-on-demand": NONE | {"gpus": 2}},
}
CONFIG: dict[str, Any] = {
    "ami": "al2023@v20260930",
    "quiet": {"schedule": "0 6 * * 1-5", "hours": 14},
    "pools": [POOL, GPU_POOL, SPOT_POOL],
    "teams": [TEAM],
    "priorities": {"research": 10},
}


def test_sound_configuration_is_taken() -> None:
    found = CapacityConfig.model_validate(CONFIG)
    assert [pool.flavour for pool in found.pools] == ["core", "gpu-on-demand", "gpu-spot"]


def _quota(flavour: str, **changes: int) -> dict[str, Any]:
    return TEAM | {"quotas": TEAM["quotas"] | {flavour: TEAM["quotas"][flavour] | changes}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ami": "al2023@latest"}, "ami"),
        ({"pools": [GPU_POOL, SPOT_POOL]}, "none is without GPUs"),
        ({"pools": [POOL, POOL]}, "two have the same name"),
        ({"pools": [POOL | {"capacity": "spot"}]}, "make it on-demand"),
        ({"pools": [POOL, GPU_POOL | {"gpus": 0}]}, "part the two"),
        ({"pools": [POOL, GPU_POOL | {"disk_gib": 30}]}, "50 GiB"),
        ({"pools": [POOL, SPOT_POOL | {"instance_types": ["g5.2xlarge"]}]}, "one market"),
        ({"pools": [POOL | {"instance_types": ["m7g.xlarge"]}]}, "x86_64"),
        ({"teams": [TEAM, TEAM]}, "two have the same name"),
        ({"teams": [_quota("core", cpu=65)]}, "cpu of core add up to 65, and its pools may have 64"),
        ({"teams": [_quota("gpu-spot", gpus=5)]}, "gpus of gpu-spot add up to 5"),
        ({"teams": [_quota("core", gpus=1)]}, "core nodes have no GPUs"),
        ({"teams": [TEAM | {"quotas": {"core": NONE}}]}, "give a quota for each"),
        ({"pools": [POOL | {"instance_types": ["m7i.xlarge"]}]}, "m7i.xlarge of core have no room for .* 4 CPUs and 16 GiB"),
        ({"pools": [POOL, GPU_POOL | {"instance_types": ["g5.xlarge"]}]}, "g5.xlarge of gpu-on-demand have no room"),
        ({"quiet": {"schedule": "at night", "hours": 14}}, "schedule"),
    ],
)  # fmt: skip
def test_configuration_that_would_not_work_is_refused_with_the_remedy(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        CapacityConfig.model_validate(CONFIG | changes)


@pytest.mark.parametrize(
    ("kind", "room"),
    [
        ("m7i.large", False), ("m7i.xlarge", False), ("m7i.2xlarge", True), ("c7i.2xlarge", False), ("c7i.4xlarge", True),
        ("r7i.xlarge", False), ("r7i.2xlarge", True), ("g5.xlarge", False), ("g5.2xlarge", True), ("p4d.24xlarge", True),
        ("t3.medium", False), ("m7i.metal-24xl", True), ("z1d.2xlarge", False),
    ],
)  # fmt: skip
def test_a_type_has_room_for_a_worker_beside_what_its_node_needs(kind: str, room: bool) -> None:
    assert holds_worker(kind) == room
