"""The KubeRay operator: it makes and ends the Ray cluster of each RayJob, in one namespace."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import ResourceOptions

from components.platform.chart import Chart, release, sized

CHART: Final = Chart(name="kuberay-operator", repository="https://ray-project.github.io/kuberay-helm/")


@dataclass(frozen=True, kw_only=True)
class KubeRayArgs:
    """jobs: the namespace of Ray jobs; replicas: of the operator, one of which leads."""

    namespace: str
    version: str
    jobs: str
    replicas: int


class KubeRay(pulumi.ComponentResource):
    def __init__(self, name: str, args: KubeRayArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:KubeRay", name, None, opts)
        release(name, CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self.register_outputs({})


def _values(args: KubeRayArgs) -> dict[str, Any]:
    return {
        "replicas": args.replicas,
        # Its rights end with the namespace of the jobs.
        "singleNamespaceInstall": True,
        "watchNamespace": [args.jobs],
        "leaderElectionEnabled": True,
        "reconcileConcurrency": 4,
        # About a MiB a Ray pod, by the chart's own account.
        "resources": sized("200m", "1Gi"),
        "podSecurityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}},
    }
