"""NVIDIA's GPU operator: device plugin, feature discovery and DCGM exporter on every node with GPUs.

Driver and container toolkit are in the nodes' image (AL2023 NVIDIA): the operator installs neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import ResourceOptions

from components.platform.chart import Chart, release, sized

CHART: Final = Chart(name="gpu-operator", repository="https://helm.ngc.nvidia.com/nvidia")


@dataclass(frozen=True, kw_only=True)
class GpuOperatorArgs:
    """taints: of GPU nodes of any pool."""

    namespace: str
    version: str
    taints: Sequence[Mapping[str, str]]

    def __post_init__(self) -> None:
        if not self.taints:
            raise ValueError("taints is empty: GPU nodes have some, and without a toleration they offer no GPU")


class GpuOperator(pulumi.ComponentResource):
    def __init__(self, name: str, args: GpuOperatorArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:GpuOperator", name, None, opts)
        release(name, CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self.register_outputs({})


def _values(args: GpuOperatorArgs) -> dict[str, Any]:
    tolerations = [{"key": taint["key"], "operator": "Exists", "effect": taint["effect"]} for taint in args.taints]
    return {
        "driver": {"enabled": False},
        "toolkit": {"enabled": False},
        # These are all that run on GPU nodes: plugin, exporter, feature discovery and validator.
        "daemonsets": {"tolerations": tolerations, "priorityClassName": "system-node-critical"},
        # A chart of its own within this one, which the list above does not reach: it labels the nodes that the others look for.
        "node-feature-discovery": {"worker": {"tolerations": tolerations}},
        "dcgmExporter": {"enabled": True, "serviceMonitor": {"enabled": True, "interval": "15s"}},
        "operator": {"resources": sized("200m", "350Mi")},
    }
