"""An object as a back end of ours states it, as a resource of Pulumi."""

from pulumi import ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from services.core.kube import Object


def stated(name: str, item: Object, opts: ResourceOptions) -> CustomResource:
    """Not through classes of single kinds, which would spell it again."""
    metadata = item["metadata"]
    return CustomResource(
        name,
        item["apiVersion"],
        item["kind"],
        metadata=ObjectMetaArgs(name=metadata["name"], namespace=metadata.get("namespace"), labels=metadata["labels"]),
        spec=item["spec"],
        opts=opts,
    )
