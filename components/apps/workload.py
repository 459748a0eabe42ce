"""One service of ours in the cluster: its account, its pods, how it is reached, and what may end it.

A service that owns a database is one process, replaced and never joined by a second one. One without state of its own scales.
Not here: certificates, network policies, and what its account may do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgs, DeploymentStrategyArgs, RollingUpdateDeploymentArgs
from pulumi_kubernetes.autoscaling.v2 import (
    CrossVersionObjectReferenceArgs,
    HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpecArgs,
    MetricSpecArgs,
    MetricTargetArgs,
    ResourceMetricSourceArgs,
)
from pulumi_kubernetes.core.v1 import (
    ConfigMap,
    ContainerArgs,
    LifecycleArgs,
    LifecycleHandlerArgs,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpecArgs,
    PodSpecArgs,
    PodTemplateSpecArgs,
    Service,
    ServiceAccount,
    ServicePortArgs,
    ServiceSpecArgs,
    SleepActionArgs,
    TopologySpreadConstraintArgs,
    VolumeResourceRequirementsArgs,
)
from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget, PodDisruptionBudgetSpecArgs

from components.apps.pod import Container, Disk, Mount, container, pod_security, volumes
from components.trust import takes
from services.core.canonical import canonical
from services.core.digests import sha256

ZONE: Final = "topology.kubernetes.io/zone"
NODE: Final = "kubernetes.io/hostname"
DRAIN_S: Final = 5
"""Seconds in which the cluster learns that a pod takes no more calls."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Replicas by processor use. cpu_percent: of what is requested."""

    minimum: int
    maximum: int
    cpu_percent: int

    def __post_init__(self) -> None:
        if not 2 <= self.minimum <= self.maximum:
            raise ValueError(f"minimum is 2 or more and at most maximum: got {self.minimum} and {self.maximum}")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A disk for the claim of that name. size: quantity."""

    claim: str
    size: str
    storage_class: str


@dataclass(frozen=True, kw_only=True)
class WorkloadArgs:
    """role_arn: of AWS; beside: containers that start before `main` and end after it; token: whether it calls the API server;
    grace_s: from SIGTERM to SIGKILL; files: of a ConfigMap NAME-files, a change of which starts the pod again; scale: none for who
    owns a database."""

    namespace: str
    main: Container
    grace_s: int
    role_arn: Input[str]
    token: bool = False
    beside: Sequence[Container] = ()
    volumes: Sequence[Volume] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    scale: Scale | None = None

    def __post_init__(self) -> None:
        claimed = {mount.source.claim for mount in self.mounts.values() if isinstance(mount.source, Disk)}
        if claimed != {volume.claim for volume in self.volumes}:
            raise ValueError(f"{self.main.name}: volumes and the disks that are mounted differ")
        if self.scale is not None and self.volumes:
            raise ValueError(f"{self.main.name} has a disk, which one pod at a time can have: it cannot scale")

    @property
    def mounts(self) -> Mapping[str, Mount]:
        return {name: mount for one in (self.main, *self.beside) for name, mount in one.mounts.items()}


class Workload(pulumi.ComponentResource):
    """Everything has the service's name, which is its DNS name within the namespace too."""

    def __init__(self, name: str, args: WorkloadArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:apps:Workload", name, None, opts)
        self._name, self._args, self._child = name, args, ResourceOptions(parent=self)
        self._labels = {"app.kubernetes.io/name": name}
        self._meta = ObjectMetaArgs(name=name, namespace=args.namespace, labels=self._all_labels())
        account = ObjectMetaArgs(
            name=name, namespace=args.namespace, labels=self._all_labels(), annotations=takes(args.role_arn)
        )
        ServiceAccount(name, metadata=account, automount_service_account_token=False, opts=self._child)
        for volume in args.volumes:
            self._claim(volume)
        if args.files:
            metadata = ObjectMetaArgs(name=f"{name}-files", namespace=args.namespace, labels=self._all_labels())
            ConfigMap(f"{name}-files", metadata=metadata, data=dict(args.files), opts=self._child)
        self._deployment()
        self._service()
        self._budget()
        if args.scale is not None:
            self._autoscaler(args.scale)
        self.register_outputs({})

    def _all_labels(self) -> dict[str, str]:
        return self._labels | {"app.kubernetes.io/part-of": "ai-infra"}

    def _claim(self, volume: Volume) -> None:
        # It is bound when its pod is scheduled, which Pulumi would wait for before it makes the pod.
        late = {"pulumi.com/skipAwait": "true"}
        metadata = ObjectMetaArgs(
            name=volume.claim, namespace=self._args.namespace, labels=self._all_labels(), annotations=late
        )
        spec = PersistentVolumeClaimSpecArgs(
            # The volume itself refuses a second pod, also while an old one is slow to end.
            access_modes=["ReadWriteOncePod"],
            storage_class_name=volume.storage_class,
            resources=VolumeResourceRequirementsArgs(requests={"storage": volume.size}),
        )
        PersistentVolumeClaim(volume.claim, metadata=metadata, spec=spec, opts=self._child)

    def _deployment(self) -> None:
        scale = self._args.scale
        rolling = RollingUpdateDeploymentArgs(max_unavailable=0, max_surge=1)
        spec = DeploymentSpecArgs(
            # Where an autoscaler says how many, nobody else does.
            replicas=1 if scale is None else None,
            strategy=DeploymentStrategyArgs(type="Recreate")
            if scale is None
            else DeploymentStrategyArgs(type="RollingUpdate", rolling_update=rolling),
            revision_history_limit=5,
            selector=LabelSelectorArgs(match_labels=self._labels),
            template=PodTemplateSpecArgs(metadata=self._pod_meta(), spec=self._pod()),
        )
        Deployment(self._name, metadata=self._meta, spec=spec, opts=self._child)

    def _pod_meta(self) -> ObjectMetaArgs:
        files = self._args.files
        digest = {"ai-infra/files": sha256(canonical(dict(files)))} if files else None
        return ObjectMetaArgs(labels=self._all_labels(), annotations=digest)

    def _pod(self) -> PodSpecArgs:
        args = self._args
        return PodSpecArgs(
            service_account_name=self._name,
            automount_service_account_token=args.token,
            enable_service_links=False,
            termination_grace_period_seconds=args.grace_s,
            security_context=pod_security(),
            topology_spread_constraints=[self._spread(ZONE), self._spread(NODE)],
            init_containers=[_beside(one) for one in args.beside],
            containers=[self._main()],
            volumes=volumes(args.mounts),
        )

    def _main(self) -> ContainerArgs:
        found = container(self._args.main)
        if self._args.scale is not None:
            # The other replicas take the calls meanwhile; alone it would only be away for longer.
            found.lifecycle = LifecycleArgs(pre_stop=LifecycleHandlerArgs(sleep=SleepActionArgs(seconds=DRAIN_S)))
        return found

    def _spread(self, over: str) -> TopologySpreadConstraintArgs:
        return TopologySpreadConstraintArgs(
            max_skew=1,
            topology_key=over,
            when_unsatisfiable="ScheduleAnyway",
            label_selector=LabelSelectorArgs(match_labels=self._labels),
        )

    def _service(self) -> None:
        ports = [
            ServicePortArgs(name=name, port=port, target_port=name, protocol="TCP") for name, port in self._args.main.ports.items()
        ]
        spec = ServiceSpecArgs(type="ClusterIP", selector=self._labels, ports=ports)
        Service(self._name, metadata=self._meta, spec=spec, opts=self._child)

    def _budget(self) -> None:
        """One pod at a time: of several, the others serve; a single one must not keep a node from being drained."""
        spec = PodDisruptionBudgetSpecArgs(
            max_unavailable=1,
            selector=LabelSelectorArgs(match_labels=self._labels),
            unhealthy_pod_eviction_policy="AlwaysAllow",
        )
        PodDisruptionBudget(self._name, metadata=self._meta, spec=spec, opts=self._child)

    def _autoscaler(self, scale: Scale) -> None:
        target = MetricTargetArgs(type="Utilization", average_utilization=scale.cpu_percent)
        spec = HorizontalPodAutoscalerSpecArgs(
            scale_target_ref=CrossVersionObjectReferenceArgs(api_version="apps/v1", kind="Deployment", name=self._name),
            min_replicas=scale.minimum,
            max_replicas=scale.maximum,
            metrics=[MetricSpecArgs(type="Resource", resource=ResourceMetricSourceArgs(name="cpu", target=target))],
        )
        HorizontalPodAutoscaler(self._name, metadata=self._meta, spec=spec, opts=self._child)


def _beside(wanted: Container) -> ContainerArgs:
    found = container(wanted)
    # What makes an initial container one that runs beside the others.
    found.restart_policy = "Always"
    return found
