"""The controllers of capacity and of jobs, each with what it works on."""

from pulumi import ResourceOptions

from components.platform.gpu_operator import GpuOperator, GpuOperatorArgs
from components.platform.karpenter import Karpenter, KarpenterArgs
from components.platform.kuberay import KubeRay, KubeRayArgs
from components.platform.kueue import Kueue, KueueArgs
from components.platform.taints import GPU, SPOT
from stacks.cluster import after
from stacks.config import PlatformStack
from stacks.namespaces import GPU_OPERATOR, KARPENTER, KUBERAY, KUEUE, training
from stacks.outputs import GroundOutputs
from stacks.platform_capacity import node_pools, queues


def capacity(config: PlatformStack, ground: GroundOutputs, opts: ResourceOptions) -> None:
    """Nodes, and what makes their GPUs usable."""
    wanted = config.platform
    karpenter = KarpenterArgs(
        namespace=KARPENTER,
        version=wanted.charts["karpenter"],
        replicas=wanted.replicas,
        cluster_name=ground.cluster_name,
        cluster_endpoint=ground.cluster_endpoint,
        queue_name=ground.karpenter_queue_name,
        role_arn=ground.role_arns["karpenter-controller"],
    )
    node_pools(config, ground, after(opts, Karpenter("karpenter", karpenter, opts)))
    gpus = GpuOperatorArgs(namespace=GPU_OPERATOR, version=wanted.charts["gpu-operator"], taints=(GPU, SPOT))
    GpuOperator("gpu-operator", gpus, opts)


def jobs(config: PlatformStack, opts: ResourceOptions) -> None:
    """opts: after cert-manager, which signs for Kueue's webhooks."""
    wanted = config.platform
    # First: Kueue watches Ray jobs once their definitions are there.
    ray = KubeRayArgs(
        namespace=KUBERAY, version=wanted.charts["kuberay"], jobs=training(config.environment), replicas=wanted.replicas
    )
    kuberay = KubeRay("kuberay", ray, opts)
    args = KueueArgs(namespace=KUEUE, version=wanted.charts["kueue"], replicas=wanted.replicas)
    queues(config, after(opts, Kueue("kueue", args, after(opts, kuberay))))
