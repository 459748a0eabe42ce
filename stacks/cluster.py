"""What the layers within the cluster share: how they reach its API, and how they read the layers before them."""

from typing import Any

from pulumi import Output, Resource, ResourceOptions, StackReference
from pulumi_kubernetes import Provider

from stacks.config import StackConfig
from stacks.outputs import GroundOutputs


def reference(config: StackConfig, layer: str) -> StackReference:
    """To an earlier layer of the same environment."""
    return StackReference(f"organization/ai-infra/{config.environment}-{layer}")


def after(opts: ResourceOptions, *first: Resource) -> ResourceOptions:
    return ResourceOptions.merge(opts, ResourceOptions(depends_on=list(first)))


def cluster_provider(config: StackConfig, ground: GroundOutputs) -> Provider:
    """In the name of whoever deploys; credentials are asked for when they are used, and stand in no state."""
    kubeconfig = Output.json_dumps(_kubeconfig(config.region, ground))
    # Told apart by ARN: a new certificate authority, or another way to get a token, replaces nothing.
    return Provider("cluster", kubeconfig=kubeconfig, cluster_identifier=ground.cluster_arn, context="cluster")


def _kubeconfig(region: str, ground: GroundOutputs) -> dict[str, Any]:
    token = ["eks", "get-token", "--output", "json", "--region", region, "--cluster-name", ground.cluster_name]
    execute = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": token,
        "interactiveMode": "Never",
    }
    server = {"server": ground.cluster_endpoint, "certificate-authority-data": ground.cluster_certificate_authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": server}],
        "users": [{"name": "deployer", "user": {"exec": execute}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "deployer"}}],
        "current-context": "cluster",
    }
