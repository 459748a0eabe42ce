"""Who may train with how much: Kueue's flavours of nodes, a queue for each team, and priorities.

A team's quota is its own whenever it wants it; what it leaves idle the other teams borrow, and give back by preemption.
Not here: Kueue itself, and the namespace of the jobs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from components.platform.taints import CAPACITY, GPU, HAS_GPU, SPOT

API: Final = "kueue.x-k8s.io/v1beta2"
COHORT: Final = "teams"
CORE: Final = "core"
FLAVOURS: Final[Mapping[str, Mapping[str, Any]]] = {
    CORE: {},
    "gpu-spot": {"nodeLabels": {**HAS_GPU, CAPACITY: "spot"}, "nodeTaints": [GPU, SPOT]},
    "gpu-on-demand": {"nodeLabels": {**HAS_GPU, CAPACITY: "on-demand"}, "nodeTaints": [GPU]},
}
"""In the order in which Kueue tries them. What does not tolerate the taints of a flavour passes it by: the head of a Ray cluster
ends up at `core`, workers that may not be on spot at on-demand. `core` has no labels: whatever has no GPU will do."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """borrow_gpus: beyond gpus, while others leave them idle; processors and memory are borrowed without a limit."""

    cpu: int
    memory_gib: int
    gpus: int = 0
    borrow_gpus: int = 0


@dataclass(frozen=True, kw_only=True)
class QueuesArgs:
    """namespace: of the jobs; teams: name → quotas by flavour; priorities: name → value, the greater one preempts the lesser."""

    namespace: str
    teams: Mapping[str, Mapping[str, Quota]]
    priorities: Mapping[str, int]

    def __post_init__(self) -> None:
        wrong = sorted(team for team, quotas in self.teams.items() if quotas.keys() != FLAVOURS.keys())
        if wrong:
            raise ValueError(f"quotas of {', '.join(wrong)}: give one for each of {', '.join(FLAVOURS)}")


class Queues(pulumi.ComponentResource):
    """A job names its team's LocalQueue, which has the team's name, and a WorkloadPriorityClass."""

    def __init__(self, name: str, args: QueuesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Queues", name, None, opts)
        self._child = ResourceOptions(parent=self)
        flavours = [self._object("ResourceFlavor", flavour, spec) for flavour, spec in FLAVOURS.items()]
        for team, quotas in args.teams.items():
            # A queue without its flavours or its ClusterQueue admits nothing, and says so in its status only.
            queue = self._object("ClusterQueue", team, _cluster_queue(args.namespace, quotas), after=flavours)
            self._object("LocalQueue", team, {"clusterQueue": team}, namespace=args.namespace, after=[queue])
        for priority, value in args.priorities.items():
            _Priority(priority, value, self._child)
        self.register_outputs({})

    def _object(
        self, kind: str, name: str, spec: Mapping[str, Any], *, namespace: str | None = None, after: Sequence[pulumi.Resource] = ()
    ) -> CustomResource:
        opts = ResourceOptions(parent=self, depends_on=list(after))
        return CustomResource(name, API, kind, spec=dict(spec), metadata=ObjectMetaArgs(name=name, namespace=namespace), opts=opts)


class _Priority(pulumi.CustomResource):
    """The one kind here whose value is no spec, which pulumi_kubernetes' CustomResource would leave out."""

    def __init__(self, name: str, value: int, opts: ResourceOptions) -> None:
        kind = "WorkloadPriorityClass"
        given = {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "value": value}
        super().__init__(f"kubernetes:{API}:{kind}", name, given, opts)


def _cluster_queue(namespace: str, quotas: Mapping[str, Quota]) -> dict[str, Any]:
    flavours = [{"name": flavour, "resources": _resources(quotas[flavour])} for flavour in FLAVOURS]
    return {
        "cohortName": COHORT,
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "resourceGroups": [{"coveredResources": ["cpu", "memory", "nvidia.com/gpu"], "flavors": flavours}],
        # A team's own quota in the next flavour comes before another team's in this one.
        "flavorFungibility": {"whenCanBorrow": "TryNextFlavor", "whenCanPreempt": "TryNextFlavor"},
        "preemption": {
            "withinClusterQueue": "LowerPriority",
            "reclaimWithinCohort": "Any",
            "borrowWithinCohort": {"policy": "Never"},
        },
        "queueingStrategy": "BestEffortFIFO",
    }


def _resources(quota: Quota) -> list[dict[str, Any]]:
    return [
        {"name": "cpu", "nominalQuota": str(quota.cpu)},
        {"name": "memory", "nominalQuota": f"{quota.memory_gib}Gi"},
        {"name": "nvidia.com/gpu", "nominalQuota": str(quota.gpus), "borrowingLimit": str(quota.borrow_gpus)},
    ]
