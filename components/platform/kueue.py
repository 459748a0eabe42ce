"""Kueue: it lets a job start when its team's quota has room for the whole of it. Queues and flavours are in `queues`."""

from dataclasses import dataclass
from typing import Any, Final

import pulumi
import yaml
from pulumi import ResourceOptions

from components.platform.chart import Chart, release, sized

CHART: Final = Chart(name="oci://registry.k8s.io/kueue/charts/kueue")
READY_MINUTES: Final = 20
"""A GPU node has to be found, started and labelled within these; a job that is not ready gives its quota back."""
RETRIES: Final = 10
"""Then Kueue gives a job up, and its run fails: after some nine hours. What fits no node would come and go for ever."""


@dataclass(frozen=True, kw_only=True)
class KueueArgs:
    """replicas: of the manager, whose webhook every Ray job passes."""

    namespace: str
    version: str
    replicas: int


class Kueue(pulumi.ComponentResource):
    def __init__(self, name: str, args: KueueArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Kueue", name, None, opts)
        release(name, CHART, args.version, args.namespace, _values(args), ResourceOptions(parent=self))
        self.register_outputs({})


def _values(args: KueueArgs) -> dict[str, Any]:
    return {
        "enableCertManager": True,
        "enablePrometheus": True,
        "controllerManager": {
            "replicas": args.replicas,
            "podDisruptionBudget": {"enabled": args.replicas > 1, "minAvailable": 1},
            "manager": {"resources": sized("500m", "512Mi")},
        },
        "managerConfig": {"controllerManagerConfigYaml": yaml.safe_dump(_configuration(), sort_keys=False)},
    }


def _configuration() -> dict[str, Any]:
    """The controller's own; text in the chart's values, so all of it is said here."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": ":8081"},
        "metrics": {"bindAddress": ":8443", "enableClusterQueueResources": True},
        "webhook": {"port": 9443},
        "leaderElection": {"leaderElect": True, "resourceName": "c1f6bfd2.kueue.x-k8s.io"},
        "internalCertManagement": {"enable": False},
        "clientConnection": {"qps": 50, "burst": 100},
        # Half of a job's workers hold GPUs and compute nothing: all of them, or the job waits again.
        "waitForPodsReady": {
            "timeout": f"{READY_MINUTES}m",
            "blockAdmission": False,
            "requeuingStrategy": {
                "timestamp": "Eviction",
                "backoffBaseSeconds": 60,
                "backoffMaxSeconds": 3600,
                "backoffLimitCount": RETRIES,
            },
        },
        "integrations": {"frameworks": ["ray.io/rayjob"]},
    }
