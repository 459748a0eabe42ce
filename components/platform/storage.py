"""Where volumes of pods come from: encrypted disks, made in the zone of the pod that is the first to want one."""

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, ResourceOptions
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs
from pulumi_kubernetes.storage.v1 import StorageClass

CLASS: Final = "encrypted"


@dataclass(frozen=True, kw_only=True)
class StorageArgs:
    """key_arn: of the disks."""

    key_arn: Input[str]


class Storage(pulumi.ComponentResource):
    """The default class. Volumes outlive their claims: what must be gone is deleted by hand."""

    def __init__(self, name: str, args: StorageArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:platform:Storage", name, None, opts)
        StorageClass(
            f"{name}-{CLASS}",
            metadata=ObjectMetaArgs(name=CLASS, annotations={"storageclass.kubernetes.io/is-default-class": "true"}),
            provisioner="ebs.csi.aws.com",
            parameters={"type": "gp3", "encrypted": "true", "kmsKeyId": args.key_arn},
            reclaim_policy="Retain",
            volume_binding_mode="WaitForFirstConsumer",
            allow_volume_expansion=True,
            opts=ResourceOptions(parent=self),
        )
        self.register_outputs({})
