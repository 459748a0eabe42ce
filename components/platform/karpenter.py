"""Karpenter's controller: it starts nodes for pods that wait, and drains those that AWS takes back. Not here: its pools."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, ResourceOptions

from components.platform.chart import Chart, release, sized
from components.trust import takes

DEFINITIONS: Final = Chart(name="oci://public.ecr.aws/karpenter/karpenter-crd")
CHART: Final = Chart(name="oci://public.ecr.aws/karpenter/karpenter")


@dataclass(frozen=True, kw_only=True)
class KarpenterArgs:
    """queue_name: of interruptions; role_arn: of the service account `karpenter`."""

    namespace: str
    version: str
    replicas: int
    cluster_name: Input[str]
    cluster_endpoint: Input[str]
    queue_name: Input[str]
    role_arn: Input[str]


class Karpenter(pulumi.ComponentResource):
    """It runs on nodes of the managed core group only: on one of its own it could take itself away."""

    def __init__(self, name: str, args: KarpenterArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Karpenter", name, None, opts)
        child = ResourceOptions(parent=self)
        definitions = release(f"{name}-crd", DEFINITIONS, args.version, args.namespace, {}, child)
        after = ResourceOptions(parent=self, depends_on=[definitions])
        release(name, CHART, args.version, args.namespace, _values(args), after, skip_crds=True)
        self.register_outputs({})


def _values(args: KarpenterArgs) -> dict[str, Any]:
    return {
        "replicas": args.replicas,
        "serviceAccount": {"name": "karpenter", "annotations": takes(args.role_arn)},
        "controller": {"resources": sized("500m", "1Gi")},
        "serviceMonitor": {"enabled": True},
        "settings": {
            "clusterName": args.cluster_name,
            "clusterEndpoint": args.cluster_endpoint,
            "interruptionQueue": args.queue_name,
        },
    }
