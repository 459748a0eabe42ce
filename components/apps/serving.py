"""What predictors in a cluster start from, and what the API server refuses of them: objects that the serving service states.

InferenceServices, and the list of what may be served, are the API process's own. Not here: KServe, and the predictors' account,
certificate and trust.json.
"""

from dataclasses import dataclass

import pulumi
from pulumi import Resource, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from services.core.kube import Object
from services.serving.inference import MANAGED


@dataclass(frozen=True, kw_only=True)
class ServingArgs:
    """policy, binding: of admission; storage: a ClusterStorageContainer; runtime: a ServingRuntime."""

    policy: Object
    binding: Object
    storage: Object
    runtime: Object


class Serving(pulumi.ComponentResource):
    """The admission policy is in force before there is a runtime: no model is served that it did not see."""

    def __init__(self, name: str, args: ServingArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Serving", name, None, opts)
        self._name = name
        policy = self._object(args.policy)
        binding = self._object(args.binding, policy)
        storage = self._object(args.storage, binding)
        runtime = self._object(args.runtime, storage)
        # KServe makes none, and its deployments are not ours to count: so one predictor at a time, of whichever model.
        PodDisruptionBudget(
            f"{name}-predictors",
            metadata=ObjectMetaArgs(name="predictors", namespace=args.runtime["metadata"]["namespace"], labels=MANAGED),
            spec=PodDisruptionBudgetSpecArgs(max_unavailable=1, selector=LabelSelectorArgs(match_labels=MANAGED)),
            opts=ResourceOptions(parent=self, depends_on=[runtime]),
        )
        self.register_outputs({})

    def _object(self, stated: Object, *first: Resource) -> CustomResource:
        """As a back end states it, and so not through classes of single kinds, which would spell it again."""
        kind, metadata = stated["kind"], stated["metadata"]
        return CustomResource(
            f"{self._name}-{kind}",
            stated["apiVersion"],
            kind,
            metadata=ObjectMetaArgs(name=metadata["name"], namespace=metadata.get("namespace"), labels=metadata["labels"]),
            spec=stated["spec"],
            opts=ResourceOptions(parent=self, depends_on=list(first)),
        )
