"""A file system that nodes of every zone mount, reached through one access point: whoever asks works there as one user.

Not here: what is in it, and its backups, of which there are none: it holds what is under way.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_aws import ec2, efs

from components.client_group import Reached, client_group

NFS: Final = 2049
USER: Final = 65532
"""That of our images."""


@dataclass(frozen=True, kw_only=True)
class SharedFilesArgs:
    """subnet_ids: by zone; client_security_group_id: the only ones that connect; idle_days: until a file is stored cheaper."""

    environment: str
    vpc_id: Input[str]
    subnet_ids: Mapping[str, Input[str]]
    client_security_group_id: Input[str]
    key_arn: Input[str]
    idle_days: int = 30

    def __post_init__(self) -> None:
        if self.idle_days not in (1, 7, 14, 30, 60, 90, 180, 270, 365):
            raise ValueError(f"idle_days must be 1, 7, 14, 30, 60, 90, 180, 270 or 365, got {self.idle_days}: EFS takes no others")


class SharedFiles(pulumi.ComponentResource):
    """Encrypted, also on its way: its policy admits nobody who comes without TLS, or past the access point."""

    volume: Output[str]
    """As the driver names it: file system and access point."""

    def __init__(self, name: str, args: SharedFilesArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("ai-infra:state:SharedFiles", name, None, opts)
        self._args, self._name = args, name
        self._child = ResourceOptions(parent=self)
        self._physical = f"ai-infra-{args.environment}-{name}"
        files, group = self._file_system(), self._security_group()
        for zone, subnet in args.subnet_ids.items():
            efs.MountTarget(
                f"{name}-{zone}", file_system_id=files.id, subnet_id=subnet, security_groups=[group.id], opts=self._child
            )
        point = self._access_point(files)
        policy = Output.json_dumps(_policy(files.arn, point.arn))
        efs.FileSystemPolicy(name, file_system_id=files.id, policy=policy, opts=self._child)
        self.volume = Output.concat(files.id, "::", point.id)
        self.register_outputs({"volume": self.volume})

    def _file_system(self) -> efs.FileSystem:
        colder = efs.FileSystemLifecyclePolicyArgs(transition_to_ia=f"AFTER_{self._args.idle_days}_DAYS")
        return efs.FileSystem(
            self._name,
            encrypted=True,
            kms_key_id=self._args.key_arn,
            # Grows with what is asked: jobs read all at once, and then nothing for days.
            throughput_mode="elastic",
            lifecycle_policies=[colder],
            tags={"Name": self._physical},
            opts=ResourceOptions(parent=self, protect=self._args.environment == "prod"),
        )

    def _access_point(self, files: efs.FileSystem) -> efs.AccessPoint:
        return efs.AccessPoint(
            self._name,
            file_system_id=files.id,
            posix_user=efs.AccessPointPosixUserArgs(uid=USER, gid=USER),
            root_directory=efs.AccessPointRootDirectoryArgs(
                path=f"/{self._name}",
                creation_info=efs.AccessPointRootDirectoryCreationInfoArgs(owner_uid=USER, owner_gid=USER, permissions="0750"),
            ),
            tags={"Name": self._physical},
            opts=self._child,
        )

    def _security_group(self) -> ec2.SecurityGroup:
        args = Reached(
            vpc_id=self._args.vpc_id,
            client_security_group_id=self._args.client_security_group_id,
            port=NFS,
            protocol="NFS",
        )
        return client_group(self._name, self._physical, args, self._child)


def _policy(files_arn: Input[str], point_arn: Input[str]) -> dict[str, Any]:
    """NFS clients have no identity: the policy asks how they come. Root of a client is no root here, which nobody is given."""
    allowed = {
        "Sid": "ThroughTheAccessPoint",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
        "Resource": files_arn,
        "Condition": {
            "Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"},
            "StringEquals": {"elasticfilesystem:AccessPointArn": point_arn},
        },
    }
    plain = {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": {"AWS": "*"},
        "Action": "elasticfilesystem:*",
        "Resource": files_arn,
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [allowed, plain]}
