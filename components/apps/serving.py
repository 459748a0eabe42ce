"""What predictors in a cluster start from: objects that the serving service states.

InferenceServices, and the list of what may be served, are the API process's own. Not here: KServe, what admission refuses, and the
predictors' account, certificate and trust.json.
"""

from dataclasses import dataclass

import pulumi
from pulumi import ResourceOptions
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from components.apps.stated import stated
from services.core.kube import Object
from services.serving.inference import MANAGED


@dataclass(frozen=True, kw_only=True)
class ServingArgs:
    """storage: a ClusterStorageContainer; runtime: a ServingRuntime."""

    storage: Object
    runtime: Object


class Serving(pulumi.ComponentResource):
    """To be made after the admission policies: no model is served that they did not see."""

    def __init__(self, name: str, args: ServingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Serving", name, None, opts)
        storage = stated(f"{name}-storage", args.storage, ResourceOptions(parent=self))
        runtime = stated(f"{name}-runtime", args.runtime, ResourceOptions(parent=self, depends_on=[storage]))
        # KServe makes none, and its deployments are not ours to count: so one predictor at a time, of whichever model. One that is
        # not ready may always go, or a single broken model would keep every node of predictors from being drained.
        PodDisruptionBudget(
            f"{name}-predictors",
            metadata=ObjectMetaArgs(name="predictors", namespace=args.runtime["metadata"]["namespace"], labels=MANAGED),
            spec=PodDisruptionBudgetSpecArgs(
                max_unavailable=1,
                selector=LabelSelectorArgs(match_labels=MANAGED),
                unhealthy_pod_eviction_policy="AlwaysAllow",
            ),
            opts=ResourceOptions(parent=self, depends_on=[runtime]),
        )
        self.register_outputs({})
