"""One volume of the shared file system, claimed in several namespaces: each gets a claim of its own over the same files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.core.v1 import (
    CSIPersistentVolumeSourceArgs,
    ObjectReferenceArgs,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpecArgs,
    PersistentVolumeSpecArgs,
    VolumeResourceRequirementsArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

SIZE: Final = {"storage": "1Ti"}
"""Asked for because Kubernetes asks: the file system has no size."""


@dataclass(frozen=True, kw_only=True)
class SharedVolumeArgs:
    """claim: its name in each namespace; handle: file system and access point, as the driver `efs.csi.aws.com` takes them."""

    claim: str
    namespaces: Sequence[str]
    handle: Input[str]


class SharedVolume(pulumi.ComponentResource):
    """Removing it removes no file."""

    def __init__(self, name: str, args: SharedVolumeArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:SharedVolume", name, None, opts)
        self._args, self._child = args, ResourceOptions(parent=self)
        for namespace in args.namespaces:
            self._claimed(namespace)
        self.register_outputs({})

    def _claimed(self, namespace: str) -> None:
        name, args = f"{self._args.claim}-{namespace}", self._args
        volume = PersistentVolume(
            name,
            metadata=ObjectMetaArgs(name=name),
            spec=PersistentVolumeSpecArgs(
                access_modes=["ReadWriteMany"],
                capacity=SIZE,
                persistent_volume_reclaim_policy="Retain",
                # Nobody else's claim takes it, and no class makes another.
                storage_class_name="",
                claim_ref=ObjectReferenceArgs(kind="PersistentVolumeClaim", namespace=namespace, name=args.claim),
                csi=CSIPersistentVolumeSourceArgs(driver="efs.csi.aws.com", volume_handle=args.handle),
                mount_options=["tls"],
            ),
            opts=self._child,
        )
        PersistentVolumeClaim(
            name,
            metadata=ObjectMetaArgs(name=args.claim, namespace=namespace),
            spec=PersistentVolumeClaimSpecArgs(
                access_modes=["ReadWriteMany"],
                resources=VolumeResourceRequirementsArgs(requests=SIZE),
                storage_class_name="",
                volume_name=name,
            ),
            opts=ResourceOptions(parent=self, depends_on=[volume]),
        )
